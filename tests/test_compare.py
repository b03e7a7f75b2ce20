"""What another state of the registry answers, held against asking both states instant by instant."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from hotpix_registry.catalogue.engine import reading
from hotpix_registry.domain import Facts
from hotpix_registry.errors import HotpixError, UnreadableFrame, UsageError
from hotpix_registry.instants import iso, parse_date
from hotpix_registry.registry import Registry
from hotpix_registry.registry.compare import (
    DatesChange,
    changed_dates,
    changed_frames,
    diff_masks,
    is_mask_number,
)
from hotpix_registry.registry.science_frames import ScienceFrame, question_of
from hotpix_registry.registry.view import View
from tests import small_camera
from tests.story import CAMERA, SHAPE, import_pixels, register_camera


def answered(registry: Registry, instant_us: int, temperature_c: float, at: int) -> tuple[int | None, str]:
    """The mask of an instant and whether it was revoked, by asking for it."""
    try:
        answer = registry.mask(
            CAMERA, iso(instant_us) or "", temperature_c=temperature_c, allow_revoked=True, as_of=at
        ).answer
    except HotpixError:
        return None, "none"
    return answer.mask_id, answer.status


def told(changes: list[DatesChange], instant_us: int, set_point: str) -> tuple[object, ...] | None:
    """What `diff` says of an instant: (before, its status, after, its status)."""
    for change in changes:
        start, end = parse_date(change.valid_from), change.valid_to
        assert isinstance(start, int)
        ends = None if end is None else parse_date(end)
        assert ends is None or isinstance(ends, int)
        if set_point in change.series and start <= instant_us and (ends is None or instant_us < ends):
            return change.before, change.before_status, change.after, change.after_status
    return None


def a_life(registry: Registry, folder: Path, seed: int) -> list[int]:
    """Things that happen to the masks of two series; returns the transactions after each."""
    rng = random.Random(seed)
    register_camera(registry, folder)
    masks: list[int] = []
    numbers = [registry.log()[-1]["tx"]]
    for step in range(14):
        act = rng.choice(("import", "import", "certify", "revoke", "lift", "decertify", "event"))
        night = f"20{rng.randint(19, 23)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        try:
            if act == "import" or not masks:
                point_c = rng.choice((-10.0, -20.0))
                masks.append(import_pixels(registry, folder, night, {step}, temperature_c=point_c))
            elif act == "certify":
                registry.certify(rng.choice(masks), valid_from=night, supersede=True)
            elif act == "revoke":
                registry.revoke(rng.choice(masks), reason="light")
            elif act == "lift":
                registry.lift_revocation(rng.choice(masks), reason="it was none")
            elif act == "decertify":
                registry.decertify(rng.choice(masks), restore_previous=True, reason="wrong")
            else:
                registry.add_event(CAMERA, night, "warmup", trim=True)
        except HotpixError:
            continue
        numbers.append(registry.log()[-1]["tx"])
    return numbers


@pytest.mark.parametrize("seed", [1, 2])
def test_diff_agrees_with_asking_each_instant_in_both_states(
    registry: Registry, tmp_path: Path, seed: int
) -> None:
    numbers = a_life(registry, tmp_path, seed)
    edges = {parse_date(row["valid_from"]) for row in registry.history(camera=CAMERA)}
    edges |= {parse_date(row["valid_to"]) for row in registry.history(camera=CAMERA) if row["valid_to"]}
    instants = {edge + step for edge in edges if isinstance(edge, int) for step in (-1, 0)}
    instants |= {parse_date(f"{year}-05-05T00:00:00Z") for year in (1975, 2018, 2022, 2099)}  # type: ignore[arg-type]
    states = [*numbers[:: max(1, len(numbers) // 4)], numbers[-1]]
    seen = {
        (instant, point, at): answered(registry, instant, point, at)
        for instant in instants
        for point in (-10.0, -20.0)
        for at in set(states)
    }
    assert len(instants) > 10
    for then in states:
        for now in states:
            changes = registry.diff_states(f"tx{then}", f"tx{now}", camera=CAMERA)
            for (instant, point, at), before in seen.items():
                if at != then:
                    continue
                after = seen[instant, point, now]
                expected = None if before == after else (*before, *after)
                assert told(changes, instant, f"at {point:g} °C") == expected, (iso(instant), then, now)


def test_affected_frames_are_those_whose_answers_differ(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    first = import_pixels(registry, tmp_path, "2021-03-04", {1})
    since = registry.log()[-1]["tx"]
    second = import_pixels(registry, tmp_path, "2022-03-04", {2})
    third = import_pixels(registry, tmp_path, "2023-03-04", {3})
    registry.revoke(third, reason="light leak")
    frames = {
        "before.fits": ("2021-01-01T00:00:00", None),
        "same.fits": ("2021-06-01T00:00:00", None),
        "second.fits": ("2022-06-01T00:00:00", (first, "certified", second, "certified")),
        "revoked.fits": ("2023-06-01T00:00:00", (first, "certified", third, "revoked")),
    }
    paths = [
        small_camera.write_frame(tmp_path / "science" / name, start=start, header={"IMAGETYP": "Light Frame"})
        for name, (start, _) in frames.items()
    ]
    small_camera.write_frame(tmp_path / "science" / "dark.fits", start="2022-06-01T01:00:00")
    (tmp_path / "science" / "notes.txt").write_text("cloudy")
    (tmp_path / "science" / "broken.fits").write_text("nothing")
    affected = registry.affected(f"tx{since}", [str(tmp_path / "science")])
    found = {
        Path(change.path).name: (change.before, change.before_status, change.after, change.after_status)
        for change in affected.frames
    }
    assert found == {name: expected for name, (_, expected) in frames.items() if expected}
    assert affected.frames_read == len(paths) + 1
    assert [Path(path).name for path, _ in affected.rejected] == ["broken.fits"]
    assert [(change.before, change.after) for change in affected.dates] == [(first, second), (first, third)]


def test_a_camera_that_was_not_known_then_had_no_mask(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    mask_id = import_pixels(registry, tmp_path, "2021-03-04", {1})
    light = small_camera.write_frame(
        tmp_path / "light.fits", start="2021-06-01T00:00:00", header={"IMAGETYP": "Light Frame"}
    )
    (change,) = registry.affected("1970-01-01T00:00:00Z", [light]).frames
    assert (change.before, change.before_status) == (None, "unknown-camera")
    assert change.after == mask_id


def test_a_renamed_camera_answers_for_its_old_frames(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    since = registry.log()[-1]["tx"]
    registry.rename_camera(CAMERA, "dome-east")
    light = small_camera.write_frame(
        tmp_path / "light.fits", start="2021-06-01T00:00:00", header={"IMAGETYP": "Light Frame"}
    )
    assert registry.affected(f"tx{since}", [light]).frames == ()
    assert registry.diff_states(f"tx{since}", "now") == []


# --- questions of frames ------------------------------------------------------------------


def light(**values: object) -> Facts:
    facts = {"kind": None, "frame_type": "Light Frame", "shape": SHAPE, "instrument": "Smallcam 48"}
    facts |= {"start_us": 1_622_505_600_000_000, "exptime_s": 300.0, "set_temp_c": -10.0, "ccd_temp_c": -9.6}
    return Facts(**facts | values)  # type: ignore[arg-type]


def test_a_frame_asks_by_its_header(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    with reading(registry._engine) as connection:
        view = View(connection)
        question = question_of(view, light())
        assert (question.camera, question.date) == (CAMERA, "2021-06-01T00:00:00Z")
        assert (question.temperature_c, question.exposure_s) == (-10.0, 300.0)
        assert question.configuration == {"binning": (1, 1)}
        assert question_of(view, light(set_temp_c=None)).temperature_c == -9.6
        assert question_of(view, light(start_precision_s=86_400.0)).date == "2021-06-01"
        with pytest.raises(UnreadableFrame, match="no registered camera"):
            question_of(view, light(instrument="QHY600M"))
        with pytest.raises(UnreadableFrame, match="does not say which camera"):
            question_of(view, light(instrument=None))
        with pytest.raises(UnreadableFrame, match="no date of observation"):
            question_of(view, light(start_us=None))
        assert question_of(view, light(instrument=None), CAMERA).camera == CAMERA


def test_a_frame_that_was_not_read_is_rejected_with_its_reason(registry: Registry) -> None:
    unread = ScienceFrame(path="a.fits", error=UnreadableFrame("It is empty."))
    with reading(registry._engine) as connection:
        view = View(connection)
        assert changed_frames(view, view, [unread]) == ([], [("a.fits", "It is empty.")])


def test_nothing_differs_from_itself(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    with reading(registry._engine) as connection:
        assert changed_dates(View(connection), View(connection)) == []


# --- two masks ----------------------------------------------------------------------------


def test_two_masks_differ_as_their_sets_of_pixels_do(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    a, b = {1, 2, 3, 40}, {3, 40, 41, 42, 43}
    first, second = (
        import_pixels(registry, tmp_path, night, pixels)
        for night, pixels in (("2021-03-04", a), ("2022-03-04", b))
    )
    compared = registry.diff_masks(first, second)
    flags = {flag.name: (flag.vanished, flag.new, flag.common) for flag in compared.flags}
    assert flags["MANUAL"] == flags["BAD"] == (len(a - b), len(b - a), len(a & b)) == (2, 3, 2)
    assert flags["HOT"] == (0, 0, 0)
    assert compared.presets[0].name == "default"
    assert compared.jaccard == len(a & b) / len(a | b)
    assert compared.notes == ()
    assert registry.draw_diff(compared).startswith(b"\x89PNG")


def test_masks_of_another_series_are_compared_and_that_is_said(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    first = import_pixels(registry, tmp_path, "2021-03-04", {1})
    second = import_pixels(registry, tmp_path, "2021-03-04", {1}, temperature_c=-20.0)
    assert "different series" in registry.diff_masks(first, second).notes[0]


def test_masks_of_another_shape_cannot_be_compared() -> None:
    planes = np.zeros((6, 8), np.uint16), np.zeros((5, 5), np.uint16)
    with pytest.raises(UsageError, match="Mask 3 has 8 x 6 pixels and mask 5 5 x 5"):
        diff_masks({"mask_id": 3}, planes[0], {"mask_id": 5}, planes[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [("2026C", "Did you mean the release 2026B"), ("tx99", "no transaction 99"), ("soon", "no time")],
)
def test_a_state_that_is_none_is_refused(registry: Registry, tmp_path: Path, text: str, words: str) -> None:
    register_camera(registry, tmp_path)
    registry.create_release("2026B")
    with pytest.raises(UsageError, match=words):
        registry.diff_states(text, "now")
    assert registry.diff_states("2026B", "now") == []


def test_days_are_no_masks() -> None:
    assert is_mask_number("17")
    assert not is_mask_number("20180822")
    assert not is_mask_number("tx17")
