"""A mask laid over a frame of another geometry: cut, flipped, placed or binned, where that is known right.

The rule is never to guess: what the mask's darks and the frame do not both say is refused, with every part
listed. Pixels are counted from 0 in the order in which they are stored, except in FITS sections. A mask
without a sub-frame is taken to be of the whole detector.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import Configuration, Facts
from hotpix_registry.errors import GeometryMismatch, ProfileError
from hotpix_registry.fits.pixels import parse_section

Verdict = Literal["agrees", "adapted", "refused"]
Span = tuple[int, int] | None
"""first pixel and end along one axis; None is the whole axis, however long"""

_ANY = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What is known of where the pixels of an image lie on the detector; None is "nobody says"."""

    shape: tuple[int, int]
    """(ny, nx)"""
    binning: tuple[int, int] = (1, 1)
    """(x, y)"""
    sub_frame: tuple[int, int, int, int] | None = None
    """(x0, y0, nx, ny) in binned pixels, counted in the order of the stored rows"""
    row_order: str | None = None
    """TOP-DOWN or BOTTOM-UP"""
    bayer_pattern: str | None = None
    raw_section: str | None = None
    """FITS section of the raw frame that these pixels are"""
    image_section: str | None = None
    """FITS section of these pixels that sees light, in a raw frame with overscan"""
    program: str | None = None
    """the acquisition software"""

    @classmethod
    def of_mask(
        cls,
        configuration: Configuration,
        shape: tuple[int, int],
        raw_section: str | None,
        *,
        program: str | None = None,
    ) -> Self:
        """The geometry of a mask by what its file says, and by the program that took its darks."""
        return cls(
            shape=shape,
            binning=configuration.binning,
            sub_frame=configuration.sub_frame,
            row_order=configuration.row_order,
            bayer_pattern=configuration.bayer_pattern,
            raw_section=raw_section,
            program=program,
        )

    @classmethod
    def of_frame(
        cls, facts: Facts, *, trim_section: str | None = None, overscan_section: str | None = None
    ) -> Self:
        """The geometry of a science frame by its header, and by the sections of its camera's profile.

        A trim section that is smaller than the frame shows the frame to be raw. One of the frame's size
        shows it to be trimmed already when it, or the overscan beside it, lies beyond the frame. Any
        other says nothing.
        """
        ny, nx = facts.shape
        trim, overscan = trim_section or facts.trim_section, overscan_section or facts.overscan_section
        configuration = facts.configuration
        corner = (0, 0, nx, ny) if "sub_frame" in facts.sources else None
        is_trimmed = trim is not None and _was_trimmed(trim, overscan, facts.shape)
        is_raw = trim is not None and not is_trimmed and _is_part(trim, facts.shape)
        return cls(
            shape=facts.shape,
            binning=configuration.binning,
            sub_frame=configuration.sub_frame or corner,
            row_order=configuration.row_order,
            bayer_pattern=configuration.bayer_pattern,
            raw_section=trim if is_trimmed else None,
            image_section=trim if is_raw else None,
            program=facts.software,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One part of the comparison: what the frame wants, what the mask has, and what came of it."""

    criterion: str
    wanted: str
    found: str
    verdict: Verdict
    reason: str = ""
    """a clause: why it was refused"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing done to the pixels of a mask."""

    kind: Literal["flip", "crop", "place", "bin"]
    sentence: str
    numbers: tuple[int, ...] = ()
    """crop: y0, y1, x0, x1; place: y0, x0, ny, nx; bin: y, x"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """How a mask becomes one for a frame: steps in their order, none when it fits as it is."""

    steps: tuple[Step, ...]
    criteria: tuple[Criterion, ...]
    mask_shape: tuple[int, int]
    shape: tuple[int, int]
    """(ny, nx) of the frame"""

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(step.sentence for step in self.steps)


def plan_adaptation(mask: Geometry, frame: Geometry, *, allow_binning: bool = False) -> Adaptation:
    """Find how a mask is laid over a frame of the same camera.

    - Binning must agree; with `allow_binning` the blocks of an unbinned mask are joined for a binned
      frame, beginning at the first stored pixel, and what a division leaves over at the end is dropped.
    - Rows are flipped where both orders are known and differ. Where neither is known, the same program
      (whatever its version), or no program on either side, is taken to have kept its order. One order or
      one program alone is refused.
    - A sub-frame is cut out where its origin is known; before trimmed edges it is not, unless the trim
      begins in the corner.
    - A frame of a trimmed mask's size counts as trimmed alike, and takes it as it is. A raw one gets it
      where the mask's section of the raw frame says, with its overscan unmasked. A mask of the raw frame
      is cut to the frame's section. The part that sees light must be covered.

    Raises
    ------
    GeometryMismatch
        With every part, wanted and found.
    """
    bins, binning = _compare_binning(mask, frame, allow_binning)
    flip, rows = _compare_rows(mask, frame)
    criteria = [binning, rows]
    offset: tuple[int, int] | None = None
    if bins is not None and flip is not None:
        try:
            offset, reason = _place(mask, frame, bins, flip), ""
        except _Unknown as unknown:
            reason = str(unknown)
        criteria.append(_position(mask, frame, bins, offset, reason))
    criteria.append(_compare_bayer(mask, frame, bins, flip, offset))
    if bins is None or flip is None or offset is None or any(c.verdict == "refused" for c in criteria):
        raise _mismatch(criteria)
    return Adaptation(
        steps=_steps(mask.shape, frame.shape, bins, flip, offset),
        criteria=tuple(criteria),
        mask_shape=mask.shape,
        shape=frame.shape,
    )


def adapt(dq: NDArray[np.uint16], adaptation: Adaptation) -> NDArray[np.uint16]:
    """Do the steps: a plane of flags (ny, nx) uint16 of the mask becomes one of the frame's shape."""
    if dq.shape != adaptation.mask_shape:
        raise ValueError(f"planned for a mask {adaptation.mask_shape}, not {dq.shape}")
    for step in adaptation.steps:
        match step.kind, step.numbers:
            case "flip", _:
                dq = dq[::-1]
            case "crop", (y0, y1, x0, x1):
                dq = dq[y0:y1, x0:x1]
            case "place", (y0, x0, ny, nx):
                canvas = np.zeros((ny, nx), np.uint16)
                canvas[y0 : y0 + dq.shape[0], x0 : x0 + dq.shape[1]] = dq
                dq = canvas
            case "bin", (y, x):
                joined = np.zeros((dq.shape[0] // y, dq.shape[1] // x), np.uint16)
                for row in range(y):
                    for column in range(x):
                        joined |= dq[row::y, column::x]
                dq = joined
    return np.ascontiguousarray(dq)


# --- what is compared -------------------------------------------------------


class _Unknown(Exception):
    """Where the frame's pixels lie in the mask cannot be said; a clause."""


def _compare_binning(
    mask: Geometry, frame: Geometry, allowed: bool
) -> tuple[tuple[int, int] | None, Criterion]:
    """(x, y) mask pixels for each of the frame's; None where that is refused."""
    bins: tuple[int, int] | None = (1, 1)
    verdict: Verdict = "agrees"
    reason = ""
    if mask.binning != frame.binning:
        bins, verdict = None, "refused"
        if mask.binning != (1, 1):
            reason = "only an unbinned mask can be binned"
        elif not allowed:
            reason = "binning a mask must be asked for"
        elif frame.bayer_pattern:
            reason = "a binned frame with a Bayer pattern was binned by colour"
        else:
            bins, verdict = frame.binning, "adapted"
    return bins, _criterion("binning", _times(frame.binning), _times(mask.binning), verdict, reason)


def _compare_rows(mask: Geometry, frame: Geometry) -> tuple[bool | None, Criterion]:
    """Whether rows are flipped; None where nobody knows."""
    if mask.row_order and frame.row_order:
        flip = mask.row_order != frame.row_order
        verdict: Verdict = "adapted" if flip else "agrees"
        return flip, _criterion("row order", frame.row_order, mask.row_order, verdict)
    if mask.row_order or frame.row_order:
        reason = "one is known and the other is not"
        wanted, found = frame.row_order or "not given", mask.row_order or "not given"
        return None, _criterion("row order", wanted, found, "refused", reason)
    wanted, found = (f"not given, by {g.program or 'an unknown program'}" for g in (frame, mask))
    if program_name(mask.program) == program_name(frame.program):
        return False, _criterion("row order", wanted, found, "agrees")
    reason = "neither is known, and other programs store rows otherwise"
    return None, _criterion("row order", wanted, found, "refused", reason)


def program_name(program: str | None) -> str:
    """A program's name without its version: `maxim dl` of `MaxIm DL Version 4.07`."""
    words = re.split(r"[\s,;/-]+", (program or "").casefold())
    named = []
    for word in words:
        if re.search(r"\d", word) or word in ("version", "v", "v."):
            break
        named.append(word)
    return " ".join(named)


def _compare_bayer(
    mask: Geometry,
    frame: Geometry,
    bins: tuple[int, int] | None,
    flip: bool | None,
    offset: tuple[int, int] | None,
) -> Criterion:
    wanted, found = frame.bayer_pattern, mask.bayer_pattern
    texts = ("Bayer pattern", wanted or "not given", found or "not given")
    if not wanted or not found or wanted == found:
        return _criterion(*texts, "agrees")
    if bins == (1, 1) and flip is not None and offset is not None:
        # Where rows are flipped or cut off, the matrix begins with another of its pixels.
        rows = [found[2:], found[:2]] if (flip and mask.shape[0] % 2 == 0) ^ (offset[0] % 2) else None
        rows = rows or [found[:2], found[2:]]
        if offset[1] % 2:
            rows = [row[::-1] for row in rows]
        if "".join(rows) == wanted:
            return _criterion(*texts, "adapted")
    return _criterion(*texts, "refused", "the colours lie otherwise")


def _position(
    mask: Geometry,
    frame: Geometry,
    bins: tuple[int, int],
    offset: tuple[int, int] | None,
    reason: str,
) -> Criterion:
    whole = (mask.shape[0] // bins[1], mask.shape[1] // bins[0]) == frame.shape
    verdict: Verdict = "refused" if offset is None else "agrees" if whole and offset == (0, 0) else "adapted"
    return _criterion("part of the detector", _part(frame), _part(mask), verdict, reason)


def _criterion(criterion: str, wanted: str, found: str, verdict: Verdict, reason: str = "") -> Criterion:
    return Criterion(criterion=criterion, wanted=wanted, found=found, verdict=verdict, reason=reason)


def _mismatch(criteria: list[Criterion]) -> GeometryMismatch:
    refused = [c for c in criteria if c.verdict == "refused"]
    parts = "; ".join(f"{c.criterion}: wanted {c.wanted}, found {c.found} ({c.reason})" for c in refused)
    asked = any(c.reason == "binning a mask must be asked for" for c in refused)
    return GeometryMismatch(
        f"The mask does not fit the frame: {parts}.",
        next_step=(
            "`--adapt bin` joins the blocks of an unbinned mask."
            if asked
            else "Build a mask from darks taken like this frame, or add what is missing to the headers."
        ),
        criteria=tuple(criteria),
    )


# --- where the frame's pixels lie in the mask -------------------------------


def _place(mask: Geometry, frame: Geometry, bins: tuple[int, int], flip: bool) -> tuple[int, int]:
    """(y, x) of the frame's first pixel in the mask, in the mask's pixels and the frame's order of rows.

    It is negative where the frame reaches beyond the mask, which only overscan may.
    """
    axes = _axes(mask, frame, bins, flip)
    wanted, found = _origin(frame, bins), _origin(mask, (1, 1))
    is_window = (wanted or (0, 0)) != (found or (0, 0))
    known_edges = frame.image_section is not None or frame.raw_section is not None
    if is_window and known_edges:
        raise _Unknown("a sub-frame with trimmed edges or overscan lies nobody knows where")
    if found is not None and flip:
        raise _Unknown("rows of a sub-frame cannot be flipped without the detector's height")
    smaller = any(axis.blocks > axis.length for axis in axes)
    if is_window or (wanted is not None and smaller and not known_edges):
        if wanted is None:
            raise _Unknown("the origin of the frame's sub-frame is not known")
        y, x = (axis.in_window(a, b) for axis, a, b in zip(axes, wanted, found or (0, 0), strict=True))
    elif frame.image_section is not None:
        y, x = (axis.in_raw(span) for axis, span in zip(axes, _spans(frame.image_section), strict=True))
    elif frame.raw_section is not None:
        y, x = (axis.in_trimmed(span) for axis, span in zip(axes, _spans(frame.raw_section), strict=True))
    elif not smaller and all(axis.blocks == axis.length for axis in axes):
        if all(axis.may_be_raw for axis in axes) and any(axis.section and axis.section[0] for axis in axes):
            raise _Unknown("whether the binned frame was trimmed is not known")
        y, x = (axis.as_it_is() for axis in axes)
    elif mask.raw_section is not None and not smaller:
        if flip and wanted is not None and axes[0].section is not None:
            raise _Unknown("whether a frame that begins in the corner has all raw rows is not known")
        y, x = (axis.in_silent_raw() for axis in axes)
    else:
        raise _Unknown("the shapes differ, and neither header says where the frame begins")
    return y, x


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a mask and of a frame; `section` is that of the raw frame which the mask covers."""

    name: str
    n: int
    """pixels of the mask"""
    length: int
    """pixels of the frame"""
    step: int
    """mask pixels in each of the frame's"""
    section: Span
    flip: bool

    @property
    def blocks(self) -> int:
        return self.n // self.step

    @property
    def may_be_raw(self) -> bool:
        """Whether the mask's section of the raw frame fits in the frame, up to a part of a block."""
        return self.section is None or self.section[1] // self.step <= self.length

    def _check_blocks(self) -> None:
        """Blocks begin at the frame's first row, which is the mask's last when rows are flipped."""
        if self.flip and self.step > 1 and (self.n % self.step or self.section is not None):
            raise _Unknown(f"where blocks of {self.step} flipped rows begin in the mask is not known")

    def as_it_is(self) -> int:
        self._check_blocks()
        return 0

    def in_window(self, wanted: int, found: int) -> int:
        self._check_blocks()
        if self.section is not None and (self.flip or self.section[0]):
            raise _Unknown(f"whether the sub-frame's {self.name} counts from the trimmed edge is not known")
        return self._inside(wanted - found)

    def in_trimmed(self, span: Span) -> int:
        self._check_blocks()
        if self.section is None:
            if span is None:
                return self._whole()
            return self._inside(span[0] * self.step)
        if self.flip:
            raise _Unknown("rows cannot be flipped without the raw frame's height")
        return self._inside((span[0] * self.step if span else 0) - self.section[0])

    def in_raw(self, light: Span) -> int:
        if self.section is None:
            return self._whole()
        start, end = self._section_in_frame(self.section)
        light = light or (0, self.length)
        if not (start <= light[0] * self.step and light[1] * self.step <= end):
            raise _Unknown(
                f"of the part that sees light the mask covers {self.name} {start} to {end - 1} only"
            )
        return -start

    def in_silent_raw(self) -> int:
        if self.section is None or (self.section[0] == 0 and self.blocks == self.length):
            return self._whole()
        start, end = self._section_in_frame(self.section)
        if start < 0 or end > self.length * self.step:
            raise _Unknown(f"the frame's {self.name} does not hold the mask's section of the raw frame")
        return -start

    def _section_in_frame(self, section: tuple[int, int]) -> tuple[int, int]:
        start, end = section
        if not self.flip:
            return start, end
        if self.step > 1:
            raise _Unknown("rows of a binned raw frame cannot be flipped without its unbinned height")
        return self.length - end, self.length - start

    def _whole(self) -> int:
        self._check_blocks()
        if self.blocks != self.length:
            raise _Unknown(f"the mask has {self.n} pixels in {self.name}, the frame {self.length}")
        return 0

    def _inside(self, offset: int) -> int:
        if offset < 0 or offset + self.length * self.step > self.n:
            raise _Unknown(f"the frame reaches beyond the mask in {self.name}")
        return offset


def _axes(mask: Geometry, frame: Geometry, bins: tuple[int, int], flip: bool) -> tuple[_Axis, _Axis]:
    section_y, section_x = _spans(mask.raw_section) if mask.raw_section else (None, None)
    (ny, nx), (length_y, length_x) = mask.shape, frame.shape
    return (
        _Axis("y", ny, length_y, bins[1], section_y, flip),
        _Axis("x", nx, length_x, bins[0], section_x, False),
    )


def _origin(geometry: Geometry, bins: tuple[int, int]) -> tuple[int, int] | None:
    """(y, x) of a sub-frame's first pixel, in pixels of the mask."""
    if geometry.sub_frame is None:
        return None
    return geometry.sub_frame[1] * bins[1], geometry.sub_frame[0] * bins[0]


def _spans(section: str) -> tuple[Span, Span]:
    """(y, x) of a FITS section of an image of unknown size."""
    y, x = parse_section(section, (_ANY, _ANY))
    return _span(y), _span(x)


def _span(axis: slice) -> Span:
    return None if axis.stop == _ANY else (axis.start, axis.stop)


def _is_part(section: str, shape: tuple[int, int]) -> bool:
    """Whether a section is a part of an image, and not all of it."""
    try:
        y, x = parse_section(section, shape)
    except ProfileError:
        return False
    return (y.stop - y.start, x.stop - x.start) != shape


def _was_trimmed(trim: str, overscan: str | None, shape: tuple[int, int]) -> bool:
    try:
        spans = _spans(trim)
        beyond = _spans(overscan) if overscan else (None, None)
    except ProfileError:
        return False
    has_its_size = all(span is None or span[1] - span[0] == n for span, n in zip(spans, shape, strict=True))
    return has_its_size and any(
        span is not None and span[1] > n
        for span, n in (*zip(spans, shape, strict=True), *zip(beyond, shape, strict=True))
    )


# --- steps and their sentences ----------------------------------------------


def _steps(
    mask: tuple[int, int], frame: tuple[int, int], bins: tuple[int, int], flip: bool, offset: tuple[int, int]
) -> tuple[Step, ...]:
    steps: list[Step] = []
    if flip:
        steps.append(Step(kind="flip", sentence="The order of the rows was reversed."))
    canvas = frame[0] * bins[1], frame[1] * bins[0]
    (y0, y1), (x0, x1) = (
        (max(0, first), min(n, first + length)) for first, n, length in zip(offset, mask, canvas, strict=True)
    )
    if (y0, y1, x0, x1) != (0, mask[0], 0, mask[1]):
        sentence = f"Columns {x0} to {x1 - 1} and rows {y0} to {y1 - 1} were cut out, counted from 0."
        steps.append(Step(kind="crop", sentence=sentence, numbers=(y0, y1, x0, x1)))
    if (y1 - y0, x1 - x0) != canvas:
        at_y, at_x = max(0, -offset[0]), max(0, -offset[1])
        sentence = (
            f"It was placed at column {at_x}, row {at_y} of {canvas[1]} x {canvas[0]} raw pixels; "
            "the overscan is unmasked."
        )
        steps.append(Step(kind="place", sentence=sentence, numbers=(at_y, at_x, *canvas)))
    if bins != (1, 1):
        sentence = f"Blocks of {_times(bins)} pixels were joined: each has the flags of all its pixels."
        steps.append(Step(kind="bin", sentence=sentence, numbers=(bins[1], bins[0])))
    return tuple(steps)


def _part(geometry: Geometry) -> str:
    ny, nx = geometry.shape
    text = f"{nx} x {ny} pixels"
    if geometry.sub_frame is not None:
        text += f" from {geometry.sub_frame[0]},{geometry.sub_frame[1]}"
    if geometry.raw_section is not None:
        text += f", section {geometry.raw_section} of the raw frame"
    if geometry.image_section is not None:
        text += f", of which {geometry.image_section} sees light"
    return text


def _times(pair: tuple[int, int]) -> str:
    return f"{pair[0]} x {pair[1]}"
