"""A mask reaches other programs with the pixels it has here, and theirs come in."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.domain import DQ, Configuration
from hotpix_registry.errors import UnreadableFrame, UsageError
from hotpix_registry.fits.exports import FORMATS, boxes_of, export, preset_mask
from hotpix_registry.fits.foreign import read_foreign_mask
from hotpix_registry.fits.maskfile import MaskContent, digest, encode
from hotpix_registry.fits.presets import PRESETS, flag_names, flags_of

DEFECTS = Path(__file__).parents[3] / "shared" / "data" / "defects"

PLANES = hnp.arrays(
    np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 1023)
)
MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


def mask_file(dq: np.ndarray) -> bytes:
    return encode(
        MaskContent(
            dq=dq,
            camera="aspen",
            configuration=Configuration(),
            build_key="k",
            algorithm_version="1",
            recipe={},
            first_night="2018-08-22",
        )
    )


def dq_with(**pixels: DQ) -> np.ndarray:
    """A plane of 4 rows and 6 columns; `x5y3=DQ.HOT` flags the pixel at column 5, row 3."""
    dq = np.zeros((4, 6), np.uint16)
    for place, flag in pixels.items():
        x, y = re.fullmatch(r"x(\d)y(\d)", place).groups()  # type: ignore[union-attr]
        dq[int(y), int(x)] = flag.value
    return dq


# --- presets ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "flags"),
    [
        ("default", DQ.BAD),
        ("none", DQ(0)),
        ("all", DQ(1023)),
        ("evidence", DQ.DARK_SATURATED | DQ.DARK_NONLINEAR | DQ.UNSTABLE | DQ.STUCK | DQ.COLUMN | DQ.MANUAL),
        ("HOT|UNSTABLE", DQ.HOT | DQ.UNSTABLE),
        (" hot | Unstable ", DQ.HOT | DQ.UNSTABLE),
        ("~WARM", DQ(1023) ^ DQ.WARM),
        ("~(WARM|PEDESTAL)", DQ(1023) ^ DQ.WARM ^ DQ.PEDESTAL),
        ("~WARM & ~PEDESTAL", DQ(1023) ^ DQ.WARM ^ DQ.PEDESTAL),
        ("~~WARM", DQ.WARM),
        ("evidence|HOT", PRESETS["evidence"] | DQ.HOT),
        ("HOT|WARM&~HOT", DQ.HOT | DQ.WARM),
        ("(HOT|WARM)&~HOT", DQ.WARM),
    ],
)
def test_a_preset_or_an_expression_names_flags(preset: str, flags: DQ) -> None:
    assert flags_of(preset) == flags


@pytest.mark.parametrize(
    ("preset", "sentence"),
    [
        ("HTO", "'HTO' is neither a flag nor a preset. Did you mean HOT?"),
        ("unstabel", "'unstabel' is neither a flag nor a preset. Did you mean UNSTABLE?"),
        ("defualt", "'defualt' is neither a flag nor a preset. Did you mean default?"),
        ("STUCK|NONLINEAR", "'NONLINEAR' is neither a flag nor a preset. Did you mean DARK_NONLINEAR?"),
        ("xyzzy", "'xyzzy' is neither a flag nor a preset. Use one of default, evidence, matched,"),
        ("HOT|", "'HOT|' cannot be understood: a flag is missing at its end."),
        ("", "'' cannot be understood: a flag is missing at its end."),
        ("|HOT", "'|HOT' cannot be understood: a flag is missing before '|'."),
        ("(HOT", "a parenthesis is not closed"),
        ("HOT)", "')' is not expected there"),
        ("HOT WARM", "'WARM' is not expected there"),
        ("~" * 5000 + "HOT", "it has more than 100 parts"),
        ("(" * 5000, "it has more than 100 parts"),
        ("HOT,WARM", "',' is not expected there"),
        ("HOT&WARM", "it names no flag at all; a pixel is masked for any one of the flags, joined with |."),
    ],
)
def test_a_typo_is_answered_with_what_may_have_been_meant(preset: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        flags_of(preset)
    assert sentence in str(caught.value)


@given(
    dq=PLANES,
    preset=st.sampled_from(["default", "evidence", "matched", "all", "none", "HOT|UNSTABLE", "~WARM"]),
)
def test_a_pixel_is_masked_for_any_of_the_flags(dq: np.ndarray, preset: str) -> None:
    named = {flag for flag in DQ if flag in flags_of(preset)}
    slow = [[any(value & flag for flag in named) for value in row] for row in dq.tolist()]
    mask = preset_mask(dq, preset)
    assert mask.dtype == np.bool_
    assert mask.tolist() == slow


def test_matched_takes_what_saturates_at_the_exposure_of_the_science_frame() -> None:
    dq = dq_with(x0y0=DQ.DARK_SATURATED, x1y0=DQ.STUCK, x2y0=DQ.HOT, x3y0=DQ.DARK_NONLINEAR)
    assert np.argwhere(preset_mask(dq, "matched")).tolist() == [[0, 0], [0, 1]]
    saturated_at = np.zeros((4, 6), bool)
    saturated_at[0, 2] = True
    assert np.argwhere(preset_mask(dq, "matched", saturated_at=saturated_at)).tolist() == [[0, 1], [0, 2]]
    assert not preset_mask(dq, "default", saturated_at=saturated_at).any()


def test_flags_of_a_pixel_have_names() -> None:
    assert flag_names(5) == "BAD|HOT"
    assert flag_names(0) == ""


# --- exports ----------------------------------------------------------------


@given(mask=MASKS)
def test_boxes_cover_the_masked_pixels_exactly_once(mask: np.ndarray) -> None:
    covered = np.zeros(mask.shape, int)
    for x0, y0, width, height in boxes_of(mask).tolist():
        covered[y0 : y0 + height, x0 : x0 + width] += 1
    np.testing.assert_array_equal(covered, mask.astype(int))


def test_a_column_and_a_block_are_one_box_each() -> None:
    mask = np.zeros((50, 40), bool)
    mask[:, 7] = True
    mask[10:20, 20:35] = True
    mask[0, 0] = True
    assert sorted(boxes_of(mask).tolist()) == [[0, 0, 1, 1], [7, 0, 1, 50], [20, 10, 15, 10]]


@given(dq=PLANES, preset=st.sampled_from(["default", "all", "none", "HOT|UNSTABLE"]))
@settings(max_examples=25, deadline=None)
def test_formats_that_can_be_read_back_bring_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, dq: np.ndarray, preset: str
) -> None:
    folder = tmp_path_factory.mktemp("exports")
    for file_format in ("fits", "npy", "lsst"):
        exported = export(mask_file(dq), file_format, preset)
        path = folder / f"mask{exported.suffix}"
        path.write_bytes(exported.content)
        np.testing.assert_array_equal(read_foreign_mask(path, shape=dq.shape), preset_mask(dq, preset))


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_derived_file_has_its_own_digest_and_names_its_source(file_format: str) -> None:
    source = mask_file(dq_with(x5y3=DQ.BAD))
    exported = export(source, file_format)
    assert exported.sha256 == hashlib.sha256(exported.content).hexdigest()
    assert exported.source_sha256 == digest(source)
    text = exported.content.decode("latin-1")
    pixels = np.zeros((4, 6), np.uint8)
    pixels[3, 5] = 1
    if file_format != "npy":
        for sha256 in (digest(source), hashlib.sha256(pixels.tobytes()).hexdigest()):
            assert all(part in text for part in (sha256[:32], sha256[32:]))
    assert export(source, file_format).content == exported.content


def test_plain_fits_is_read_by_ccddata_and_passes_its_checksum(tmp_path: Path) -> None:
    exported = export(mask_file(dq_with(x5y3=DQ.BAD, x1y0=DQ.WARM)), "fits", "all")
    (tmp_path / "mask.fits").write_bytes(exported.content)
    assert np.argwhere(CCDData.read(tmp_path / "mask.fits").data.astype(bool)).tolist() == [[0, 1], [3, 5]]
    with fits.open(io.BytesIO(exported.content), checksum=True) as hdus:
        assert hdus[0].header["PRESET"] == "all"


def test_the_pixel_list_names_place_and_flags() -> None:
    exported = export(mask_file(dq_with(x5y3=DQ.BAD | DQ.HOT, x1y0=DQ.WARM)), "ecsv", "default")
    table = Table.read(exported.content.decode(), format="ascii.ecsv")
    assert [tuple(row) for row in table] == [(5, 3, 5, "BAD|HOT")]
    assert table.meta["CAMERA"] == "aspen"


def test_ds9_regions_count_pixels_from_one() -> None:
    exported = export(mask_file(dq_with(x0y0=DQ.BAD, x5y3=DQ.BAD, x5y2=DQ.BAD)), "ds9")
    boxes = [line for line in exported.content.decode().splitlines() if line.startswith("box")]
    assert boxes == ["box(1,1,1,1,0)", "box(6,3.5,1,2,0)"]


def test_the_list_for_siril_counts_rows_from_the_last() -> None:
    exported = export(mask_file(dq_with(x0y0=DQ.BAD, x5y3=DQ.BAD)), "siril")
    lines = exported.content.decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["P 0 3 H", "P 5 0 H"]
    assert all(len(line) < 63 for line in lines)


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="Use one of fits, npy, ecsv, ds9, lsst, siril"):
        export(mask_file(dq_with()), "jpeg")
    with pytest.raises(UnreadableFrame):
        export(b"nothing", "npy")
