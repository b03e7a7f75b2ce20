"""A mask written into a science frame, with every other byte of the file as it was.

The file is copied HDU by HDU as it stands; only the cards that name the mask, and the planes that it is
joined with, are written anew. Nothing is scaled or converted, so tile-compressed images stay compressed.
"""

from __future__ import annotations

import bz2
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ
from hotpix_registry.errors import StorageError, UnreadableFrame
from hotpix_registry.files import write_atomic
from hotpix_registry.fits import blocks, canonical, planes
from hotpix_registry.fits.blocks import CARD, HDU, padded
from hotpix_registry.fits.canonical import Card
from hotpix_registry.fits.streams import Bytes, PlainBytes, StreamBytes, naming, open_bytes, truncated

_CHUNK = 4 << 20
_HST_BAD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Which mask is written: what the keywords of the frame say."""

    registry_id: str
    mask_id: int
    version: int
    sha256: str
    preset: str = "default"
    receipt: str | None = None
    steps: tuple[str, ...] = ()
    """sentences: how it was adapted to the frame"""

    @property
    def cards(self) -> list[Card]:
        return [
            ("HPXREG", self.registry_id, "hot-pixel mask: its registry"),
            ("HPXMASK", self.mask_id, "its number there"),
            ("HPXVER", self.version, "its version in its series"),
            ("HPXSHA", self.sha256, ""),
            ("HPXPRE", self.preset, "which flags mask"),
            ("HPXRCPT", self.receipt, ""),
        ]

    @property
    def history(self) -> list[str]:
        sentences = (
            f"hotpix-registry joined mask {self.mask_id}, version {self.version}, preset {self.preset}.",
            *self.steps,
        )
        return [line for text in sentences for line in textwrap.wrap(text, 72)]

    def stands_in(self, header: Mapping[str, Any]) -> bool:
        """Whether a header names this mask already; another receipt leads to the same one."""
        return all(header.get(keyword) == value for keyword, value, _ in self.cards if keyword != "HPXRCPT")

    def enter(self, header: Any) -> None:
        """Name the mask in astropy's header, or in a plain dict."""
        is_fits = hasattr(header, "add_history")
        for keyword, value, comment in self.cards:
            if value is not None:
                header[keyword] = (value, comment) if is_fits else value
        if is_fits:
            for line in self.history:
                header.add_history(line)
        else:
            header["HISTORY"] = "\n".join([*filter(None, [header.get("HISTORY")]), *self.history])


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What became of a frame's mask."""

    changed: bool
    """False: this very mask had been written into it before"""
    added: int
    """pixels that were not masked before"""
    masked: int
    """pixels that are masked now"""


def write_mask(
    path: Path,
    dq: NDArray[np.uint16],
    bad: NDArray[np.bool_],
    provenance: Provenance,
    *,
    output: Path | None,
) -> Marked:
    """Join a mask with those of a science frame, and name it in the header of its image.

    - `MASK` (0 good; what CCDData writes and reads) is joined with `bad`: pixels that are masked keep
      their value, others get 1, or the bit MP_BAD where the extension names one, as LSST's do.
    - `DQ` that this program wrote is joined bit by bit with `dq`. A foreign one gets for each bad pixel
      the bit that means bad there: 1 (JWST, LSST, DRAGONS, DESI), or 4 where TELESCOP is HST.
    - What is missing of the two is appended, in compressed tiles beside an image in such.

    CHECKSUM and DATASUM are kept right where they stood, and EXTEND and NEXTEND true. Gzip and bzip2
    files are written compressed where the output's name says so, or when they are replaced.

    Parameters
    ----------
    dq, bad
        (ny, nx) of the frame: flags, and the pixels that are masked
    output
        where the result goes, `path` itself included; None writes nothing

    Raises
    ------
    UnreadableFrame
        When the file is no complete FITS file with one image of that shape, or its MASK or DQ is none
        that could be joined.
    StorageError
        When the result cannot be written.
    """
    with naming(path):
        before = path.stat() if path.exists() else None
        with open_bytes(path) as source:
            layout = _Layout.of(source)
            edit = _plan(source, layout, dq, bad, provenance)
            compression = source.compression
        if output is not None and (edit.changed or output != path):
            if output == path and before is not None and not before.st_mode & 0o222:
                raise StorageError(f"{path} is write-protected.", next_step="Write elsewhere with -o.")
            if output != path:
                compression = {".gz": "gz", ".bz2": "bz2"}.get(output.suffix.lower(), "")
            pieces = _compressed(_pieces(path, edit, before), compression)
            write_atomic(output, pieces, mode_of=path)
    return Marked(changed=edit.changed, added=edit.added, masked=edit.masked)


# --- the file as it is ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    units: Sequence[HDU]
    headers: Sequence[int]
    """where the header of each begins"""
    primary: HDU
    image: HDU
    size: int
    """of the whole file, decompressed"""

    @classmethod
    def of(cls, source: PlainBytes | StreamBytes) -> _Layout:
        units = list(blocks.hdus(source.read_at))
        primary, image = blocks.choose_image(units)
        if image.is_companion:
            raise UnreadableFrame(
                f"The file holds no science frame, only {image.values.get('EXTNAME')}.",
                next_step="Give the file that holds the frame.",
            )
        end = units[-1].start + units[-1].n_bytes
        size = source.size if isinstance(source, PlainBytes) else source.drain()
        if size < end:
            raise truncated("it ends before the data that its headers announce")
        headers = [0, *(unit.start + padded(unit.n_bytes) for unit in units[:-1])]
        return cls(units, headers, primary, image, size)

    def header(self, source: Bytes, unit: HDU) -> list[bytes]:
        """The cards of an HDU before END, as they stand."""
        start = self.headers[unit.index]
        block = source.read_at(start, unit.start - start)
        cards = [block[i : i + CARD] for i in range(0, len(block), CARD)]
        ends = (i for i, card in enumerate(cards) if card[:8].rstrip(b" \0") == b"END")
        return cards[: next(ends)]

    def extension(self, name: str) -> HDU | None:
        """The one extension of this name."""
        found = [
            unit for unit in self.units[1:] if str(unit.values.get("EXTNAME", "")).strip().upper() == name
        ]
        if len(found) > 1:
            raise UnreadableFrame(
                f"The file has {len(found)} extensions {name}.", next_step="Split it into one file per image."
            )
        return found[0] if found else None


# --- what is done to it -----------------------------------------------------


@dataclass(slots=True)
class _Edit:
    """The new bytes: headers and data of HDUs by their index, and what is appended."""

    layout: _Layout
    headers: dict[int, bytes] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)
    whole: dict[int, bytes] = field(default_factory=dict)
    """header and data together"""
    appended: list[bytes] = field(default_factory=list)
    changed: bool = False
    added: int = 0
    masked: int = 0

    def replace(self, unit: HDU, stored: bytes) -> None:
        (self.whole if unit.is_compressed else self.data)[unit.index] = stored


def _plan(
    source: Bytes, layout: _Layout, dq: NDArray[np.uint16], bad: NDArray[np.bool_], provenance: Provenance
) -> _Edit:
    values = blocks.image_values(layout.image.values)
    shape = blocks.image_shape(values)
    if shape != dq.shape:
        raise UnreadableFrame(
            f"The file holds an image of {planes.axes_of(values)} pixels, "
            f"not of {dq.shape[1]} x {dq.shape[0]}.",
            next_step="Split colour images and cubes into planes first."
            if shape is None
            else "Take a mask of its shape.",
        )
    edit = _Edit(layout)
    n_axes = blocks.whole(values.get("NAXIS")) or 2
    # beside compressed tiles CCDData takes the first plain image for the frame, so there must be none
    new_extension = planes.compressed_extension if layout.image.is_compressed else planes.plain_extension
    mask, flags = layout.extension("MASK"), layout.extension("DQ")
    if mask is None:
        edit.appended.append(new_extension("MASK", bad.astype(np.uint8), n_axes))
        edit.added = edit.masked = int(np.count_nonzero(bad))
    else:
        _join_mask(source, edit, mask, bad)
    if flags is None:
        edit.appended.append(new_extension("DQ", dq, n_axes))
    else:
        _join_planes(source, edit, flags, dq, bad)
    edit.changed = bool(edit.appended or edit.data or edit.whole) or not provenance.stands_in(
        layout.image.values
    )
    if edit.changed:
        _edit_headers(source, edit, provenance)
    return edit


def _join_mask(source: Bytes, edit: _Edit, unit: HDU, bad: NDArray[np.bool_]) -> None:
    plane = planes.plane_of(source, edit.layout.headers[unit.index], unit, bad.shape)
    old = plane.values()
    bit = blocks.whole(unit.values.get("MP_BAD"))
    if bit is not None and 0 <= bit < 8 * old.itemsize:
        new = old | (bad.astype(old.dtype) << old.dtype.type(bit))
    else:
        new = np.where(old == 0, bad.astype(old.dtype), old)
    edit.added = int(np.count_nonzero((new != old) & bad))
    edit.masked = int(np.count_nonzero(new))
    if edit.added:
        edit.replace(unit, plane.stored(new))


def _join_planes(
    source: Bytes, edit: _Edit, unit: HDU, dq: NDArray[np.uint16], bad: NDArray[np.bool_]
) -> None:
    plane = planes.plane_of(source, edit.layout.headers[unit.index], unit, dq.shape)
    old = plane.values()
    if unit.values.get("ORIGIN") == planes.ORIGIN and old.itemsize >= 2:
        new = old | dq.astype(old.dtype)
    else:
        telescope = str(edit.layout.primary.values.get("TELESCOP", "")).strip()
        bit = _HST_BAD if telescope == "HST" else DQ.BAD.value
        new = old | bad.astype(old.dtype) * old.dtype.type(bit)
    if not np.array_equal(new, old):
        edit.replace(unit, plane.stored(new))


# --- headers ----------------------------------------------------------------


def _edit_headers(source: Bytes, edit: _Edit, provenance: Provenance) -> None:
    layout = edit.layout
    cards = {layout.image.index: layout.header(source, layout.image)}
    _put(cards[layout.image.index], provenance.cards, provenance.history)
    if edit.appended:
        primary = cards.setdefault(0, layout.header(source, layout.primary))
        values, comments = layout.primary.cards
        if values.get("EXTEND") is False:
            _put(primary, [("EXTEND", True, comments.get("EXTEND", ""))])
        if (n := blocks.whole(values.get("NEXTEND"))) is not None:
            _put(primary, [("NEXTEND", n + len(edit.appended), comments.get("NEXTEND", ""))])
    for index in edit.data:
        cards.setdefault(index, layout.header(source, layout.units[index]))
    for index, lines in cards.items():
        unit = layout.units[index]
        values, comments = unit.cards
        data_sum = 0
        if "CHECKSUM" in values or "DATASUM" in values:
            data_sum = _data_sum(source, unit, edit.data.get(index))
        if "DATASUM" in values and index in edit.data:
            _put(lines, [("DATASUM", str(data_sum), comments.get("DATASUM", ""))])
        if "CHECKSUM" in values:
            _put(lines, [("CHECKSUM", "0" * 16, comments.get("CHECKSUM", ""))])
        edit.headers[index] = canonical.seal(lines, data_sum=data_sum)


def _put(lines: list[bytes], cards: Iterable[Card], history: Sequence[str] = ()) -> None:
    """Replace cards where they stand, drop those without a value, and add new ones at the end."""
    blank = b" " * CARD
    n_blank = next((i for i, line in enumerate(reversed(lines)) if line.strip()), len(lines))
    n_before = len(lines)
    del lines[len(lines) - n_blank :]
    for keyword, value, comment in cards:
        new = [] if value is None else _bytes(canonical.card_lines(keyword, value, comment))
        at = next((i for i, line in enumerate(lines) if blocks.keyword_of(line) == keyword), None)
        if at is None:
            lines += new
            continue
        end = at + 1
        while end < len(lines) and lines[end].startswith(b"CONTINUE"):
            end += 1
        lines[at:end] = new
    told = _bytes(line for text in history for line in canonical.card_lines("HISTORY", text, ""))
    if told and not _contains(lines, told):
        lines += told
    lines += [blank] * (n_before - len(lines))


def _contains(lines: Sequence[bytes], part: Sequence[bytes]) -> bool:
    return any(list(lines[i : i + len(part)]) == part for i in range(len(lines) - len(part) + 1))


def _bytes(lines: Iterable[str]) -> list[bytes]:
    return [f"{line:<{CARD}}".encode("ascii") for line in lines]


def _data_sum(source: Bytes, unit: HDU, data: bytes | None) -> int:
    if data is not None:
        return canonical.ones_complement_sum(data + canonical.padding(len(data)))
    return canonical.add_sums(
        canonical.ones_complement_sum(chunk + b"\0" * (-len(chunk) % 4))
        for chunk in _chunks(source, unit.start, unit.n_bytes)
    )


# --- writing ----------------------------------------------------------------


def _chunks(source: Bytes, start: int, size: int) -> Iterator[bytes]:
    for offset in range(0, size, _CHUNK):
        chunk = source.read_at(start + offset, min(_CHUNK, size - offset))
        if len(chunk) < min(_CHUNK, size - offset):
            raise truncated("it ends before the data that its headers announce")
        yield chunk


def _pieces(path: Path, edit: _Edit, before: Any) -> Iterator[bytes]:
    """The new file from its beginning: what changed, and all else copied."""
    layout = edit.layout
    with open_bytes(path) as source:
        for unit, start in zip(layout.units, layout.headers, strict=True):
            if (whole := edit.whole.get(unit.index)) is not None:
                yield whole
                continue
            yield edit.headers.get(unit.index) or source.read_at(start, unit.start - start)
            end = min(unit.start + padded(unit.n_bytes), layout.size)
            if (data := edit.data.get(unit.index)) is not None:
                yield data + canonical.padding(len(data))
                continue
            yield from _chunks(source, unit.start, end - unit.start)
        last = layout.units[-1]
        end = last.start + padded(last.n_bytes)
        if edit.appended and layout.size < end and last.index not in (*edit.data, *edit.whole):
            yield b"\0" * (end - layout.size)
        yield from edit.appended
        if layout.size > end:
            yield from _chunks(source, end, layout.size - end)
    now = path.stat()
    if before is None or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise UnreadableFrame(
            "The file changed while it was read.", next_step="Apply the mask again when it is complete."
        )


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressed(pieces: Iterator[bytes], compression: str) -> Iterator[bytes]:
    if not compression:
        yield from pieces
        return
    # A window of 31 writes gzip's frame, with no time in it.
    compressor: _Compressor = bz2.BZ2Compressor() if compression == "bz2" else zlib.compressobj(6, wbits=31)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()
