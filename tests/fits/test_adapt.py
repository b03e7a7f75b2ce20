"""A mask is laid over a frame as its pixels lie on the detector, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotpix_registry.domain import DQ, Configuration, Facts
from hotpix_registry.errors import GeometryMismatch, NoMask
from hotpix_registry.fits.adapt import Geometry, adapt, plan_adaptation
from hotpix_registry.fits.exports import adapted_file
from hotpix_registry.fits.maskfile import MaskContent, decode, digest, encode, read_raw_section

FULL = Geometry(shape=(6, 8))


def facts(shape: tuple[int, int], **more: Any) -> Facts:
    return Facts(kind=None, frame_type="light", shape=shape, **more)


def content(shape: tuple[int, int] = (6, 8), **more: Any) -> MaskContent:
    numbers = {
        "camera": "aspen",
        "configuration": Configuration(),
        "build_key": "k",
        "algorithm_version": "1",
        "recipe": {},
    }
    return MaskContent(dq=np.zeros(shape, np.uint16), **(numbers | more))


def moved(mask: Geometry, frame: Geometry, x: int, y: int, *, allow_binning: bool = False) -> list[list[int]]:
    """Where a mask's one flagged pixel (x, y) lies in the frame: a list of [x, y]."""
    dq = np.zeros(mask.shape, np.uint16)
    dq[y, x] = DQ.HOT.value
    adapted = adapt(dq, plan_adaptation(mask, frame, allow_binning=allow_binning))
    assert (adapted.shape, adapted.dtype) == (frame.shape, np.uint16)
    return [[int(x), int(y)] for y, x in np.argwhere(adapted)]


def refused(mask: Geometry, frame: Geometry, *words: str, allow_binning: bool = False) -> GeometryMismatch:
    with pytest.raises(GeometryMismatch) as caught:
        plan_adaptation(mask, frame, allow_binning=allow_binning)
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))
    assert any(c.verdict == "refused" for c in caught.value.criteria)
    return caught.value


# --- single rules -------------------------------------------------------------


def test_a_mask_of_the_frames_own_geometry_is_taken_as_it_is() -> None:
    plan = plan_adaptation(FULL, FULL)
    assert plan.steps == ()
    assert {c.verdict for c in plan.criteria} == {"agrees"}
    assert [c.criterion for c in plan.criteria] == [
        "binning", "row order", "part of the detector", "Bayer pattern",
    ]  # fmt: skip


def test_a_sub_frame_is_cut_out_where_its_origin_is_known() -> None:
    window = Geometry(shape=(3, 4), sub_frame=(2, 1, 4, 3))
    assert moved(FULL, window, 3, 2) == [[1, 1]]
    assert moved(FULL, window, 6, 2) == []
    refused(
        FULL, replace(window, sub_frame=None), "wanted 4 x 3 pixels, found 8 x 6 pixels", "neither header"
    )
    refused(FULL, replace(window, sub_frame=(5, 1, 4, 3)), "the frame reaches beyond the mask in x")


def test_a_sub_frame_in_the_corner_is_cut_out_when_its_header_says_so() -> None:
    stated = facts((3, 4), sources={"sub_frame": "XORGSUBF, YORGSUBF"})
    assert moved(FULL, Geometry.of_frame(stated), 3, 2) == [[3, 2]]
    refused(FULL, Geometry.of_frame(facts((3, 4))), "neither header")


def test_a_mask_of_a_sub_frame_serves_what_lies_within_it() -> None:
    mask = Geometry(shape=(4, 5), sub_frame=(2, 1, 5, 4))
    assert moved(mask, Geometry(shape=(2, 3), sub_frame=(3, 2, 3, 2)), 1, 1) == [[0, 0]]
    assert moved(mask, mask, 4, 3) == [[4, 3]]
    refused(mask, FULL, "the origin of the frame's sub-frame is not known")
    refused(mask, Geometry(shape=(2, 3), sub_frame=(1, 2, 3, 2)), "beyond the mask in x")


def test_rows_are_flipped_where_both_orders_are_known_and_differ() -> None:
    up, down = (replace(FULL, row_order=order) for order in ("BOTTOM-UP", "TOP-DOWN"))
    assert moved(up, up, 3, 1) == [[3, 1]]
    assert moved(up, down, 3, 1) == [[3, 4]]
    assert plan_adaptation(up, down).sentences == ("The order of the rows was reversed.",)


def test_one_row_order_alone_is_refused() -> None:
    down = replace(FULL, row_order="TOP-DOWN")
    refused(FULL, down, "row order: wanted TOP-DOWN, found not given")
    refused(down, FULL, "row order: wanted not given, found TOP-DOWN")


@pytest.mark.parametrize(
    ("darks", "light", "is_taken"),
    [
        (None, None, True),
        ("MaxIm DL Version 4.07", "MaxIm DL Version 6.27 200613", True),
        ("MaxIm DL Version 4.07", "N.I.N.A. 3.1.2.9001 (x64)", False),
        ("SharpCap v4.0.9268.0, 64 bit", None, False),
        (None, "SharpCap v4.0.9268.0, 64 bit", False),
    ],
)
def test_where_neither_row_order_is_known_the_program_decides(
    darks: str | None, light: str | None, is_taken: bool
) -> None:
    mask, frame = replace(FULL, program=darks), replace(FULL, program=light)
    if is_taken:
        assert moved(mask, frame, 3, 1) == [[3, 1]]
    else:
        refused(mask, frame, "other programs store rows otherwise")


def test_the_origin_of_a_sub_frame_counts_in_the_order_of_its_own_rows() -> None:
    up = replace(FULL, row_order="BOTTOM-UP")
    window = Geometry(shape=(2, 4), sub_frame=(2, 1, 4, 2), row_order="TOP-DOWN")
    # row 4 from below is row 1 from above, which is the window's first
    assert moved(up, window, 2, 4) == [[0, 0]]
    sub = replace(window, row_order="BOTTOM-UP")
    refused(sub, window, "without the detector's height")
    corner = replace(sub, sub_frame=(0, 0, 4, 2))
    refused(corner, replace(window, sub_frame=(0, 0, 4, 2)), "without the detector's height")
    refused(replace(up, raw_section="[1:8, 1:6]"), window, "counts from the trimmed edge is not known")


def test_a_trimmed_frame_takes_a_trimmed_mask_as_it_is() -> None:
    mask = replace(FULL, raw_section="[3:10, 1:6]")
    assert moved(mask, FULL, 3, 1) == [[3, 1]]
    again = Geometry.of_frame(facts((6, 8), trim_section="[3:10,1:6]", overscan_section="[11:14,1:6]"))
    assert again.raw_section == "[3:10,1:6]"
    assert moved(mask, again, 3, 1) == [[3, 1]]


def test_a_raw_frame_gets_the_mask_where_its_section_says_with_overscan_unmasked() -> None:
    mask = replace(FULL, raw_section="[3:10, :]")
    assert moved(mask, Geometry(shape=(6, 14)), 3, 1) == [[5, 1]]
    stated = Geometry.of_frame(facts((6, 14), trim_section="[3:10, 1:6]"))
    assert stated.image_section == "[3:10, 1:6]"
    assert moved(mask, stated, 7, 5) == [[9, 5]]
    everything = adapt(np.ones((6, 8), np.uint16), plan_adaptation(mask, stated))
    assert everything.sum(axis=0).tolist() == [0, 0, 6, 6, 6, 6, 6, 6, 6, 6, 0, 0, 0, 0]
    refused(mask, Geometry(shape=(6, 9)), "does not hold the mask's section")
    refused(mask, Geometry(shape=(7, 14)), "the mask has 6 pixels in y, the frame 7")


def test_a_raw_frame_whose_own_trim_section_reaches_beyond_the_mask_is_refused() -> None:
    mask = replace(FULL, raw_section="[3:10, :]")
    wider = Geometry.of_frame(facts((6, 14), trim_section="[2:10, 1:6]"))
    refused(mask, wider, "of the part that sees light the mask covers x 2 to 9 only")


def test_a_mask_of_the_raw_frame_is_cut_for_a_trimmed_one() -> None:
    mask = Geometry(shape=(6, 14))
    trimmed = Geometry.of_frame(facts((6, 8), trim_section="[3:10, 1:6]"))
    assert moved(mask, trimmed, 5, 1) == [[3, 1]]
    corner = facts((6, 8), trim_section="[1:8, :]", overscan_section="[9:14, :]")
    assert moved(mask, Geometry.of_frame(corner), 5, 1) == [[5, 1]]
    # the section alone may as well be that of a window in its own pixels
    refused(mask, Geometry.of_frame(facts((6, 8), trim_section="[1:8, :]")), "neither header")


def test_the_profiles_section_goes_before_the_headers() -> None:
    frame = facts((6, 14), trim_section="[1:8, 1:6]")
    assert Geometry.of_frame(frame, trim_section="[3:10, :]").image_section == "[3:10, :]"


def test_a_section_that_cannot_be_the_frames_says_nothing() -> None:
    for section in ("[1:100, 1:200]", "[8:1, 1:6]", "nonsense"):
        frame = Geometry.of_frame(facts((6, 8), trim_section=section))
        assert (frame.raw_section, frame.image_section) == (None, None)


def test_binning_must_be_asked_for_and_joins_blocks() -> None:
    frame = Geometry(shape=(3, 4), binning=(2, 2))
    refused(FULL, frame, "binning: wanted 2 x 2, found 1 x 1", "`--adapt bin`")
    assert moved(FULL, frame, 3, 5, allow_binning=True) == [[1, 2]]
    plane = np.array([[1, 2], [4, 8]], np.uint16)
    plan = plan_adaptation(Geometry(shape=(2, 2)), Geometry(shape=(1, 1), binning=(2, 2)), allow_binning=True)
    assert adapt(plane, plan).tolist() == [[15]]


def test_what_a_division_leaves_over_is_dropped() -> None:
    mask = Geometry(shape=(7, 8))
    frame = Geometry(shape=(2, 4), binning=(2, 3))
    assert moved(mask, frame, 7, 5, allow_binning=True) == [[3, 1]]
    assert moved(mask, frame, 7, 6, allow_binning=True) == []
    flipped = replace(frame, row_order="TOP-DOWN")
    upright = replace(mask, row_order="BOTTOM-UP")
    refused(upright, flipped, "where blocks of 3 flipped rows begin", allow_binning=True)


def test_a_flipped_raw_frame_that_may_be_a_window_is_refused() -> None:
    mask = replace(FULL, raw_section="[1:8, 1:6]", row_order="BOTTOM-UP")
    frame = Geometry(shape=(7, 10), row_order="TOP-DOWN")
    assert moved(mask, frame, 0, 0) == [[0, 6]]
    refused(mask, replace(frame, sub_frame=(0, 0, 10, 7)), "has all raw rows is not known")


def test_a_binned_frame_whose_prescan_is_smaller_than_a_block_may_be_raw_or_trimmed() -> None:
    frame = Geometry(shape=(6, 2), binning=(4, 1))
    narrow, wide = (replace(FULL, raw_section=section) for section in ("[3:10, :]", "[5:12, :]"))
    refused(narrow, frame, "whether the binned frame was trimmed is not known", allow_binning=True)
    assert moved(wide, frame, 4, 0, allow_binning=True) == [[1, 0]]


def test_flipped_blocks_of_a_trimmed_mask_begin_nobody_knows_where() -> None:
    mask = replace(FULL, raw_section="[1:8, 1:6]", row_order="BOTTOM-UP")
    frame = Geometry(shape=(3, 4), binning=(2, 2), row_order="TOP-DOWN")
    refused(mask, frame, "where blocks of 2 flipped rows begin", allow_binning=True)
    assert moved(replace(mask, raw_section="[1:8, :]"), frame, 0, 0, allow_binning=True) == [[0, 2]]


def test_only_an_unbinned_mask_is_binned_and_no_mask_is_ever_unbinned() -> None:
    binned = Geometry(shape=(3, 4), binning=(2, 2))
    refused(binned, FULL, "only an unbinned mask can be binned", allow_binning=True)
    refused(binned, Geometry(shape=(1, 2), binning=(4, 4)), "only an unbinned mask", allow_binning=True)
    wrong_size = Geometry(shape=(2, 4), binning=(2, 2))
    refused(FULL, wrong_size, "neither header", allow_binning=True)


def test_a_binned_sub_frame_counts_in_binned_pixels() -> None:
    window = Geometry(shape=(2, 2), binning=(2, 2), sub_frame=(1, 1, 2, 2))
    assert moved(FULL, window, 3, 3, allow_binning=True) == [[0, 0]]
    assert moved(FULL, window, 1, 1, allow_binning=True) == []


def test_a_binned_raw_frame_gets_the_mask_binned_in_its_place() -> None:
    mask = replace(FULL, raw_section="[3:10, :]")
    frame = Geometry(shape=(3, 7), binning=(2, 2))
    assert moved(mask, frame, 0, 0, allow_binning=True) == [[1, 0]]
    assert moved(mask, frame, 7, 5, allow_binning=True) == [[4, 2]]


def test_a_sub_frame_of_a_trimmed_detector_is_refused_unless_the_trim_begins_in_the_corner() -> None:
    window = Geometry(shape=(3, 4), sub_frame=(2, 1, 4, 3))
    assert moved(replace(FULL, raw_section="[1:8, 1:6]"), window, 3, 2) == [[1, 1]]
    refused(replace(FULL, raw_section="[3:10, 1:6]"), window, "counts from the trimmed edge is not known")
    with_overscan = replace(window, image_section="[1:3, :]")
    refused(FULL, with_overscan, "a sub-frame with trimmed edges or overscan")


def test_bayer_patterns_must_agree_or_differ_as_the_pixels_moved() -> None:
    mask = replace(FULL, bayer_pattern="RGGB", row_order="BOTTOM-UP")
    assert moved(mask, replace(mask, bayer_pattern=None), 3, 1) == [[3, 1]]
    flipped = replace(mask, row_order="TOP-DOWN", bayer_pattern="GBRG")
    assert moved(mask, flipped, 3, 1) == [[3, 4]]
    assert moved(mask, replace(flipped, bayer_pattern="RGGB"), 3, 1) == [[3, 4]]
    refused(mask, replace(mask, bayer_pattern="BGGR"), "the colours lie otherwise")
    window = replace(mask, shape=(2, 2), sub_frame=(1, 0, 2, 2), bayer_pattern="GRBG")
    assert moved(mask, window, 1, 0) == [[0, 0]]
    by_colour = replace(mask, shape=(3, 4), binning=(2, 2))
    refused(mask, by_colour, "was binned by colour", allow_binning=True)


def test_a_refusal_lists_every_part_and_is_a_missing_mask() -> None:
    mask = replace(FULL, binning=(2, 2), row_order="TOP-DOWN", bayer_pattern="RGGB")
    error = refused(mask, replace(FULL, bayer_pattern="BGGR"), "binning", "row order", "Bayer pattern")
    assert isinstance(error, NoMask)
    assert (error.code, error.exit_code, error.http_status) == ("geometry", 3, 409)
    assert [(c.criterion, c.wanted, c.found, c.verdict) for c in error.criteria] == [
        ("binning", "1 x 1", "2 x 2", "refused"),
        ("row order", "not given", "TOP-DOWN", "refused"),
        ("Bayer pattern", "BGGR", "RGGB", "refused"),
    ]


def test_a_plane_of_another_shape_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="planned for a mask"):
        adapt(np.zeros((8, 6), np.uint16), plan_adaptation(FULL, FULL))


def test_the_geometry_of_a_mask_file_is_what_it_says() -> None:
    configuration = Configuration(
        binning=(2, 2), sub_frame=(4, 2, 8, 6), row_order="TOP-DOWN", bayer_pattern="RGGB"
    )
    stored = decode(encode(content(configuration=configuration, trim_section="[3:10, :]")))
    section = read_raw_section(encode(stored))
    assert section == stored.trim_section
    assert Geometry.of_mask(stored.configuration, stored.dq.shape, section, program="SharpCap") == Geometry(
        shape=(6, 8),
        binning=(2, 2),
        sub_frame=(4, 2, 8, 6),
        row_order="TOP-DOWN",
        bayer_pattern="RGGB",
        raw_section="[3:10, :]",
        program="SharpCap",
    )


# --- against the detector -----------------------------------------------------


@dataclass(frozen=True)
class Readout:
    """How an exposure was read from a detector of raw (height, width), whose row 0 is its lowest."""

    height: int
    width: int
    top_down: bool
    bin_x: int = 1
    bin_y: int = 1
    window: tuple[int, int, int, int] | None = None
    """x0, y0, nx, ny as the program counts: binned, in the order of its rows"""
    trim: tuple[int, int, int, int] | None = None
    """x0, y0, nx, ny of what was kept afterwards, in the pixels of the file"""
    light: tuple[int, int, int, int] | None = None
    """x0, y0, nx, ny of what sees light by the header of a raw frame"""

    def pixels(self) -> list[list[set[tuple[int, int]]]]:
        """The detector's pixels (x, y) in each pixel of the file."""
        rows = range(self.height)[::-1] if self.top_down else range(self.height)
        image = []
        for y in range(self.height // self.bin_y):
            line = []
            for x in range(self.width // self.bin_x):
                block = set()
                for dy in range(self.bin_y):
                    for dx in range(self.bin_x):
                        block.add((x * self.bin_x + dx, rows[y * self.bin_y + dy]))
                line.append(block)
            image.append(line)
        for part in (self.window, self.trim):
            if part is not None:
                x0, y0, nx, ny = part
                image = [line[x0 : x0 + nx] for line in image[y0 : y0 + ny]]
        return image

    def geometry(self) -> Geometry:
        image = self.pixels()
        trim, light = (
            None if box is None else f"[{box[0] + 1}:{box[0] + box[2]}, {box[1] + 1}:{box[1] + box[3]}]"
            for box in (self.trim, self.light)
        )
        return Geometry(
            shape=(len(image), len(image[0])),
            binning=(self.bin_x, self.bin_y),
            sub_frame=self.window,
            row_order="TOP-DOWN" if self.top_down else "BOTTOM-UP",
            raw_section=trim,
            image_section=light,
        )

    def lit(self) -> set[tuple[int, int]]:
        """The detector's pixels that see light, where that is known."""
        if self.light is None:
            return set()
        x0, y0, nx, ny = self.light
        return set().union(*(block for line in self.pixels()[y0 : y0 + ny] for block in line[x0 : x0 + nx]))


@st.composite
def boxes(draw: st.DrawFn, nx: int, ny: int) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, nx - 1)), draw(st.integers(0, ny - 1))
    return x0, y0, draw(st.integers(1, nx - x0)), draw(st.integers(1, ny - y0))


@st.composite
def readouts(draw: st.DrawFn, height: int, width: int, *, binned: bool) -> Readout:
    bin_x, bin_y = (draw(st.integers(1, 3)) if binned else 1 for _ in "xy")
    nx, ny = width // bin_x, height // bin_y
    whole = Readout(height, width, draw(st.booleans()), bin_x, bin_y)
    match draw(st.sampled_from(("whole", "window", "trim", "raw"))):
        case "window":
            return replace(whole, window=draw(boxes(nx, ny)))
        case "trim":
            return replace(whole, trim=draw(boxes(nx, ny)))
        case "raw" if binned:
            return replace(whole, light=draw(boxes(nx, ny)))
        case _:
            return whole


def stored(flags: dict[tuple[int, int], int], readout: Readout) -> np.ndarray:
    """The plane of flags that an exposure would have: each pixel those of all its detector pixels."""
    image = readout.pixels()
    plane = np.zeros((len(image), len(image[0])), np.uint16)
    for y, line in enumerate(image):
        for x, block in enumerate(line):
            for pixel in block:
                plane[y, x] |= flags.get(pixel, 0)
    return plane


@given(data=st.data())
@settings(max_examples=600, deadline=None)
def test_every_pixel_keeps_its_place_on_the_detector(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(3, 9)), data.draw(st.integers(3, 9))
    mask = data.draw(readouts(height, width, binned=False))
    frame = data.draw(readouts(height, width, binned=True))
    pixel = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    flags = data.draw(st.dictionaries(pixel, st.integers(1, 1023), max_size=20))
    if mask.trim is not None:
        # a frame of the size of a trimmed mask counts as trimmed alike, and not as a window in the corner
        ny, nx = mask.geometry().shape
        alike = frame.geometry().shape == (ny // frame.bin_y, nx // frame.bin_x)
        assume(frame.window is None or not alike)
        # what the mask does not cover is overscan, which has no defects, save where the frame sees light
        covered = frame.lit().union(*(block for line in mask.pixels() for block in line))
        flags = {pixel: value for pixel, value in flags.items() if pixel in covered}
    try:
        plan = plan_adaptation(mask.geometry(), frame.geometry(), allow_binning=True)
    except GeometryMismatch:
        return
    assert np.array_equal(adapt(stored(flags, mask), plan), stored(flags, frame))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_whole_mask_serves_every_window_and_trim_of_either_row_order(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(3, 9)), data.draw(st.integers(3, 9))
    mask = Readout(height, width, data.draw(st.booleans()))
    frame = data.draw(readouts(height, width, binned=False))
    assert adapt(
        stored({}, mask), plan_adaptation(mask.geometry(), frame.geometry())
    ).shape == frame.geometry().shape  # fmt: skip


@given(box=boxes(8, 6), flags=st.dictionaries(st.tuples(st.integers(0, 7), st.integers(0, 5)), st.just(1)))
@settings(deadline=None)
def test_a_crop_of_a_flip_is_a_flip_of_a_crop(
    box: tuple[int, int, int, int], flags: dict[tuple[int, int], int]
) -> None:
    x0, y0, nx, ny = box
    up, down = replace(FULL, row_order="BOTTOM-UP"), replace(FULL, row_order="TOP-DOWN")
    dq = stored(flags, Readout(6, 8, top_down=False))
    window = replace(down, shape=(ny, nx), sub_frame=box)
    below = replace(up, shape=(ny, nx), sub_frame=(x0, 6 - y0 - ny, nx, ny))
    cropped = adapt(dq, plan_adaptation(up, below))
    assert np.array_equal(adapt(dq, plan_adaptation(up, window)), cropped[::-1])


# --- the file -------------------------------------------------------------------


def test_the_derived_mask_file_names_its_source_and_its_steps() -> None:
    source = content(configuration=Configuration(gain_setting=100.0, row_order="BOTTOM-UP"))
    source.dq[1, 3] = (DQ.BAD | DQ.HOT).value
    source_bytes = encode(source)
    frame = Geometry(shape=(3, 4), sub_frame=(2, 3, 4, 3), row_order="TOP-DOWN")
    plan = plan_adaptation(Geometry.of_mask(source.configuration, (6, 8), None), frame)
    derived = adapted_file(source_bytes, plan, frame)
    assert derived.sha256 == digest(derived.content)
    assert derived.source_sha256 == digest(source_bytes) != derived.sha256
    assert adapted_file(source_bytes, plan, frame).content == derived.content
    told = decode(derived.content)
    assert told.configuration == Configuration(
        gain_setting=100.0, row_order="TOP-DOWN", sub_frame=(2, 3, 4, 3)
    )
    assert told.dq[1, 1] == 5
    assert np.count_nonzero(told.dq) == 1
    assert derived.source_sha256 in told.notes
    assert "The order of the rows was reversed." in told.notes
