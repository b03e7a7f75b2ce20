"""Which sensor took a frame: its hottest pixels against the flagged pixels of masks.

Hot pixels are a fingerprint: a sensor keeps most of them for years, and two sensors share them by chance
alone. Lukáš, Fridrich & Goljan (2006, IEEE Trans. Inf. Forensics Secur. 1, 205) identify cameras by
the pattern of their noise, and Kurosawa, Kuroki & Saitoh (1999, ICIP) by their dark current alone. Here
both sides are lists of positions, and the question is whether more of them coincide than chance lets.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ, Rows
from hotpix_registry.science.strips import bands, block_medians, spread_blocks

MAX_SHIFT = 64
"""Pixels by which a frame may be displaced: the width of the overscan that one program trims, another not."""
MAX_CHANCE = 1e-6
"""An overlap is an identification when chance gives one as large in less than one of a million cases."""

_COMPARED = 2000
_KEPT = 20_000
_MOST_FLAGGED = 50_000
_MOST_PAIRS = 400_000
_LEAST_SHARE = 0.25
_MAD_TO_SIGMA = 1.4826
_BINNINGS = (2, 3, 4)

Index = NDArray[np.int64]


class Orientation(enum.StrEnum):
    """How a frame lies against a mask, x to the right and y upward."""

    AS_IS = "as is"
    ROWS_FLIPPED = "rows flipped"
    COLUMNS_FLIPPED = "columns flipped"
    TURNED_180 = "turned by 180°"
    TRANSPOSED = "rows and columns exchanged"
    TURNED_LEFT = "turned left by 90°"
    TURNED_RIGHT = "turned right by 90°"
    TURNED_180_TRANSPOSED = "turned by 180°, rows and columns exchanged"


# what brings a frame's pixel onto the mask: (exchange x and y, then flip y, then flip x)
_MOVES = {
    Orientation.AS_IS: (False, False, False),
    Orientation.ROWS_FLIPPED: (False, True, False),
    Orientation.COLUMNS_FLIPPED: (False, False, True),
    Orientation.TURNED_180: (False, True, True),
    Orientation.TRANSPOSED: (True, False, False),
    Orientation.TURNED_LEFT: (True, True, False),
    Orientation.TURNED_RIGHT: (True, False, True),
    Orientation.TURNED_180_TRANSPOSED: (True, True, True),
}

_BACK = {
    Orientation.TURNED_LEFT: Orientation.TURNED_RIGHT,
    Orientation.TURNED_RIGHT: Orientation.TURNED_LEFT,
}
"""The orientations that are not their own inverse."""


@dataclass(frozen=True, slots=True, eq=False)
class HotPixels:
    """Positions of hot pixels, hottest first where that is known."""

    shape: tuple[int, int]
    """(ny, nx)"""
    y: Index
    x: Index

    def __len__(self) -> int:
        return int(self.y.size)

    def hottest(self, n: int) -> HotPixels:
        return HotPixels(self.shape, self.y[:n], self.x[:n])

    def oriented(self, orientation: Orientation) -> HotPixels:
        """The pixels of a frame where a mask that it lies `orientation` against has them."""
        exchange, flip_y, flip_x = _MOVES[orientation]
        shape = self.shape[::-1] if exchange else self.shape
        y, x = (self.x, self.y) if exchange else (self.y, self.x)
        return HotPixels(shape, shape[0] - 1 - y if flip_y else y, shape[1] - 1 - x if flip_x else x)

    def binned(self, factor: int) -> HotPixels:
        """The pixels as they are in a frame that sums `factor` x `factor` of them; each once, in order."""
        shape = self.shape[0] // factor, self.shape[1] // factor
        y, x = self.y // factor, self.x // factor
        inside = (y < shape[0]) & (x < shape[1])
        flat = y[inside] * shape[1] + x[inside]
        flat = flat[np.sort(np.unique(flat, return_index=True)[1])]
        return HotPixels(shape, *np.divmod(flat, shape[1]))


# --- the hot pixels of a frame ----------------------------------------------------------


def hottest_pixels(rows: Rows, *, colours: bool = False, keep: int = _KEPT) -> HotPixels:
    """Find the pixels that stand out of their surroundings alone, hottest first.

    A hot pixel stands above the level of its block by more than noise ever does in a frame, and all four
    neighbours stand less than half as high. So the slopes of a glow, columns, the trails of cosmic rays,
    and stars, saturated or not, are none, as long as stars are wider than two pixels at half their height.
    What rules the order is the height in units of the block's own scatter.

    The frame is read in strips, each row once and in rising order: to go back in a compressed file is to
    unpack it anew.

    Parameters
    ----------
    rows
        (ny, nx) in any unit
    colours
        whether the pixels lie under a Bayer pattern: each colour then has a level of its own
    """
    ny, nx = rows.shape
    threshold = _highest_of(ny * nx)
    found_at: list[Index] = []
    found_z: list[NDArray[np.float32]] = []
    shared = np.empty((0, nx), np.float32)
    """rows of the band before: its last one, and the first of the next"""
    for y0, y1 in bands(ny):
        below, above = min(1, y0), min(1, ny - y1)
        unread = rows.read(y0 - below + len(shared), y1 + above)
        values = np.concatenate((shared, np.asarray(unread, np.float32)))
        shared = values[-2:].copy()
        inner = values[below : values.shape[0] - above]
        finite = np.isfinite(values)
        if not finite.all():
            values[~finite] = np.median(values[finite]) if finite.any() else 0
        # the rows beyond the band are measured against the level of the band itself
        level = spread_blocks(block_medians(inner, colours), inner.shape)
        excess = np.full((y1 - y0 + 2, nx + 2), -np.inf, np.float32)
        excess[1:-1, 1:-1] = inner - level
        if below:
            excess[0, 1:-1] = values[0] - level[1 if colours and len(level) > 1 else 0]
        if above:
            excess[-1, 1:-1] = values[-1] - level[-2 if colours and len(level) > 1 else -1]
        core = excess[1:-1, 1:-1]
        scatter = _MAD_TO_SIGMA * block_medians(np.abs(core), colours)
        scatter = np.maximum(scatter, _least_scatter(scatter, core))
        z = core / spread_blocks(scatter, core.shape)
        y, x = np.nonzero(z > threshold)
        neighbours = np.maximum(
            np.maximum(excess[y, x + 1], excess[y + 2, x + 1]),
            np.maximum(excess[y + 1, x], excess[y + 1, x + 2]),
        )
        alone = neighbours < 0.5 * core[y, x]
        found_at.append((y[alone] + y0) * np.int64(nx) + x[alone])
        found_z.append(z[y[alone], x[alone]])
    at, height = np.concatenate(found_at), np.concatenate(found_z)
    order = np.argsort(-height, kind="stable")[:keep]
    return HotPixels((ny, nx), *np.divmod(at[order], nx))


def _least_scatter(scatter: NDArray[np.floating], core: NDArray[np.float32]) -> float:
    """A scatter for blocks that have none, such as those of a black level that is cut off."""
    positive = scatter[scatter > 0]
    if positive.size:
        return 0.5 * float(np.median(positive))
    steps = core[core > 0]
    return float(steps.min()) if steps.size else 1.0


def _highest_of(n_pixels: int) -> float:
    """The height in sigma that one of so many normal pixels passes by chance."""
    from statistics import NormalDist

    return max(5.0, -NormalDist().inv_cdf(1 / max(n_pixels, 2)))


# --- the hot pixels of a mask -----------------------------------------------------------

_HOT = DQ.HOT | DQ.DARK_SATURATED
_WARM = _HOT | DQ.DARK_NONLINEAR | DQ.UNSTABLE | DQ.WARM
_SET = DQ.BAD | DQ.STUCK | DQ.MANUAL


class Kind(enum.StrEnum):
    """Which pixels of a mask are compared."""

    HOT = "hot"
    """above the limit, or saturated"""
    WARM = "warm"
    """these, the warm, the not proportional and the unstable ones"""
    SET = "set"
    """all, where no flag says that any is hot: a mask from elsewhere"""


def mask_pixels(shape: tuple[int, int], positions: Index, flags: NDArray[np.uint16]) -> dict[Kind, HotPixels]:
    """The pixels of a mask to look for in a frame: its hot ones alone, and with all that are warm.

    Flags tell kinds apart and not heights, and which of the two lists is the better one depends on the
    rule and the exposures of the mask. Columns never count: they are many pixels with one cause.

    Parameters
    ----------
    positions, flags
        (n,) flat positions, ascending, and (n,) uint16 `domain.DQ` bits there
    """
    lonely = flags & DQ.COLUMN.value == 0
    chosen = {
        kind: positions[lonely & (flags & wanted.value != 0)].astype(np.int64)
        for kind, wanted in ((Kind.HOT, _HOT), (Kind.WARM, _WARM), (Kind.SET, _SET))
    }
    kinds = [kind for kind in (Kind.HOT, Kind.WARM) if 0 < chosen[kind].size <= _MOST_FLAGGED]
    if chosen[Kind.HOT].size == chosen[Kind.WARM].size and len(kinds) == 2:
        kinds = [Kind.HOT]
    if not kinds and 0 < chosen[Kind.SET].size <= _MOST_FLAGGED:
        kinds = [Kind.SET]
    return {kind: HotPixels(shape, *np.divmod(chosen[kind], shape[1])) for kind in kinds}


# --- one frame against one mask ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How the hottest pixels of a frame lie on those of a mask, in the orientation that fits best."""

    orientation: Orientation
    shift: tuple[int, int]
    """(x, y) pixels to add to a frame's oriented positions to be on the mask"""
    frame_binning: int
    """so many pixels of the mask, along each side, are one of the frame's"""
    mask_binning: int
    common: int
    compared: int
    """the hottest pixels of the frame, as many as the mask has, but at most 2000"""
    flagged: int
    """the pixels of the mask"""
    expected: float
    """how many of them would coincide by chance"""
    log10_chance: float
    """probability that chance does as well at some shift, in this orientation of this mask"""
    orientations: int
    """how many were tried on this mask"""

    @property
    def share(self) -> float:
        return self.common / self.compared if self.compared else 0.0


def overlap(frame: HotPixels, mask: HotPixels, *, max_shift: int = MAX_SHIFT) -> Overlap | None:
    """Lay a frame on a mask in all orientations and at all small shifts; None when their sizes do not fit.

    For each of the hottest pixels of the frame, the mask's pixels within the window are looked up, and
    their displacements counted: the cross-correlation of two sparse maps (a shift of one is where many
    pairs have the same displacement), at the cost of the pairs and not of the planes. The frame's
    pixels are as many as the mask's, so that neither side has pixels that the other cannot have.
    """
    for frame_binning, mask_binning in ((1, 1), *((b, 1) for b in _BINNINGS), *((1, b) for b in _BINNINGS)):
        target = mask.binned(frame_binning) if frame_binning > 1 else mask
        source = frame.binned(mask_binning) if mask_binning > 1 else frame
        window = _window(target.shape, max_shift)
        fitting = [o for o in Orientation if _fits(source, o, target.shape, window)]
        if not fitting:
            continue
        if not len(target) or not len(source):
            return _nothing(fitting, frame_binning, mask_binning, len(target))
        cells = _Cells.of(target, window + 1)
        hottest = source.hottest(min(len(target), _affordable(target, window)))
        tried = [_laid_on(hottest.oriented(o), o, cells, len(target), window) for o in fitting]
        best = min(tried, key=lambda t: t.log10_chance)
        return Overlap(
            orientation=best.orientation,
            shift=best.shift,
            frame_binning=frame_binning,
            mask_binning=mask_binning,
            common=best.common,
            compared=len(hottest),
            flagged=len(target),
            expected=best.expected,
            log10_chance=best.log10_chance,
            orientations=len(fitting),
        )
    return None


def _nothing(fitting: Sequence[Orientation], frame_binning: int, mask_binning: int, flagged: int) -> Overlap:
    return Overlap(
        orientation=Orientation.AS_IS,
        shift=(0, 0),
        frame_binning=frame_binning,
        mask_binning=mask_binning,
        common=0,
        compared=0,
        flagged=flagged,
        expected=0.0,
        log10_chance=0.0,
        orientations=len(fitting),
    )


def _affordable(target: HotPixels, window: int) -> int:
    """How many pixels to compare: 2000, but fewer where a dense mask has more neighbours for each."""
    pairs = 9 * (window + 1) ** 2 * len(target) / (target.shape[0] * target.shape[1])
    return min(_COMPARED, max(_COMPARED // 5, int(_MOST_PAIRS / max(pairs, 1e-9))))


def _window(shape: tuple[int, int], max_shift: int) -> int:
    return min(max_shift, min(shape) // 8)


def _fits(source: HotPixels, orientation: Orientation, shape: tuple[int, int], window: int) -> bool:
    own = source.shape[::-1] if _MOVES[orientation][0] else source.shape
    return all(abs(a - b) <= window for a, b in zip(own, shape, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """A mask's pixels sorted into square cells, so that those near a place are three runs of the list."""

    y: Index
    x: Index
    key: Index
    size: int
    across: int
    area: int

    @classmethod
    def of(cls, pixels: HotPixels, size: int) -> _Cells:
        across = pixels.shape[1] // size + 3
        key = (pixels.y // size + 1) * across + pixels.x // size + 1
        order = np.argsort(key, kind="stable")
        area = pixels.shape[0] * pixels.shape[1]
        return cls(pixels.y[order], pixels.x[order], key[order], size, across, area)

    def displacements(self, source: HotPixels) -> tuple[Index, Index]:
        """(dy, dx) from each pixel of `source` to each of the mask in the nine cells around it."""
        cell = (source.y // self.size + 1) * self.across + source.x // self.size + 1
        parts = []
        for row in (-1, 0, 1):
            first = np.searchsorted(self.key, cell + row * self.across - 1, side="left")
            last = np.searchsorted(self.key, cell + row * self.across + 1, side="right")
            n = last - first
            mine = np.repeat(np.arange(cell.size), n)
            other = np.arange(mine.size) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)
            parts.append((self.y[other] - source.y[mine], self.x[other] - source.x[mine]))
        dy, dx = zip(*parts, strict=True)
        return np.concatenate(dy), np.concatenate(dx)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Laid:
    orientation: Orientation
    shift: tuple[int, int]
    common: int
    expected: float
    log10_chance: float


def _laid_on(source: HotPixels, orientation: Orientation, cells: _Cells, flagged: int, window: int) -> _Laid:
    """The best shift of one orientation, with the chance of doing as well at some shift.

    Half of the chance that is admitted goes to no shift at all, which is what nearly all frames have, and
    half to all others together (a weighted Bonferroni correction). Sensors of one model have their
    hot pixels in the same regions, so the density that counts is not below that of the shifts around.
    """
    side = 2 * window + 1
    dy, dx = cells.displacements(source)
    near = (np.abs(dy) <= window) & (np.abs(dx) <= window)
    counts = np.bincount((dy[near] + window) * side + dx[near] + window, minlength=side * side)
    counts = counts.reshape(side, side)
    shifted = counts.copy()
    shifted[window, window] = -1
    peaks = [(window, window, 0.5)]
    if window:
        away = np.abs(np.arange(side) - window)
        order = counts.size * shifted - (away[:, np.newaxis] + away)  # of equals, the least shift
        peaks.append((*divmod(int(np.argmax(order)), side), 0.5 / (counts.size - 1)))
    uniform = len(source) * flagged / cells.area
    laid = []
    for y, x, weight in peaks:
        expected = max(uniform, _around(counts, y, x, window), _around(counts, y, x, max(4, window // 4)))
        chance = log10_tail(int(counts[y, x]), len(source), expected / len(source)) - math.log10(weight)
        laid.append(
            _Laid(
                orientation=orientation,
                shift=(x - window, y - window),
                common=int(counts[y, x]),
                expected=expected,
                log10_chance=min(0.0, chance),
            )
        )
    return min(laid, key=lambda found: found.log10_chance)


def _around(counts: Index, y: int, x: int, reach: int) -> float:
    """Mean of the counts at the shifts around a peak, without the peak and its neighbours."""
    wide, own = (counts[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] for r in (reach, 1))
    return (int(wide.sum()) - int(own.sum())) / max(1, wide.size - own.size)


def log10_tail(k: int, n: int, p: float) -> float:
    """log10 of the probability of k or more successes of n, each of probability p.

    Binomial: a draw without replacement, which an overlap is, scatters no more (Hoeffding 1963,
    J. Am. Stat. Assoc. 58, 13, theorem 4).
    """
    if k <= 0:
        return 0.0
    if k > n or p <= 0:
        return -math.inf
    if p >= 1:
        return 0.0
    if k <= n * p:
        # below the mean the tail is near one, and of no interest to anybody
        return 0.0
    log_term = (
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )
    total, term = 1.0, 1.0
    for i in range(k, n):
        term *= (n - i) / (i + 1) * p / (1 - p)
        total += term
        if term < 1e-12 * total:
            break
    return min(0.0, (log_term + math.log(total)) / math.log(10))


# --- the masks of one camera, one against the other ------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well one mask of a camera says which of its sensor's pixels are hot in a frame."""

    flagged: int
    """the mask's pixels within the frame"""
    found: int
    """how many of them are hot in the frame"""
    gain: float
    """ln of how much likelier the frame is for this mask than for none"""


def fits(frame: HotPixels, masks: Sequence[tuple[HotPixels, Overlap]]) -> list[Fit]:
    """Compare masks of one sensor by how much each tells of which pixels are hot in a frame.

    All pixels of the frame are hot in it or not, and flagged in a mask or not. With a rate of hot ones
    for either group, the likelihood of what is found falls with hot pixels that the mask does not have,
    since they were born later, and with flagged ones that are not hot, since they were born since; it
    needs no equal number of pixels on the two sides. The masks lie in the frame as their overlaps
    say, all in the same binning.
    """
    places = [_in_frame(frame, mask, found) for mask, found in masks]
    source = frame.binned(masks[0][1].mask_binning) if masks[0][1].mask_binning > 1 else frame
    source = source.hottest(max(place.size for place in places))
    hot, n_hot, n_pixels = source.y * source.shape[1] + source.x, len(source), math.prod(source.shape)
    result = []
    for place in places:
        found = int(np.count_nonzero(np.isin(hot, place)))
        gain = (
            _log_likelihood(found, place.size)
            + _log_likelihood(n_hot - found, n_pixels - place.size)
            - _log_likelihood(n_hot, n_pixels)
        )
        result.append(Fit(flagged=place.size, found=found, gain=gain))
    return result


def _in_frame(frame: HotPixels, mask: HotPixels, found: Overlap) -> Index:
    """Flat positions of a mask's pixels in a frame."""
    target = mask.binned(found.frame_binning) if found.frame_binning > 1 else mask
    shape = frame.shape[0] // found.mask_binning, frame.shape[1] // found.mask_binning
    seen = shape[::-1] if _MOVES[found.orientation][0] else shape
    y, x = target.y - found.shift[1], target.x - found.shift[0]
    inside = (y >= 0) & (x >= 0) & (y < seen[0]) & (x < seen[1])
    back = HotPixels(seen, y[inside], x[inside]).oriented(_BACK.get(found.orientation, found.orientation))
    return np.unique(back.y * shape[1] + back.x)


def _log_likelihood(successes: int, trials: int) -> float:
    """ln of the likelihood of the best rate."""
    if not 0 < successes < trials:
        return 0.0
    rate = successes / trials
    return successes * math.log(rate) + (trials - successes) * math.log1p(-rate)


def about_as_good(compared: Sequence[Fit]) -> list[bool]:
    """Which fits are no worse than the best: within two of its ln likelihood, or 5 % of its gain.

    The latter is for what the law does not know: masks of other rules, exposures and temperatures. A
    sensor changes 10 to 20 % of its hottest pixels in seven years.
    """
    best = max(fit.gain for fit in compared)
    return [best - fit.gain <= max(2.0, 0.05 * best) for fit in compared]


# --- whether a frame had a chance at all ---------------------------------------------------


def could_tell(found: Overlap, comparisons: int, *, max_chance: float = MAX_CHANCE) -> bool:
    """Whether an overlap of a quarter of the pixels compared would have been an identification.

    A sensor is recognised by 80 to 90 % in a dark; a quarter is what a poor frame has left of it.
    """
    if not found.compared:
        return False
    quarter = max(1, round(_LEAST_SHARE * found.compared))
    density = max(found.expected / found.compared, 1e-12)
    needed = math.log10(max_chance) - math.log10(2 * comparisons)
    return log10_tail(quarter, found.compared, density) <= needed
