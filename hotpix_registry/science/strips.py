"""Rows of many frames at a time, and the bulk level of the blocks they divide into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science.combine import Floats
from hotpix_registry.science.inputs import DarkFrame
from hotpix_registry.science.ranks import row_median

BAND_ROWS = 64
"""All work goes by bands of so many rows, whatever the strips that are read."""

_STRIP_VALUES = 1 << 22

_COLOURS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(y, x) of the four pixels of a Bayer cell"""


def bands(ny: int) -> list[tuple[int, int]]:
    """Half-open ranges of rows, `BAND_ROWS` high; what is left over joins the last one if it is short."""
    starts = list(range(0, max(1, ny - BAND_ROWS // 4), BAND_ROWS))
    return list(zip(starts, [*starts[1:], ny], strict=True))


def rows_at_a_time(height: int, row_values: int) -> int:
    """How many rows of a band to read from all frames together: equal strips, none of them large."""
    n_strips = math.ceil(height / max(1, _STRIP_VALUES // row_values))
    return math.ceil(height / n_strips)


def to_adu(frame: DarkFrame, exptime_s: float, gain_e_per_adu: float) -> float:
    """Factor that brings a frame's own unit to ADU."""
    match frame.unit:
        case "adu":
            return 1.0
        case "electron":
            return 1 / gain_e_per_adu
        case "adu/s":
            return exptime_s
        case "electron/s":
            return exptime_s / gain_e_per_adu
    raise ValueError(f"unknown unit {frame.unit!r}")


def are_streams(frames: Sequence[DarkFrame]) -> bool:
    """Whether any of them is unpacked as it is read, in rising order."""
    return any(getattr(frame.rows, "compressed", False) for frame in frames)


def read_stack(
    frames: Sequence[DarkFrame],
    exptime_s: float,
    gain_e_per_adu: float,
    y0: int,
    y1: int,
    readers: Executor | None = None,
) -> list[NDArray[Any]]:
    """Rows `y0` to `y1` of frames, n arrays (y1 - y0, nx) [ADU]: all uint16 if they can be, else float32.

    Compressed frames are unpacked by the `readers`, each by one at a time.
    """

    def read(frame: DarkFrame) -> Any:
        return frame.rows.read(y0, y1)

    if readers is not None and are_streams(frames):
        strips = list(readers.map(read, frames))
    else:
        strips = [read(frame) for frame in frames]
    factors = [to_adu(frame, exptime_s, gain_e_per_adu) for frame in frames]
    if set(factors) == {1.0} and all(strip.dtype == np.uint16 for strip in strips):
        return strips
    return [
        np.multiply(strip, np.float32(factor), dtype=np.float32, casting="same_kind")
        for strip, factor in zip(strips, factors, strict=True)
    ]


def block_edges(size: int) -> NDArray[np.intp]:
    """Edges that divide rows or columns into blocks about as long as a band is high."""
    return np.linspace(0, size, max(1, round(size / BAND_ROWS)) + 1).astype(np.intp)


def block_medians(values: Floats, colours: bool) -> Floats:
    """Medians of one band in blocks along x, (4 or 1, n blocks), each Bayer colour for itself.

    A thousand pixels are enough: their median is known to 4 % of their scatter.
    """
    edges = block_edges(values.shape[1])
    width = int(np.diff(edges).min())
    if not colours or min(values.shape[0], width) < 4:
        rows = values[:: max(1, values.shape[0] // 16)]
        if edges[-1] == width * (edges.size - 1):
            inside = rows.reshape(len(rows), -1, width)
        else:
            inside = rows[:, edges[:-1, np.newaxis] + np.arange(width)]
        medians = row_median(np.moveaxis(inside, 1, 0).reshape(edges.size - 1, -1))
        return np.repeat(medians[np.newaxis], 4 if colours else 1, axis=0)
    starts = (edges[:-1] + 1) // 2 * 2
    steps = np.arange(0, width - 2, 2)
    planes = []
    for dy, dx in _COLOURS:
        inside = values[dy::2, starts[:, np.newaxis] + dx + steps]
        planes.append(row_median(np.moveaxis(inside, 1, 0).reshape(starts.size, -1)))
    return np.stack(planes)


def spread_blocks(medians: Floats, shape: tuple[int, int]) -> Floats:
    """Each pixel's block median, as (rows, nx) float32."""
    widths = np.diff(block_edges(shape[1]))
    if medians.shape[0] == 1:
        return np.broadcast_to(np.repeat(medians[0], widths), shape)
    rows = np.repeat(medians, widths, axis=1)
    out = np.empty(shape, np.float32)
    for i, (dy, dx) in enumerate(_COLOURS):
        out[dy::2, dx::2] = rows[i, dx::2]
    return out


def local_bulk(grid: Floats, shape: tuple[int, int], index: NDArray[np.int64], colours: bool) -> Floats:
    """Bulk dark current around given pixels, interpolated between blocks, (n,) e-/s.

    `grid` is (colours, bands, blocks). Beyond the outer blocks' centres the slope goes on, so that
    glow in a corner is followed into it.
    """
    y, x = np.divmod(index, shape[1])
    plane = ((y & 1) * 2 + (x & 1)) if colours and grid.shape[0] == 4 else np.zeros(index.size, np.int64)
    row_edges = np.array([0, *(band[1] for band in bands(shape[0]))])
    (ys, yf), (xs, xf) = (
        tuple(of_all.take(at) for of_all in _between(np.arange(size), edges))
        for at, size, edges in ((y, shape[0], row_edges), (x, shape[1], block_edges(shape[1])))
    )
    n_bands, n_blocks = grid.shape[1:]
    down, right = (1 if n_bands > 1 else 0) * n_blocks, 1 if n_blocks > 1 else 0
    first, flat = (plane * n_bands + ys) * n_blocks + xs, grid.reshape(-1)
    a, b, c, d = (flat.take(first + step) for step in (0, right, down, down + right))
    bulk: Floats = ((a * (1 - xf) + b * xf) * (1 - yf) + (c * (1 - xf) + d * xf) * yf).astype(np.float32)
    return bulk


def _between(at: NDArray[np.int64], edges: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Block centre before each position, and how far it lies on the way to the next one."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    if centres.size == 1:
        return np.zeros(at.size, np.intp), np.zeros(at.size)
    before = np.clip(np.searchsorted(centres, at, side="right") - 1, 0, centres.size - 2)
    share = (at - centres[before]) / (centres[before + 1] - centres[before])
    return before, share
