"""Pixels of FITS images in strips of rows: plain, gzip, bzip2 and tile-compressed, with bounded memory."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.errors import ProfileError, UnreadableFrame
from hotpix_registry.fits import blocks
from hotpix_registry.fits.streams import COPY_AGAIN, Bytes, PlainBytes, StreamBytes, open_bytes
from hotpix_registry.science.inputs import Rows

Section = tuple[slice, slice]
"""(y, x): 0-based, with whole numbers as start and stop"""

_STRIP_BYTES = 4 << 20
_MAX_LENGTH = 1_000_000
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
    match = re.fullmatch(r"(\d+)(?:\s*:\s*(\d+))?", text)
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
    is safe for plain files only.
    """

    def __init__(
        self,
        path: Path,
        raw_rows: _RawRows,
        shape: tuple[int, int],
        scaling: _Scaling,
        trim: Section | str | None,
    ) -> None:
        self.path = path
        self._raw_rows = raw_rows
        self._scaling = scaling
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
        raw = self._raw_rows.read(self._y0 + y0, self._y0 + y1)
        if self._columns is not None:
            raw = raw[:, self._columns].copy()
        return self._scaling.apply(raw)

    def close(self) -> None:
        self._raw_rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_rows(path: str | Path, *, hdu: int | None = None, trim: Section | str | None = None) -> RowsFile:
    """Open the image of a FITS file to read strips of its rows.

    Plain files are read in place. Gzip and bzip2 files, known by their first bytes, are decompressed as
    the reading goes on: rows in rising order cost one pass, going back begins anew. Tile-compressed
    images (`.fz`) cost the tiles a strip touches. Third and further axes of length 1 are dropped.

    Parameters
    ----------
    hdu
        number of the HDU to read; None takes the primary image, or else the only image extension
    trim
        part of the image to deliver, as slices (y, x) or as a FITS section like `[1:4096, 1:2048]`

    Raises
    ------
    UnreadableFrame
        When the file cannot be opened, is no FITS image, is truncated or corrupt, holds several image
        extensions, or a cube.
    ProfileError
        When `trim` does not fit the image.
    """
    path = Path(path)
    source = open_bytes(path)
    try:
        return _open_image(path, source, hdu, trim)
    except BaseException as error:
        source.close()
        if isinstance(error, blocks.NotFits):
            raise UnreadableFrame(
                f"{path} is no readable FITS file: {error}.", next_step=COPY_AGAIN
            ) from None
        raise


@dataclass(frozen=True, slots=True)
class ArrayRows:
    """An array (ny, nx) as `Rows`."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return cast(tuple[int, int], self.array.shape)

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        return self.array[y0:y1]


def as_rows(array: NDArray[Any]) -> ArrayRows:
    """Wrap an array (ny, nx) of any number type, so that it can be read in strips.

    Raises
    ------
    ValueError
        When the array has not two axes.
    """
    if array.ndim != 2:
        raise ValueError(f"an image has two axes, this array {array.ndim}")
    return ArrayRows(array)


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
        with open_rows(source) as rows:
            return overscan_level(rows, section)
    name = getattr(source, "path", "the array")
    ny, nx = source.shape
    y, x = parse_section(section, source.shape) if isinstance(section, str) else section
    y0, y1, _ = y.indices(ny)
    step = max(1, _STRIP_BYTES // (4 * nx))
    strips = [source.read(a, min(a + step, y1))[:, x].ravel() for a in range(y0, y1, step)]
    values = np.concatenate(strips).astype(np.float64) if strips else np.empty(0)
    values = values[np.isfinite(values)]
    if not values.size:
        raise UnreadableFrame(
            f"The overscan section {section} of {name} holds no number.",
            next_step="Correct the section in the camera's profile.",
        )
    centre = np.median(values)
    distance = np.abs(values - centre)
    sigma = 1.4826 * float(np.median(distance))
    steps = np.diff(np.unique(values[distance <= 4 * sigma])) if sigma else distance[distance > 0]
    sigma = max(sigma, float(steps.min())) if steps.size else sigma
    return float(values[distance <= 4 * sigma].mean())


# --- stored numbers to physical ones ----------------------------------------


@dataclass(frozen=True, slots=True)
class _Scaling:
    bitpix: int
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None

    @classmethod
    def of(cls, header: blocks.Header, prefix: str = "") -> Self:
        numbers = {}
        for keyword, default in (("BSCALE", 1.0), ("BZERO", 0.0)):
            value = header.get(keyword, default)
            if isinstance(value, str | bool) or not math.isfinite(value):
                raise blocks.NotFits(f"its keyword {keyword} is no number")
            numbers[keyword] = float(value)
        bitpix = blocks.integer(header, prefix + "BITPIX")
        if bitpix not in _DTYPES:
            raise blocks.NotFits(f"its BITPIX is {bitpix}")
        blank = header.get("BLANK")
        return cls(
            bitpix, numbers["BSCALE"], numbers["BZERO"], blank if type(blank) is int and bitpix > 0 else None
        )

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
        """Physical values of stored ones; `raw` is the caller's to give away and may be re-used."""
        if not raw.dtype.isnative:
            raw = raw.byteswap(inplace=True).view(raw.dtype.newbyteorder("="))
        if self._unsigned:
            unsigned = raw.view(np.uint16)
            unsigned ^= np.uint16(0x8000)
            return unsigned
        values = raw.astype(self.dtype, copy=False)
        if self.dtype == np.uint16:
            return values
        if self.bscale != 1:
            values *= self.dtype.type(self.bscale)
        if self.bzero != 0:
            values += self.dtype.type(self.bzero)
        if self.blank is not None:
            values[raw == self.blank] = np.nan
        return values


# --- finding the image ------------------------------------------------------


class _RawRows(Protocol):
    def read(self, y0: int, y1: int) -> NDArray[Any]:
        """Rows as they are stored, in a new writable array."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Image:
    number: int
    header: blocks.Header
    data_start: int
    compressed: bool

    @property
    def prefix(self) -> str:
        return "Z" if self.compressed else ""


def _open_image(path: Path, source: Bytes, hdu: int | None, trim: Section | str | None) -> RowsFile:
    image = _find_image(path, source, hdu)
    lengths = blocks.axes(image.header, image.prefix)
    if len(lengths) < 2 or any(length != 1 for length in lengths[2:]):
        text = " x ".join(map(str, lengths))
        raise UnreadableFrame(
            f"{path} holds no single image but {text} pixels.",
            next_step="Split colour images and cubes into planes first.",
        )
    nx, ny = lengths[:2]
    if max(nx, ny) > _MAX_LENGTH:
        raise blocks.NotFits(f"it claims to have {nx} x {ny} pixels")
    scaling = _Scaling.of(image.header, image.prefix)
    if not image.compressed:
        raw_rows = _StoredRows(path, source, image.data_start, scaling.bitpix, (ny, nx))
        return RowsFile(path, raw_rows, (ny, nx), scaling, trim)
    if not isinstance(source, PlainBytes):
        raise UnreadableFrame(
            f"{path} is compressed twice, in tiles and as a file.",
            next_step="Undo one of them with gunzip or bunzip2.",
        )
    source.close()
    return RowsFile(path, _TileRows(path, image.number, len(lengths)), (ny, nx), scaling, trim)


def _find_image(path: Path, source: Bytes, wanted: int | None) -> _Image:
    images = []
    offset = number = 0
    while (found := _next_header(source, offset)) is not None:
        header, header_size = found
        data_start = offset + header_size
        size = blocks.data_size(header)
        compressed = header.get("ZIMAGE") is True and header.get("XTENSION") == "BINTABLE"
        has_pixels = compressed or (
            header.get("XTENSION", "IMAGE") == "IMAGE" and size > 0 and header.get("GROUPS") is not True
        )
        image = _Image(number, header, data_start, compressed)
        if number == wanted or (number == 0 and wanted is None and has_pixels):
            if not has_pixels:
                break
            _check_length(path, source, data_start + size)
            return image
        if has_pixels:
            images.append(image)
            _check_length(path, source, data_start + size)
        offset = data_start + blocks.padded(size)
        number += 1
    if wanted is not None:
        raise UnreadableFrame(
            f"{path} holds no image in HDU {wanted}.", next_step="HDUs are counted from 0, the primary."
        )
    if not images:
        raise UnreadableFrame(f"{path} holds no image.", next_step="Leave it out.")
    if len(images) > 1:
        raise UnreadableFrame(
            f"{path} is a mosaic of {len(images)} images.",
            next_step="Split it into one file for each detector, each its own camera.",
        )
    return images[0]


def _next_header(source: Bytes, offset: int) -> tuple[blocks.Header, int] | None:
    position = offset

    def read(size: int) -> bytes:
        nonlocal position
        data = source.read_at(position, size).tobytes()
        position += len(data)
        return data

    try:
        return blocks.read_header(read)
    except blocks.NoHeader:
        if offset == 0:
            raise
        return None  # the standard allows special records behind the last HDU


def _check_length(path: Path, source: Bytes, end: int) -> None:
    """Refuse a plain file that ends before its pixels do; a compressed one shows it when it is read."""
    if isinstance(source, PlainBytes) and source.size < end:
        _raise_truncated(path, f"it has {source.size} bytes of at least {end}")


def _raise_truncated(path: Path, how: str) -> NoReturn:
    raise UnreadableFrame(f"{path} is truncated: {how}.", next_step=COPY_AGAIN)


class _StoredRows:
    """Rows that lie one after the other in a plain or decompressed stream."""

    def __init__(self, path: Path, source: Bytes, start: int, bitpix: int, shape: tuple[int, int]) -> None:
        self._path = path
        self._source = source
        self._start = start
        self._dtype = np.dtype(_DTYPES[bitpix])
        self._ny, self._nx = shape
        self._drained = False

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        row_bytes = self._nx * self._dtype.itemsize
        size = (y1 - y0) * row_bytes
        raw = self._source.read_at(self._start + y0 * row_bytes, size)
        if raw.size < size:
            _raise_truncated(self._path, f"it ends within rows {y0 + 1} to {y1} of {self._ny}")
        if y1 == self._ny and isinstance(self._source, StreamBytes) and not self._drained:
            self._source.drain()
            self._drained = True
        return raw.view(self._dtype).reshape(-1, self._nx)

    def close(self) -> None:
        self._source.close()


# Whatever astropy and its decompressors raise over tables that do not make sense.
_TILE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    zlib.error,
)


class _TileRows:
    """Rows of a tile-compressed image, by astropy's tiles."""

    def __init__(self, path: Path, number: int, n_axes: int) -> None:
        from astropy.io import fits

        self._path = path
        self._leading = (0,) * (n_axes - 2)
        try:
            self._hdus = fits.open(path, memmap=False, do_not_scale_image_data=True)
            self._hdu = self._hdus[number]
        except _TILE_ERRORS as error:
            raise self._corrupt(error) from error

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        try:
            return cast(NDArray[Any], self._hdu.section[(*self._leading, slice(y0, y1))])
        except _TILE_ERRORS as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: Exception) -> UnreadableFrame:
        return UnreadableFrame(
            f"{self._path} is corrupt: its compressed tiles cannot be read ({error}).", next_step=COPY_AGAIN
        )

    def close(self) -> None:
        self._hdus.close()
