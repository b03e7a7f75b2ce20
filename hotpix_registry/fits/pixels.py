"""Pixels of FITS images in strips of rows: plain, gzip, bzip2 and tile-compressed, with bounded memory."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import Rows
from hotpix_registry.errors import ProfileError, UnreadableFrame
from hotpix_registry.fits import blocks, tiles
from hotpix_registry.fits.blocks import HDU, Value
from hotpix_registry.fits.streams import (
    Bytes,
    PlainBytes,
    StreamBytes,
    naming,
    open_bytes,
    truncated,
)
from hotpix_registry.places import is_url

Section = tuple[slice, slice]
"""(y, x): 0-based, with whole numbers as start and stop"""

_OVERSCAN_ROWS = 128
_TILE_BUFFER = 256 << 10
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


# --- sections ---------------------------------------------------------------


def parse_section(text: str, shape: tuple[int, int]) -> Section:
    """Turn a FITS section such as `[1:4096, 1:2048]` into slices (y, x).

    Sections are written x first, counted from 1, both ends included; `:` or `*` is the whole axis
    and one number a single row or column. `shape` is the (ny, nx) of the image that is cut.

    Raises
    ------
    ProfileError
        When the section cannot be understood, is reversed, or does not lie within the image.
    """
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    if len(parts) != 2:
        raise ProfileError(
            f"'{text}' is not an image section.",
            next_step="Write [x1:x2, y1:y2], counted from 1, such as [1:4096, 1:2048].",
        )
    ny, nx = shape
    return _parse_axis(text, parts[1], "y", ny), _parse_axis(text, parts[0], "x", nx)


def _parse_axis(section: str, text: str, axis: str, length: int) -> slice:
    text = text.strip()
    if text in (":", "*"):
        return slice(0, length)
    match = re.fullmatch(r"(\d{1,18})(?:\s*:\s*(\d{1,18}))?", text)
    if match is None:
        raise ProfileError(
            f"The {axis} part '{text}' of section '{section}' is no range of pixels.",
            next_step="Write first:last, counted from 1, or : for all.",
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise ProfileError(
            f"The {axis} part '{text}' of section '{section}' runs backwards.",
            next_step=f"Write {last}:{first}; flipped images are not supported.",
        )
    if first < 1 or last > length:
        raise ProfileError(
            f"The {axis} part '{text}' of section '{section}' lies outside of the image of {length} pixels.",
            next_step="Correct the section in the camera's profile, or leave out frames of another size.",
        )
    return slice(first - 1, last)


# --- what callers see -------------------------------------------------------


class RowsFile:
    """A FITS image that is read a strip of rows at a time; close it, or use it in a `with`.

    `dtype` is that of all strips: native uint16 for unsigned 16-bit and for 8-bit images, float32 where
    that is exact or the file itself holds no more, else float64. NaN stays NaN, and BLANK becomes NaN
    except in unsigned 16-bit images, which have no place for it. Reading from several threads at once
    is safe for plain files only. `compressed` says that it is to be read in rising order: it is unpacked,
    or fetched from elsewhere. Pickled, it is opened again where it is unpickled.
    """

    def __init__(
        self,
        path: Path | str,
        raw_rows: _RawRows,
        hdu: int,
        shape: tuple[int, int],
        scaling: _Scaling,
        trim: Section | str | None,
    ) -> None:
        self.path = path
        self.hdu = hdu
        self.compressed = not raw_rows.plain
        self._raw_rows = raw_rows
        self._scaling = scaling
        self._trim = trim
        try:
            section = (
                parse_section(trim, shape) if isinstance(trim, str) else trim or (slice(None), slice(None))
            )
        except ProfileError as error:
            raise ProfileError(f"{path}: {error.message}", next_step=error.next_step) from None
        y0, y1, _ = section[0].indices(shape[0])
        x0, x1, _ = section[1].indices(shape[1])
        self._y0 = y0
        self._columns = None if (x0, x1) == (0, shape[1]) else slice(x0, x1)
        self.shape = (y1 - y0, x1 - x0)
        self.dtype = scaling.dtype

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows `y0` to `y1` (exclusive) as a new array (y1 - y0, nx).

        Raises
        ------
        UnreadableFrame
            When the file ends too early or its compressed data are corrupt.
        """
        if not 0 <= y0 <= y1 <= self.shape[0]:
            raise IndexError(f"rows {y0}:{y1} of an image with {self.shape[0]} rows")
        with naming(self.path):
            raw = self._raw_rows.read(self._y0 + y0, self._y0 + y1)
            return self._scaling.apply(raw if self._columns is None else raw[:, self._columns])

    def again(self) -> RowsFile:
        """The same rows, opened again: for another process, or for reading them in another order."""
        return open_rows(self.path, hdu=self.hdu, trim=self._trim)

    def __reduce__(self) -> tuple[Callable[..., RowsFile], tuple[Any, ...]]:
        return _opened_again, (self.path, self.hdu, self._trim)

    def close(self) -> None:
        self._raw_rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_rows(path: str | Path, *, hdu: int | None = None, trim: Section | str | None = None) -> RowsFile:
    """Open the image of a FITS file, by its path or URL, to read strips of its rows.

    Plain files are read in place, objects by ranges, ahead of a reading in rising order. Gzip and bzip2
    files, known by their first bytes, are decompressed as the reading goes on: rows in rising order cost
    one pass, going back begins anew. Tile-compressed images (`.fz`) cost the tiles a strip touches. Third
    and further axes of length 1 are dropped.

    Parameters
    ----------
    hdu
        number of the HDU to read; None takes the frame as `blocks.choose_image` does, as ingest does
    trim
        part of the image to deliver, as slices (y, x) or as a FITS section like `[1:4096, 1:2048]`

    Raises
    ------
    UnreadableFrame
        When the file cannot be opened, is no FITS image, is truncated or corrupt, holds several image
        extensions, or a cube.
    ProfileError
        When `trim` does not fit the image.
    ObjectsUnavailable, UsageError
        When the store of an object does not answer, or a library for it is missing.
    """
    path = path if isinstance(path, str) and is_url(path) else Path(path)
    with naming(path):
        source = open_bytes(path)
        try:
            return _open_image(path, source, hdu, trim)
        except BaseException:
            source.close()
            raise


def _opened_again(path: Path | str, hdu: int, trim: Section | str | None) -> RowsFile:
    return open_rows(path, hdu=hdu, trim=trim)


def overscan_level(source: str | Path | Rows, section: Section | str) -> float:
    """Measure the level of an overscan section: the mean of its pixels within 4 robust sigma of the median.

    The median of whole numbers is a whole number (or a half), and the median of row medians hardly finer,
    while the pedestal divides by the exposure time and must be known to a small part of an ADU: only a
    mean gets there, 0.02 ADU for 32 x 4096 pixels of 7 ADU noise. Clipping once, symmetrically about
    the median, keeps out deferred charge of hot pixels and cosmic rays and does not bias the mean of a
    symmetric distribution. Sigma is 1.4826 times the median absolute deviation, but at least the
    smallest step between values, since noise below the step of the converter makes the former zero.

    `section` counts in the rows of `source`, which must not be trimmed. Rows are read in strips.

    Raises
    ------
    UnreadableFrame
        When the section holds no finite number, or for the reasons of `open_rows`.
    ProfileError
        When the section does not fit the image.
    """
    if isinstance(source, str | Path):
        with open_rows(source, trim=section) as rows:
            return _level(rows, (slice(None), slice(None)), f"{section} of {rows.path}")
    cut = parse_section(section, source.shape) if isinstance(section, str) else section
    return _level(source, cut, f"{section} of {getattr(source, 'path', 'the array')}")


def _level(source: Rows, section: Section, name: str) -> float:
    y0, y1, _ = section[0].indices(source.shape[0])
    strips = [
        source.read(y, min(y + _OVERSCAN_ROWS, y1))[:, section[1]].ravel()
        for y in range(y0, y1, _OVERSCAN_ROWS)
    ]
    values, counts = _counted(np.concatenate(strips) if strips else np.empty(0))
    if not values.size:
        raise UnreadableFrame(
            f"The overscan section {name} holds no number.",
            next_step="Correct the section in the camera's profile.",
        )
    distance = np.abs(values - _median(values, counts))
    nearest = np.argsort(distance)
    sigma = 1.4826 * _median(distance[nearest], counts[nearest])
    steps = np.diff(values[distance <= 4 * sigma]) if sigma else distance[distance > 0]
    sigma = max(sigma, float(steps.min())) if steps.size else sigma
    near = distance <= 4 * sigma
    return float(np.sum(values[near] * counts[near]) / np.sum(counts[near]))


def _counted(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The numbers that a frame can hold among some values, ascending, and how often each occurs."""
    if values.dtype == np.uint16:
        counts = np.bincount(values)
        found = np.flatnonzero(counts)
        return found.astype(np.float64), counts[found]
    numbers = values.astype(np.float64)
    return np.unique(numbers[np.abs(numbers) < np.finfo(np.float32).max], return_counts=True)


def _median(values: NDArray[np.float64], counts: NDArray[np.intp]) -> float:
    """Median of ascending values that occur so often."""
    up_to = np.cumsum(counts)
    lower, upper = np.searchsorted(up_to, [(up_to[-1] - 1) // 2, up_to[-1] // 2], side="right")
    return float((values[lower] + values[upper]) / 2)


# --- stored numbers to physical ones ----------------------------------------


@dataclass(frozen=True, slots=True)
class _Scaling:
    bitpix: int
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Self:
        numbers = {}
        for keyword, default in (("BSCALE", 1.0), ("BZERO", 0.0)):
            value = values.get(keyword, default)
            if isinstance(value, str | bool) or not math.isfinite(value):
                raise UnreadableFrame(
                    f"The file cannot be understood: its keyword {keyword} is no number.",
                    next_step="Write it again with the program that made it.",
                )
            numbers[keyword] = float(value)
        bitpix = blocks.whole(values.get("BITPIX"))
        if bitpix not in _DTYPES:
            raise UnreadableFrame(
                f"The file is no valid FITS: its BITPIX is {values.get('BITPIX')}.",
                next_step="Write it again with the program that made it.",
            )
        blank = blocks.whole(values.get("BLANK")) if bitpix > 0 else None
        return cls(bitpix, numbers["BSCALE"], numbers["BZERO"], blank)

    @property
    def _plain(self) -> bool:
        return self.bscale == 1 and self.bzero == 0

    @property
    def _unsigned(self) -> bool:
        return self.bitpix == 16 and self.bscale == 1 and self.bzero == 32768

    @property
    def dtype(self) -> np.dtype[Any]:
        if self._unsigned or (self.bitpix == 8 and self._plain and self.blank is None):
            return np.dtype(np.uint16)
        # 24 bits of mantissa hold 16-bit numbers and the usual whole offsets; with a scale astropy
        # promises no more than float32 either.
        return np.dtype(np.float32 if self.bitpix in (8, 16, -32) else np.float64)

    def apply(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Physical values of stored ones, in a new array."""
        if self._unsigned:
            bits = raw.view(np.dtype(np.uint16).newbyteorder(raw.dtype.byteorder))
            unsigned: NDArray[np.uint16] = np.bitwise_xor(bits, np.uint16(0x8000))
            return unsigned
        values = raw.astype(self.dtype)
        if self.dtype == np.uint16:
            return values
        with np.errstate(over="ignore", invalid="ignore"):  # it is infinite then, or no number
            if self.bscale != 1:
                values *= self.dtype.type(self.bscale)
            if self.bzero != 0:
                values += self.dtype.type(self.bzero)
        if self.blank is not None:
            values[raw == self.blank] = np.nan
        return values


# --- stored rows ------------------------------------------------------------

_buffers = threading.local()


def _buffer(n_bytes: int) -> NDArray[np.uint8]:
    """Bytes that the next call of the same thread hands out again."""
    kept: NDArray[np.uint8] | None = getattr(_buffers, "kept", None)
    if kept is None or kept.size < n_bytes:
        kept = _buffers.kept = np.empty(n_bytes, np.uint8)
    return kept[:n_bytes]


class _RawRows(Protocol):
    plain: bool
    """reading costs no more than the disk"""

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows as they are stored, in an array that holds them until this thread reads again."""
        ...

    def close(self) -> None: ...


def _open_image(path: Path | str, source: Bytes, hdu: int | None, trim: Section | str | None) -> RowsFile:
    image = _find_image(source, hdu)
    values = blocks.image_values(image.values)
    shape = blocks.image_shape(values)
    if shape is None:
        n_axes = min(blocks.whole(values.get("NAXIS")) or 0, 9)
        lengths = " x ".join(str(values.get(f"NAXIS{i}")) for i in range(1, n_axes + 1))
        raise UnreadableFrame(
            f"The file holds no single image but {lengths} pixels.",
            next_step="Split colour images and cubes into planes first.",
        )
    scaling = _Scaling.of(values)
    if isinstance(source, PlainBytes) and source.size < image.start + image.n_bytes:
        raise truncated("it ends before the image that its header announces")
    if not image.is_compressed:
        raw_rows = _StoredRows(source, image.start, scaling.bitpix, shape)
        return RowsFile(path, raw_rows, image.index, shape, scaling, trim)
    if not isinstance(source, PlainBytes):
        raise blocks.compressed_twice()
    # astropy asks for a few bytes at a time
    opened = path if source.at_hand else BufferedReader(source.file, _TILE_BUFFER)
    tile_rows = _TileRows(opened, image, shape, blocks.whole(values.get("NAXIS")) or 2)
    if source.at_hand:
        source.close()
    return RowsFile(path, tile_rows, image.index, shape, scaling, trim)


def _find_image(source: Bytes, wanted: int | None) -> HDU:
    units = blocks.hdus(source.read_at)
    if wanted is None:
        return blocks.choose_image(units)[1]
    image = next((unit for unit in units if unit.index == wanted), None)
    if image is None or not image.is_image:
        raise UnreadableFrame(
            f"The file holds no image in HDU {wanted}.", next_step="HDUs are counted from 0, the primary."
        )
    return image


class _StoredRows:
    """Rows that lie one after the other in a plain or decompressed stream."""

    def __init__(self, source: Bytes, start: int, bitpix: int, shape: tuple[int, int]) -> None:
        self.plain = isinstance(source, PlainBytes) and source.at_hand
        self._source = source
        self._start = start
        self._dtype = np.dtype(_DTYPES[bitpix])
        self._ny, self._nx = shape
        self._drained = False

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        row_bytes = self._nx * self._dtype.itemsize
        raw = _buffer((y1 - y0) * row_bytes)
        if self._source.read_into(raw.data, self._start + y0 * row_bytes) < raw.size:
            raise truncated(f"it ends within rows {y0 + 1} to {y1} of {self._ny}")
        if y1 == self._ny and isinstance(self._source, StreamBytes) and not self._drained:
            self._source.drain()
            self._drained = True
        return raw.view(self._dtype).reshape(-1, self._nx)

    def close(self) -> None:
        self._source.close()


class _TileRows:
    """Rows of a tile-compressed image, by astropy's tiles."""

    def __init__(
        self, opened: Path | str | IO[bytes], image: HDU, shape: tuple[int, int], n_axes: int
    ) -> None:
        self.plain = False
        self._leading = (0,) * (n_axes - 2)
        self._hdus, self._hdu = tiles.open_image(opened, image, shape, scaled=False)

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        with tiles.unpacking():
            return cast(NDArray[Any], self._hdu.section[(*self._leading, slice(y0, y1))])

    def close(self) -> None:
        self._hdus.close()
