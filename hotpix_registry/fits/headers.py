"""Headers of frames: read from a file without touching its pixels, or from text kept in the registry.

An ingest looks at thousands of files that turn out to be lights, so this path imports no astropy, reads
no more than the header, and decompresses a whole file only to see whether a dark is complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotpix_registry.fits import blocks
from hotpix_registry.fits.blocks import Cards, Value, padded
from hotpix_registry.fits.streams import PlainBytes, StreamBytes, open_bytes, truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """The header of the one image in a file, with what its primary header adds.

    `cards` has upper-case keywords (`ESO DPR TYPE` for HIERARCH ones), the first occurrence of each, and
    strings without blanks around them; HISTORY and COMMENT are all their lines. A compressed image's
    NAXISn and BITPIX are those of the image, not of the table that holds it.
    """

    cards: Mapping[str, Value]
    comments: Mapping[str, str]
    text: str
    """the cards as they stand in the file, one a line; a primary header without data comes before END"""
    shape: tuple[int, int] | None
    """(ny, nx); None when the image has not two dimensions"""
    bitpix: int
    hdu: int = 0
    """index of the HDU with the image"""
    compression: str = ""
    """'', gz, bz2 or fz"""
    data_span: tuple[int, int] | None = None
    """first byte and number of bytes of the image's data, decompressed; None when read from text"""


def read_header(path: Path | str) -> FrameHeader:
    """Read the header of the only image of a FITS file, plain, `.gz`, `.bz2` or Rice-compressed.

    The image may stand in the primary HDU (whatever follows it) or in the only image extension, whose
    cards win over the primary's. Of a `.gz` or `.bz2` file only the beginning is decompressed, so that a
    mosaic whose primary header has no NEXTEND is found by `check_complete` there.

    Raises
    ------
    UnreadableFrame
        With a sentence: no such file, not FITS, truncated in its header, no image, a mosaic.
    """
    with open_bytes(path) as source:
        return header_of(source)


def header_of(source: PlainBytes | StreamBytes) -> FrameHeader:
    """As `read_header`, of a file that is open."""
    units = blocks.hdus(source.read_at)
    primary, image = blocks.choose_image(units, hasty=not isinstance(source, PlainBytes))
    own = image is not primary
    return _frame_header(
        primary.cards,
        image.cards if own else None,
        text=f"{primary.text}\nEND\n{image.text}" if own else primary.text,
        hdu=image.index,
        compression=source.compression,
        data_span=(image.start, image.n_bytes),
    )


def parse_header_text(text: str) -> FrameHeader:
    """Interpret again what `FrameHeader.text` was: the same cards, comments and shape.

    Other texts of one card a line do as well; the position in the file is not in the text.
    """
    headers: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.rstrip() == "END":
            headers.append([])
        else:
            headers[-1].append(line)
    if len(headers) > 1 and not any(line.strip() for line in headers[-1]):
        headers.pop()
    hdu = len(headers) - 1
    image = blocks.parse_cards(headers[-1]) if hdu else None
    return _frame_header(blocks.parse_cards(headers[0]), image, text=text, hdu=hdu)


def header_of_cards(given: Mapping[str, Any]) -> FrameHeader:
    """The header that a program holds: keyword → value, or → (value, comment).

    What is neither text, number nor truth is left out, as are numbers that FITS cannot hold.
    """
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    for name, content in given.items():
        value, comment = content if isinstance(content, list | tuple) and len(content) == 2 else (content, "")
        keyword = name.strip().upper().removeprefix("HIERARCH ").strip()
        if isinstance(value, str):
            values.setdefault(keyword, value.strip())
        elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            values.setdefault(keyword, value)
        else:
            continue
        if comment:
            comments.setdefault(keyword, str(comment))
    return _frame_header((values, comments), None, text="")


def check_complete(path: Path | str, header: FrameHeader) -> None:
    """Raise `UnreadableFrame` when the pixels that a file's header announces cannot all be read from it.

    A plain file is judged by its size, a `.gz` by the size in its trailer where that decides the matter.
    Else (`.bz2`, several members, further HDUs) the file is decompressed, which also shows whether it is
    a mosaic. Tiles compressed once more as a file cannot be read in strips and are refused.
    """
    with open_bytes(path) as source:
        check_source(source, header)


def check_source(source: PlainBytes | StreamBytes, header: FrameHeader) -> None:
    """As `check_complete`, of a file that is open."""
    start, n_bytes = header.data_span or (0, 0)
    end = start + n_bytes
    if isinstance(source, PlainBytes):
        size = source.size
    elif header.cards.get("ZIMAGE") is True:
        raise blocks.compressed_twice()
    elif source.stated_size in (end, padded(end)):
        return
    else:
        if header.hdu:
            blocks.choose_image(blocks.hdus(source.read_at))
        size = source.drain()
    if size < end:
        raise truncated("it ends before the image that its header announces")


# What these say holds for the HDU they stand in, and not for an image in another one.
_SCALING = ("BSCALE", "BZERO", "BLANK")


def _frame_header(
    primary: Cards,
    image: Cards | None,
    *,
    text: str,
    hdu: int = 0,
    compression: str = "",
    data_span: tuple[int, int] | None = None,
) -> FrameHeader:
    values, comments = primary
    if image is not None:
        prose: dict[str, Value] = {
            keyword: f"{values[keyword]}\n{image[0][keyword]}"
            for keyword in ("HISTORY", "COMMENT")
            if keyword in values and keyword in image[0]
        }
        # A comment belongs to its value: the primary's must not stay beside the extension's value.
        comments = {k: v for k, v in comments.items() if k not in image[0]} | image[1]
        values = {k: v for k, v in values.items() if k not in _SCALING} | image[0] | prose
    if values.get("ZIMAGE") is True:
        compression = compression or "fz"
    cards = blocks.image_values(values)
    return FrameHeader(
        cards=cards,
        comments=comments,
        text=text,
        shape=blocks.image_shape(cards),
        bitpix=blocks.whole(cards.get("BITPIX")) or 0,
        hdu=hdu,
        compression=compression,
        data_span=data_span,
    )
