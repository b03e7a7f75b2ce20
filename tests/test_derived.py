"""Masks and defects from people: imported, edited, followed through campaigns, kept on a list."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hotpix_registry import Registry
from hotpix_registry.domain import DQ, Defect, Recipe, Rule
from hotpix_registry.errors import NoMask, NothingToBuild, UnknownId, UnreadableFrame, UsageError
from hotpix_registry.fits import maskfile
from hotpix_registry.science.persist import persist
from hotpix_registry.simulate import SimulatedCamera, write_night

EVENING = datetime(2018, 8, 23, 3, 0, tzinfo=UTC)
SIZE = 128


def take(folder: Path, *, days: int = 0, first_index: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    write_night(
        folder,
        SimulatedCamera.create((SIZE, SIZE), seed=5),
        start=EVENING + timedelta(days=days),
        biases=3,
        darks={90: 4, 1000: 4},
        first_index=first_index,
    )
    return folder


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return take(tmp_path_factory.mktemp("night"))


@pytest.fixture
def aspen(registry: Registry, night: Path) -> Registry:
    """A registry that holds one night of aspen."""
    registry.ingest(night)
    return registry


def diagonal() -> NDArray[np.bool_]:
    return np.eye(SIZE, dtype=bool)


def test_a_foreign_mask_becomes_a_version_valid_from_its_night(aspen: Registry, tmp_path: Path) -> None:
    aspen.build("aspen")
    fits.PrimaryHDU(diagonal().astype(np.uint8) * 3).writeto(tmp_path / "bpm.fits")
    result = aspen.import_mask(tmp_path / "bpm.fits", "aspen", valid_from="2019-01-10", temperature_c=-20)
    assert (result.version, result.status, result.flagged) == (2, "certified", SIZE)
    before = aspen.mask("aspen", "2019-01-09")
    after = aspen.mask("aspen", "2019-01-10")
    assert before.answer.version == 1
    assert (after.answer.version, after.answer.rule, after.answer.exposures_tested_s) == (2, "import", None)
    assert np.array_equal(after.array, diagonal())
    content = maskfile.decode(after.path.read_bytes())
    assert [(i.role, len(i.sha256)) for i in content.inputs] == [("import", 64)]


def test_importing_the_same_again_changes_nothing(aspen: Registry, tmp_path: Path) -> None:
    np.save(tmp_path / "bpm.npy", diagonal())
    first = aspen.import_mask(tmp_path / "bpm.npy", "aspen", valid_from="2019-01-10", temperature_c=-20)
    again = aspen.import_mask(tmp_path / "bpm.npy", "aspen", valid_from="2019-01-10", temperature_c=-20)
    assert (first.new, again.new, again.mask_id) == (True, False, first.mask_id)


def test_one_bit_of_a_foreign_mask_can_be_taken(aspen: Registry, tmp_path: Path) -> None:
    plane = np.zeros((SIZE, SIZE), np.int16)
    plane[3, 4], plane[5, 6] = 4, 2
    fits.PrimaryHDU(plane).writeto(tmp_path / "dq.fits")
    aspen.import_mask(tmp_path / "dq.fits", "aspen", valid_from="2019-01-10", temperature_c=-20, bit=2)
    assert np.argwhere(aspen.mask("aspen", "2019-01-10").array).tolist() == [[3, 4]]


def test_an_import_needs_a_set_point_a_night_and_a_mask(aspen: Registry, tmp_path: Path) -> None:
    np.save(tmp_path / "bpm.npy", diagonal())
    (tmp_path / "notes.txt").write_text("no mask")
    with pytest.raises(UsageError, match="--temperature"):
        aspen.import_mask(tmp_path / "bpm.npy", "aspen", valid_from="2019-01-10")
    with pytest.raises(UsageError, match="first night"):
        aspen.import_mask(tmp_path / "bpm.npy", "aspen", valid_from="2019-01-10T00:00:00Z", temperature_c=-20)
    with pytest.raises(UnreadableFrame):
        aspen.import_mask(tmp_path / "notes.txt", "aspen", valid_from="2019-01-10", temperature_c=-20)
    assert aspen.masks() == []


def test_a_foreign_mask_answers_for_the_configuration_that_it_is_for(aspen: Registry, tmp_path: Path) -> None:
    aspen.build("aspen")
    camera = {"gain_setting": 100.0, "offset_setting": 50.0, "row_order": "TOP-DOWN"}
    for name, size, more in (
        ("whole", SIZE, {}),
        ("binned", SIZE // 2, {"binning": (2, 2)}),
        ("part", 32, {"sub_frame": (8, 16, 32, 32)}),
    ):
        np.save(tmp_path / f"{name}.npy", np.eye(size, dtype=bool))
        result = aspen.import_mask(
            tmp_path / f"{name}.npy",
            "aspen",
            valid_from="2019-01-10",
            temperature_c=-20,
            configuration=camera | more,
        )
        assert (result.version, result.status, result.flagged) == (1, "certified", size)
        wanted = {"gain_setting": 100.0, "binning": (1, 1), "sub_frame": None} | more
        answer = aspen.mask("aspen", "2019-02-01", configuration=wanted).answer
        assert (answer.mask_id, answer.shape) == (result.mask_id, (size, size))
    with pytest.raises(NoMask):
        aspen.mask("aspen", "2019-02-01", configuration={"gain_setting": 200.0, "binning": (1, 1)})


def test_a_list_of_boxes_takes_the_shape_of_its_sub_frame(aspen: Registry, tmp_path: Path) -> None:
    (tmp_path / "boxes.ecsv").write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n"
        + "".join(f"# - {{name: {name}, datatype: int64}}\n" for name in ("x0", "y0", "width", "height"))
        + "x0 y0 width height\n3 0 1 24\n"
    )
    taken_in = {
        "valid_from": "2019-01-10",
        "temperature_c": -20,
        "configuration": {"sub_frame": (8, 16, 32, 24)},
    }
    with pytest.raises(UsageError, match="another than the sub-frame's"):
        aspen.import_mask(tmp_path / "boxes.ecsv", "aspen", shape=(24, 24), **taken_in)
    result = aspen.import_mask(tmp_path / "boxes.ecsv", "aspen", **taken_in)
    assert (result.pixels, result.flagged) == (32 * 24, 24)


def test_the_real_list_of_defects_is_imported_box_by_box(aspen: Registry, real_data: Path) -> None:
    aspen.import_mask(
        real_data / "defects" / "20130115t0130.ecsv",
        "aspen",
        valid_from="2013-01-15",
        temperature_c=-20,
        shape=(4096, 2048),
    )
    mask = aspen.mask("aspen", "2016-05-01").array
    assert mask.shape == (4096, 2048)
    assert mask[:15, :].all()


def test_defects_set_by_hand_enter_later_builds_as_manual(aspen: Registry) -> None:
    (plain,) = aspen.build("aspen")
    aspen.add_defects(
        "aspen",
        [
            Defect(x0=7, y0=3, width=1, height=1, reason="dust"),
            Defect(x0=50, y0=0, width=2, height=SIZE, reason="column", last_night="2018-12-31"),
            Defect(x0=9, y0=9, width=1, height=1, reason="later", first_night="2019-01-01"),
        ],
        reason="seen in flats",
    )
    (with_defects,) = aspen.build("aspen")
    dq = aspen.mask("aspen", "2018-08-22").dq
    manual = (dq & DQ.MANUAL.value) != 0
    assert with_defects.version == plain.version + 1
    assert manual[3, 7]
    assert manual[:, 50:52].all()
    assert not manual[9, 9]
    assert int(manual.sum()) == 1 + 2 * SIZE
    assert ((dq[manual] & DQ.BAD.value) != 0).all()


def test_a_defect_taken_off_the_list_leaves_masks_as_they_were(aspen: Registry) -> None:
    (defect_id,) = aspen.add_defects(
        "aspen", [Defect(x0=7, y0=3, width=1, height=1, reason="dust")], reason="dust"
    )
    aspen.build("aspen")
    aspen.remove_defects("aspen", [defect_id], reason="cleaned")
    assert aspen.defects("aspen") == []
    assert aspen.mask("aspen", "2018-08-22").array[3, 7]
    with pytest.raises(UnknownId, match=f"no defect {defect_id}"):
        aspen.remove_defects("aspen", [defect_id], reason="again")


def test_a_defect_outside_the_sensor_stops_the_build(aspen: Registry) -> None:
    aspen.add_defects("aspen", [Defect(x0=SIZE, y0=0, width=1, height=1, reason="typo")], reason="typo")
    with pytest.raises(NothingToBuild, match="does not lie within the 128 x 128 pixels"):
        aspen.build("aspen")
    assert aspen.masks() == []


@pytest.mark.parametrize(
    ("box", "binned"),
    [((7, 3, 1, 1), (3, 4, 1, 2)), ((0, 0, 4, 4), (0, 2, 0, 2)), ((1, 1, 2, 2), (0, 2, 0, 2))],
)
def test_a_defect_covers_every_binned_pixel_that_it_touches(
    box: tuple[int, int, int, int], binned: tuple[int, int, int, int]
) -> None:
    x0, y0, width, height = box
    rows, columns = Defect(x0=x0, y0=y0, width=width, height=height, reason="").binned((2, 2))
    assert (columns.start, columns.stop, rows.start, rows.stop) == binned


def test_a_mask_is_edited_into_a_version_of_its_own(aspen: Registry) -> None:
    (built,) = aspen.build("aspen")
    y, x = map(int, np.argwhere(aspen.mask_array(built.mask_id))[0])
    good = tuple(map(int, np.argwhere(~aspen.mask_array(built.mask_id))[0][::-1]))
    edited = aspen.edit_mask(built.mask_id, mask=[(good[0], good[1])], unmask=[(x, y)], reason="by eye")
    assert (edited.version, edited.flagged) == (2, built.flagged)
    array = aspen.mask("aspen", "2018-08-22").array
    assert array[good[1], good[0]]
    assert not array[y, x]
    assert np.sum(array != aspen.mask_array(built.mask_id)) == 2
    with pytest.raises(UsageError, match="outside"):
        aspen.edit_mask(built.mask_id, mask=[(SIZE, 0)], reason="typo")


def test_no_masking_is_a_certified_mask_that_says_so(aspen: Registry) -> None:
    (built,) = aspen.build("aspen", recipe=Recipe(rule=Rule.NONE))
    mask = aspen.mask("aspen", "2018-08-22")
    assert (built.status, mask.answer.rule) == ("certified", "none")
    assert not mask.array.any()


@pytest.mark.parametrize("preset", ["all", "none", "HOT|UNSTABLE", "~WARM", "matched", "evidence"])
def test_a_preset_masks_the_same_in_python_and_in_the_file(aspen: Registry, preset: str) -> None:
    aspen.build("aspen")
    mask = aspen.mask("aspen", "2018-08-22", preset=preset)
    assert f"p={preset}" in mask.answer.receipt
    assert np.array_equal(fits.getdata(mask.path).astype(bool), mask.array)
    if preset == "all":
        assert np.array_equal(mask.array, mask.dq != 0)
    if preset == "none":
        assert not mask.array.any()


def test_pixels_are_followed_through_campaigns(registry: Registry, night: Path, tmp_path: Path) -> None:
    registry.ingest(
        [
            night,
            take(tmp_path / "b", days=60, first_index=50),
            take(tmp_path / "c", days=120, first_index=100),
        ]
    )
    results = registry.build("aspen", recipe=Recipe(rule=Rule.PERSIST))
    assert [r.status for r in results] == ["certified"] * 3
    evidence = [row for row in registry.masks() if row["rule"] == "evidence"]
    assert [row["status"] for row in evidence] == ["candidate"] * 3
    planes = [registry.mask_dq(row["mask_id"]) for row in evidence]
    last = registry.mask("aspen", "2018-12-25")
    assert last.answer.newer_candidates == ()
    assert last.answer.rule == "persist"
    assert np.array_equal(last.array, slow_persist([(p & 1) != 0 for p in planes]))
    roles = [i.role for i in maskfile.decode(last.path.read_bytes()).inputs]
    assert roles == ["mask"] * 3


def slow_persist(history: list[NDArray[np.bool_]], misses: int = 2) -> NDArray[np.bool_]:
    """The same rule pixel by pixel."""
    result = np.zeros(history[0].shape, bool)
    for index in np.ndindex(result.shape):
        on, missed = False, 0
        for found in history:
            if found[index]:
                on, missed = True, 0
            else:
                missed += 1
                if missed >= misses:
                    on = False
        result[index] = on
    return result


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 6), st.just(2), st.just(3))), st.integers(1, 3))
def test_a_pixel_goes_off_after_as_many_misses_in_a_row(history: NDArray[np.bool_], misses: int) -> None:
    planes = [plane.astype(np.uint16) for plane in history]
    state = (persist(planes, misses=misses) & DQ.BAD.value) != 0
    assert np.array_equal(state, slow_persist(list(history), misses))
