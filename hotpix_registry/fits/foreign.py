"""Masks that others wrote: FITS images, npy planes, lists of boxes.

What a file announces is checked before memory is taken for it, and nothing of it is evaluated.
"""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.errors import UnreadableFrame, UsageError
from hotpix_registry.fits import pixels
from hotpix_registry.fits.exports import Boxes
from hotpix_registry.fits.packing import MOST_PIXELS
from hotpix_registry.fits.streams import COPY_AGAIN

_STRIP_PIXELS = 1 << 22


def read_foreign_mask(
    path: str | Path, *, shape: tuple[int, int] | None = None, bit: int | None = None, hdu: int | None = None
) -> NDArray[np.bool_]:
    """Read a mask that another program wrote as a boolean array (ny, nx), True = masked.

    FITS images (plain or compressed) and `.npy` arrays mask where they are not zero, NaN included; with
    `bit` (0 is the lowest) only where that bit is set. Defect lists in ECSV with columns x0, y0, width
    and height (0-based, as LSST writes them) need the `shape` of the detector. The kind of file is
    known by its first bytes.

    Raises
    ------
    UnreadableFrame
        When the file cannot be read as one of these, or does not fit the shape.
    UsageError
        When a defect list comes without a shape.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic == b"# %ECS":
            if shape is None:
                raise UsageError(
                    f"{path} is a list of boxes, which does not say how large the detector is.",
                    next_step="Give the shape.",
                )
            return _mask_of_boxes(path, _read_boxes(path), shape)
        if magic == b"\x93NUMPY":
            values = _open_npy(path)
            return _mask_of_rows(path, values.shape, lambda y0, y1: values[y0:y1], shape, bit)
        with pixels.open_rows(path, hdu=hdu) as rows:
            return _mask_of_rows(path, rows.shape, rows.read, shape, bit)
    except OSError as error:
        raise UnreadableFrame(f"{path} cannot be opened: {error.strerror}.") from error


def _mask_of_rows(
    path: Path,
    found: tuple[int, int],
    read: Callable[[int, int], NDArray[Any]],
    shape: tuple[int, int] | None,
    bit: int | None,
) -> NDArray[np.bool_]:
    if shape is not None and found != shape:
        raise UnreadableFrame(
            f"{path} has {_size(found)} pixels where {_size(shape)} are needed.",
            next_step="Cut or bin the mask to the camera's frames first.",
        )
    _check_size(path, found)
    mask = np.empty(found, np.bool_)
    step = max(1, _STRIP_PIXELS // max(1, found[1]))
    for y in range(0, found[0], step):
        strip = slice(y, min(found[0], y + step))
        mask[strip] = _masked(read(strip.start, strip.stop), bit)
    return mask


def _masked(values: NDArray[Any], bit: int | None) -> NDArray[np.bool_]:
    if bit is None:
        return np.asarray(values != 0)
    if values.dtype.kind != "f":
        return np.asarray(values.astype(np.int64) >> bit & 1 != 0)
    # numbers that are none, or beyond 64 bits, have no bits to ask for
    invalid = ~(np.abs(values) < 2.0**63)
    return np.asarray(invalid | (np.where(invalid, 0, values).astype(np.int64) >> bit & 1 != 0))


_NPY_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<>|=]?[buif]\d{1,2})',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(\s*(\d{1,9}),\s*(\d{1,9}),?\s*\),?\s*\}\s*"
)
"""what NumPy and others write for a plane of numbers"""
_MOST_NPY_HEADER = 10_000


def _open_npy(path: Path) -> NDArray[Any]:
    """The plane of an npy file, on the disk; its header is matched and not evaluated."""
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(file.read(2 if start[6:7] == b"\x01" else 4), "little")
        header = file.read(min(length, _MOST_NPY_HEADER))
        found = _NPY_HEADER.fullmatch(header)
        if found is None:
            raise UnreadableFrame(
                f"{path} is no plane of numbers: its header says '{_shown(header)}'.",
                next_step="Save a plane of numbers with numpy.save.",
            )
        descr, fortran_order, *lengths = (part.decode() for part in found.groups())
        ny, nx = map(int, lengths)
        try:
            dtype = np.dtype(descr)
        except TypeError:
            raise UnreadableFrame(
                f"{path} holds numbers of the kind {descr}, which NumPy does not know.",
                next_step="Save a plane of numbers with numpy.save.",
            ) from None
        offset = file.tell()
        if os.fstat(file.fileno()).st_size < offset + ny * nx * dtype.itemsize:
            raise UnreadableFrame(
                f"{path} is truncated: it ends before the {ny} x {nx} numbers that it announces.",
                next_step=COPY_AGAIN,
            )
        if not ny * nx:  # which cannot be mapped
            return np.zeros((ny, nx), dtype)
        order: Literal["F", "C"] = "F" if fortran_order == "True" else "C"
        return np.memmap(file, dtype, "r", offset, (ny, nx), order)


def _shown(header: bytes) -> str:
    text = header.decode("latin-1").strip()
    return "".join(c if c.isprintable() else "?" for c in text[:100])


def _read_boxes(path: Path) -> Boxes:
    """The boxes of a list; its columns are known by their names, and the YAML above them is not read."""
    names = ("x0", "y0", "width", "height")
    numbers = array("q")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = (line for line in file if line.strip() and not line.startswith("#"))
            heading = next(lines, "")
            delimiter = "," if "," in heading else " "
            columns = next(csv.reader([heading], delimiter=delimiter, skipinitialspace=True), [])
            places = [columns.index(name) for name in names]
            for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
                numbers.extend([int(row[place]) for place in places])
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise UnreadableFrame(
            f"{path} is no list of defects: {error}.",
            next_step="It needs columns x0, y0, width and height of whole numbers.",
        ) from error
    return np.frombuffer(numbers, np.int64).reshape(-1, 4)


def _mask_of_boxes(path: Path, boxes: Boxes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    x0, y0, width, height = boxes.T
    # compared so that no sum of absurd numbers overflows
    inside = (x0 >= 0) & (y0 >= 0) & (width >= 1) & (height >= 1)
    inside &= (x0 < shape[1]) & (y0 < shape[0]) & (width <= shape[1] - x0) & (height <= shape[0] - y0)
    if not inside.all():
        x0, y0, width, height = boxes[np.argmin(inside)].tolist()
        raise UnreadableFrame(
            f"{path}: the box {width} x {height} at {x0},{y0} does not lie within {_size(shape)} pixels.",
            next_step="Check the shape, and whether the list belongs to this detector.",
        )
    _check_size(path, shape)
    # how many boxes begin less end at each corner: as quick for boxes that lie over each other
    corners = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
    for y, x, sign in (
        (y0, x0, 1),
        (y0 + height, x0, -1),
        (y0, x0 + width, -1),
        (y0 + height, x0 + width, 1),
    ):
        np.add.at(corners, (y, x), sign)
    for axis in (0, 1):
        np.cumsum(corners, axis=axis, out=corners)
    return np.asarray(corners[:-1, :-1] != 0)


def _check_size(path: Path, shape: tuple[int, int]) -> None:
    """The size of a mask bounds the memory that it costs."""
    if shape[0] * shape[1] > MOST_PIXELS:
        raise UnreadableFrame(
            f"{path} is for {_size(shape)} pixels, more than the {MOST_PIXELS} of the largest mask.",
            next_step="Cut it into one file for each detector.",
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, reversed(shape)))
