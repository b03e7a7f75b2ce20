"""Headers of frames: read from a file without touching its pixels, or from text kept in the registry.

An ingest looks at thousands of files that turn out to be lights, so this path imports no astropy, reads
no more than the header, and never decompresses a whole file.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeGuard, cast

from hotpix_registry.errors import UnreadableFrame

Value = str | int | float | bool

BLOCK = 2880
CARD = 80
MAX_HEADER_BYTES = 1000 * BLOCK
"""36,000 cards; headers of 10,000 cards exist"""

_CHUNK = 4 * BLOCK
_BITPIX = (8, 16, 32, 64, -32, -64)
_COMPANIONS = re.compile(r"MASK|UNCERT|ERR|SIGMA|VAR|VARIANCE|DQ|WEIGHT|WHT", re.IGNORECASE)
"""names of extensions that accompany an image: CCDData's, DRAGONS', the Rubin pipelines'"""

_COPY_AGAIN = "Copy it again from the camera or the archive."


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
    path = Path(path)
    try:
        with _open(path) as (stream, size, compression):
            return _read_header(stream, size, compression)
    except OSError as error:
        raise _unreadable(error) from None
    except (EOFError, zlib.error):
        raise _damaged() from None


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
    image = _parse_cards(headers[-1]) if hdu else None
    return _frame_header(_parse_cards(headers[0]), image, text=text, hdu=hdu)


def check_complete(path: Path | str, header: FrameHeader, *, decompress: bool = False) -> None:
    """Raise `UnreadableFrame` when the file ends before the image that its header announces.

    A plain file is judged by its size. A `.gz` is judged by the size in its trailer where that decides
    the matter, and decompressed where not (several members, further HDUs); a `.bz2` is decompressed when
    asked, or when only that shows whether the file is a mosaic.
    """
    path = Path(path)
    start, n_bytes = header.data_span or (0, 0)
    try:
        if header.compression not in ("gz", "bz2"):
            if path.stat().st_size < start + n_bytes:
                raise _truncated()
        elif header.compression == "gz" and _gzip_size(path) in (start + n_bytes, _padded(start + n_bytes)):
            return
        elif header.compression == "gz" or decompress or header.hdu:
            _walk_to_the_end(path, header)
    except OSError as error:
        raise _unreadable(error) from None
    except (EOFError, zlib.error):
        raise _damaged() from None


# --- files ------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], int | None, str]]:
    """The decompressed bytes, the size of the file (None: compressed, not known), the compression."""
    about = path.stat()
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(about.st_mode):
        # Opening a pipe would wait for somebody to write into it.
        raise UnreadableFrame("This is a device or a pipe, not a file.", next_step="Give files and folders.")
    with path.open("rb", buffering=0) as file:
        magic = file.read(3)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)), None, "gz"
        elif magic == b"BZh":
            yield cast("IO[bytes]", bz2.BZ2File(file)), None, "bz2"
        else:
            yield file, about.st_size, ""


def _read_header(stream: IO[bytes], size: int | None, compression: str) -> FrameHeader:
    units = _hdus(stream, size)
    first = next(units)
    if first.n_bytes:
        return _frame_header(
            first.cards,
            None,
            text=first.text,
            compression=compression,
            data_span=(first.start, first.n_bytes),
        )
    image: _HDU | None = None
    n_images = 0
    for unit in filter(_is_image, units):
        if image is None or (_is_companion(image) and not _is_companion(unit)):
            image = unit
        n_images += not _is_companion(unit)
        if size is None and n_images and first.cards[0].get("NEXTEND", 1) == 1:
            break
    if image is None:
        raise UnreadableFrame(
            "The file holds no image, only an empty primary header or tables.",
            next_step="Leave it out, or give the file that holds the frame.",
        )
    if n_images > 1:
        raise _mosaic(n_images)
    return _frame_header(
        first.cards,
        image.cards,
        text=f"{first.text}\nEND\n{image.text}",
        hdu=image.index,
        compression=compression,
        data_span=(image.start, image.n_bytes),
    )


@dataclass(frozen=True, slots=True)
class _HDU:
    index: int
    cards: tuple[dict[str, Value], dict[str, str]]
    text: str
    start: int
    n_bytes: int


def _is_image(unit: _HDU) -> bool:
    values = unit.cards[0]
    kind = values.get("XTENSION")
    compressed = kind in ("BINTABLE", "A3DTABLE") and values.get("ZIMAGE") is True
    return unit.n_bytes > 0 and (compressed or kind in ("IMAGE", "IUEIMAGE"))


def _is_companion(unit: _HDU) -> bool:
    return _COMPANIONS.fullmatch(str(unit.cards[0].get("EXTNAME", ""))) is not None


def _hdus(stream: IO[bytes], size: int | None) -> Iterator[_HDU]:
    """The HDUs of a file in order; ends quietly at the end of the file or at anything that is no HDU."""
    position, index = 0, 0
    while True:
        # A compressed stream is read block by block, since it cannot step back.
        lines, length = _read_cards(stream, BLOCK if size is None else _CHUNK, first=index == 0)
        if not lines:
            return
        cards = _parse_cards(lines)
        n_bytes = _data_bytes(cards[0])
        position += length
        yield _HDU(index, cards, "\n".join(line.rstrip() for line in lines), position, n_bytes)
        position += _padded(n_bytes)
        if size is not None and position >= size:
            return
        stream.seek(position)
        index += 1


def _read_cards(stream: IO[bytes], chunk_size: int, *, first: bool) -> tuple[list[str], int]:
    """The cards before END, and the length of the header with its padding; ([], 0) at the file's end."""
    begin = b"SIMPLE" if first else b"XTENSION"
    origin = stream.tell()
    data = b""
    searched = 0
    while True:
        chunk = stream.read(chunk_size)
        data += chunk
        if not searched and not data.startswith(begin):
            if first:
                raise _not_fits(data)
            return [], 0
        if (end := _find_end(data, searched)) is not None:
            break
        if not chunk:
            if first:
                raise UnreadableFrame(
                    "The file is truncated: it ends within its header.", next_step=_COPY_AGAIN
                )
            return [], 0
        if len(data) > MAX_HEADER_BYTES:
            raise UnreadableFrame(
                f"The header has no END among its first {MAX_HEADER_BYTES // CARD:,} cards.",
                next_step="It is damaged, or no camera's; leave it out.",
            )
        searched = len(data) - len(data) % CARD
    length = _padded(end + CARD)
    if len(data) != length:
        stream.seek(origin + length)
    return _decode(data[:end]), length


def _find_end(data: bytes, start: int) -> int | None:
    while (start := data.find(b"END", start)) != -1:
        if start % CARD == 0 and not data[start + 3 : start + 8].strip(b" \0"):
            return start
        start += 1
    return None


def _decode(block: bytes) -> list[str]:
    if block.isascii() and (text := block.decode("ascii")).isprintable():
        return [text[i : i + CARD] for i in range(0, len(text), CARD)]
    return [_decode_card(block[i : i + CARD]) for i in range(0, len(block), CARD)]


_CONTROL = dict.fromkeys((*range(32), *range(127, 160), 8232, 8233), " ")


def _decode_card(card: bytes) -> str:
    """One card as text that a database can keep: control characters, zeros among them, become blanks."""
    try:
        text = card.decode("utf-8")
    except UnicodeDecodeError:
        text = card.decode("latin-1")
    return text if text.isprintable() else text.translate(_CONTROL)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _is_bitpix(value: Value | None) -> TypeGuard[int]:
    return isinstance(value, int) and value in _BITPIX


def _data_bytes(values: Mapping[str, Value]) -> int:
    """Bytes of an HDU's data, from its structural keywords."""
    naxis, bitpix = values.get("NAXIS"), values.get("BITPIX")
    if not isinstance(naxis, int) or not 0 <= naxis <= 999 or not _is_bitpix(bitpix):
        raise UnreadableFrame(
            f"The header is no valid FITS: BITPIX = {bitpix}, NAXIS = {naxis}.",
            next_step="Write the file again with the program that made it.",
        )
    axes = [values.get(f"NAXIS{i}") for i in range(1, naxis + 1)]
    if not all(isinstance(axis, int) and axis >= 0 for axis in axes):
        raise UnreadableFrame(
            f"The header is no valid FITS: the lengths of its axes are {axes}.",
            next_step="Write the file again with the program that made it.",
        )
    if not axes or 0 in axes:
        return 0
    extra, groups = values.get("PCOUNT", 0), values.get("GCOUNT", 1)
    if not isinstance(extra, int) or not isinstance(groups, int) or extra < 0 or groups < 0:
        extra, groups = 0, 1
    return abs(bitpix) // 8 * groups * (extra + math.prod(cast("list[int]", axes)))


def _gzip_size(path: Path) -> int:
    """Size modulo 2**32 that the last member of a gzip file says it unpacks to."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _walk_to_the_end(path: Path, header: FrameHeader) -> None:
    start, n_bytes = header.data_span or (0, 0)
    with _open(path) as (stream, size, _):
        if header.hdu:
            n_images = sum(_is_image(unit) and not _is_companion(unit) for unit in _hdus(stream, size))
            if n_images > 1:
                raise _mosaic(n_images)
        total = stream.tell()
        while chunk := stream.read(1 << 20):
            total += len(chunk)
    if total < start + n_bytes:
        raise _truncated()


def _mosaic(n_images: int) -> UnreadableFrame:
    return UnreadableFrame(
        f"The file is a mosaic of {n_images} images, which is not supported.",
        next_step="Split it into one file per detector.",
    )


def _truncated() -> UnreadableFrame:
    return UnreadableFrame(
        "The file is truncated: it ends before the image that its header announces.", next_step=_COPY_AGAIN
    )


def _damaged() -> UnreadableFrame:
    return UnreadableFrame(
        "The compressed file is truncated or damaged: it cannot be unpacked.", next_step=_COPY_AGAIN
    )


def _not_fits(data: bytes) -> UnreadableFrame:
    if not data:
        return UnreadableFrame("The file is empty (zero bytes).", next_step=_COPY_AGAIN)
    return UnreadableFrame(
        "The file is no FITS file: it does not begin with SIMPLE.",
        next_step="Leave it out, or convert it to FITS.",
    )


def _unreadable(error: OSError) -> UnreadableFrame:
    if isinstance(error, FileNotFoundError):
        return UnreadableFrame("There is no such file.", next_step="Check the path.")
    if isinstance(error, IsADirectoryError):
        return UnreadableFrame("This is a folder, not a file.", next_step="Give -r to read a folder.")
    if isinstance(error, PermissionError):
        return UnreadableFrame(
            "The file may not be read by this user.", next_step="Change its permissions or run as its owner."
        )
    if error.errno is None:
        return _damaged()
    return UnreadableFrame(
        f"The file cannot be read: {error.strerror}.", next_step="Check the disk it is on."
    )


# --- cards ------------------------------------------------------------------

_STRING = re.compile(r"'((?:[^']|'')*)(?:'\s*(?:/(.*))?|$)")
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?", re.ASCII)
_LOOSE = re.compile(r"\s*([A-Za-z0-9_-]{1,8})\s*=(.*)")
_AXIS = re.compile(r"Z(BITPIX|NAXIS\d*)")


def _parse_cards(lines: list[str]) -> tuple[dict[str, Value], dict[str, str]]:
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    prose: dict[str, list[str]] = {}
    continued: tuple[str, str] | None = None
    for line in lines:
        keyword = line[:8].rstrip().upper()
        if continued and keyword == "CONTINUE":
            value, _ = _parse_value(line[8:])
            long = continued[1][:-1] + str(value if value is not None else "")
            values[continued[0]] = long.removesuffix("&").strip()
            continued = (continued[0], long) if long.endswith("&") else None
            continue
        continued = None
        if keyword in ("HISTORY", "COMMENT"):
            prose.setdefault(keyword, []).append(line[8:].strip())
            continue
        if line[8:9] == "=" and keyword:
            field = line[9:]
        elif keyword == "HIERARCH" and "=" in line:
            name, _, field = line[8:].partition("=")
            keyword = " ".join(name.split()).upper()
        elif match := _LOOSE.match(line):
            keyword, field = match[1].upper(), match[2]
        else:
            continue
        if keyword in values:
            continue
        value, comment = _parse_value(field)
        if value is None:
            continue
        if isinstance(value, str):
            if value.endswith("&"):
                continued = (keyword, value)
            value = value.strip()
        values[keyword] = value
        if comment:
            comments[keyword] = comment
    for keyword, said in prose.items():
        values[keyword] = "\n".join(said)
    return values, comments


def _parse_value(field: str) -> tuple[Value | None, str]:
    """Value (None: undefined) and comment of a card's field; what is no value is taken as a string."""
    field = field.strip()
    if field.startswith("'"):
        match = _STRING.match(field)
        if match is None:
            return field[1:].rstrip("'"), ""
        return match[1].replace("''", "'").rstrip(), (match[2] or "").strip()
    token, _, comment = field.partition("/")
    token, comment = token.strip(), comment.strip()
    if not token:
        return None, comment
    if token in ("T", "F"):
        return token == "T", comment
    if _INTEGER.fullmatch(token):
        return int(token), comment
    if _FLOAT.fullmatch(token):
        return float(token.upper().replace("D", "E")), comment
    return token, comment


def _frame_header(
    primary: tuple[dict[str, Value], dict[str, str]],
    image: tuple[dict[str, Value], dict[str, str]] | None,
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
        values = values | image[0] | prose
    if values.get("ZIMAGE") is True:
        values = {k: v for k, v in values.items() if k != "BITPIX" and not k.startswith("NAXIS")} | {
            match[1]: v for k, v in values.items() if (match := _AXIS.fullmatch(k))
        }
        compression = compression or "fz"
    bitpix = values.get("BITPIX")
    return FrameHeader(
        cards=values,
        comments=comments,
        text=text,
        shape=_shape(values),
        bitpix=bitpix if isinstance(bitpix, int) else 0,
        hdu=hdu,
        compression=compression,
        data_span=data_span,
    )


def _shape(values: Mapping[str, Value]) -> tuple[int, int] | None:
    naxis = values.get("NAXIS", 2)
    nx, ny = values.get("NAXIS1"), values.get("NAXIS2")
    if not (isinstance(naxis, int) and 2 <= naxis <= 999 and isinstance(nx, int) and isinstance(ny, int)):
        return None
    if nx < 1 or ny < 1 or any(values.get(f"NAXIS{i}") != 1 for i in range(3, naxis + 1)):
        return None
    return ny, nx
