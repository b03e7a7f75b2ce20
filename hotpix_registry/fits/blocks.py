"""The bones of a FITS file: cards, HDUs, and which of them is the image; standard library only.

This is the one place that decides which HDU of a file is the frame, so that what ingest catalogues is
what a build reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits.streams import COPY_AGAIN, truncated

BLOCK = 2880
CARD = 80
MAX_HEADER_BYTES = 1000 * BLOCK
"""36,000 cards; headers of 10,000 cards exist"""

Value = str | int | float | bool
Cards = tuple[dict[str, Value], dict[str, str]]
"""values and comments by keyword"""
ReadAt = Callable[[int, int], bytes]
"""takes offset and size; fewer bytes only at the end"""

MOST_HDUS = 10_000
"""of one file; a mosaic of the largest cameras has some hundreds"""

_BITPIX = (8, 16, 32, 64, -32, -64)
_MAX_LENGTH = 1_000_000
_COMPANIONS = re.compile(r"MASK|UNCERT|ERR|SIGMA|VAR|VARIANCE|DQ|WEIGHT|WHT", re.IGNORECASE)
"""names of extensions that accompany an image: CCDData's, DRAGONS', the Rubin pipelines'"""


def padded(size: int) -> int:
    """The size rounded up to whole FITS blocks."""
    return -(-size // BLOCK) * BLOCK


# --- HDUs -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HDU:
    """A header, and where its data lie."""

    index: int
    cards: Cards
    text: str
    """one card a line, without END"""
    start: int
    n_bytes: int
    """of the data, without their padding"""

    @property
    def values(self) -> dict[str, Value]:
        return self.cards[0]

    @property
    def is_compressed(self) -> bool:
        """Whether it is a table of the compressed tiles of an image."""
        return self.values.get("XTENSION") in ("BINTABLE", "A3DTABLE") and self.values.get("ZIMAGE") is True

    @property
    def is_image(self) -> bool:
        plain = self.values.get("XTENSION", "IMAGE") in ("IMAGE", "IUEIMAGE")
        groups = self.values.get("GROUPS") is True
        return self.n_bytes > 0 and (self.is_compressed or (plain and not groups))

    @property
    def is_companion(self) -> bool:
        """Whether its name says that it accompanies the image: a mask, an uncertainty, weights."""
        return _COMPANIONS.fullmatch(str(self.values.get("EXTNAME", ""))) is not None


def hdus(read_at: ReadAt) -> Iterator[HDU]:
    """The HDUs of a file in order, at least the primary; reads headers only.

    It ends at the end of the file and at special records behind the last HDU, which the standard allows.

    Raises
    ------
    UnreadableFrame
        When a header is none, has no end, or does not say how long its data are; when there is no end of
        headers.
    """
    position = index = 0
    while (found := _read_header(read_at, position, first=index == 0)) is not None:
        if index == MOST_HDUS:
            raise UnreadableFrame(
                f"The file has more than {MOST_HDUS:,} HDUs.",
                next_step="It is damaged, or no camera's; leave it out.",
            )
        lines, length = found
        cards = parse_cards(lines)
        n_bytes = _data_bytes(cards[0])
        position += length
        yield HDU(index, cards, "\n".join(line.rstrip() for line in lines), position, n_bytes)
        position += padded(n_bytes)
        index += 1


def choose_image(units: Iterable[HDU], *, hasty: bool = False) -> tuple[HDU, HDU]:
    """The primary HDU of a file, and the HDU that is the frame: the primary or the only image extension.

    Masks, uncertainties and weights, known by their names, do not count as long as there is an image
    beside them. `hasty` goes no further than the first image where the primary header does not announce
    several extensions; the image is the same, but a mosaic is not noticed.

    Raises
    ------
    UnreadableFrame
        When there is no image, or several.
    """
    rest = iter(units)
    primary = next(rest)
    if primary.is_image:
        return primary, primary
    image: HDU | None = None
    n_images = 0
    for unit in rest:
        if not unit.is_image:
            continue
        if image is None or (image.is_companion and not unit.is_companion):
            image = unit
        n_images += not unit.is_companion
        if hasty and n_images and primary.values.get("NEXTEND", 1) == 1:
            break
    if image is None:
        raise UnreadableFrame(
            "The file holds no image, only an empty primary header or tables.",
            next_step="Leave it out, or give the file that holds the frame.",
        )
    if n_images > 1:
        raise UnreadableFrame(
            f"The file is a mosaic of {n_images} images, which is not supported.",
            next_step="Split it into one file per detector.",
        )
    return primary, image


def compressed_twice() -> UnreadableFrame:
    """The error of tiles in a compressed file: strips of rows would each decompress all of it."""
    return UnreadableFrame(
        "The file is compressed twice, in tiles and as a whole.",
        next_step="Undo one of them with gunzip or bunzip2.",
    )


def image_values(values: Mapping[str, Value]) -> Mapping[str, Value]:
    """A header's values with BITPIX and NAXISn of the image, also where a table holds its tiles."""
    if values.get("ZIMAGE") is not True:
        return values
    own = {k: v for k, v in values.items() if k != "BITPIX" and not k.startswith("NAXIS")}
    own |= {match[1]: v for k, v in values.items() if (match := _AXIS.fullmatch(k))}
    if "ZBLANK" in values:
        own.setdefault("BLANK", values["ZBLANK"])
    return own


_AXIS = re.compile(r"Z(BITPIX|NAXIS\d*)")


def image_shape(values: Mapping[str, Value]) -> tuple[int, int] | None:
    """(ny, nx) by `image_values`; None when the image has not two axes, further ones of length 1 aside."""
    naxis = whole(values.get("NAXIS", 2))
    if naxis is None or not 2 <= naxis <= 999:
        return None
    nx, ny, *others = (whole(values.get(f"NAXIS{i}")) for i in range(1, naxis + 1))
    if nx is None or ny is None or any(length != 1 for length in others):
        return None
    return (ny, nx) if 1 <= nx <= _MAX_LENGTH and 1 <= ny <= _MAX_LENGTH else None


def whole(value: Value | None) -> int | None:
    """A card's whole number, also where it was written as `16.0`; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        return None
    return int(value)


def _data_bytes(values: Mapping[str, Value]) -> int:
    """Bytes of an HDU's data, from its structural keywords."""
    naxis, bitpix = whole(values.get("NAXIS")), whole(values.get("BITPIX"))
    if naxis is None or not 0 <= naxis <= 999 or bitpix not in _BITPIX:
        raise UnreadableFrame(
            f"The file is no valid FITS: BITPIX = {values.get('BITPIX')}, NAXIS = {values.get('NAXIS')}.",
            next_step="Write it again with the program that made it.",
        )
    axes = [whole(values.get(f"NAXIS{i}")) for i in range(1, naxis + 1)]
    lengths = [length for length in axes if length is not None and length >= 0]
    if len(lengths) < naxis:
        raise UnreadableFrame(
            f"The file is no valid FITS: the lengths of its axes are {axes}.",
            next_step="Write it again with the program that made it.",
        )
    if values.get("GROUPS") is True and lengths[:1] == [0]:
        del lengths[0]
    if not lengths or 0 in lengths:
        return 0
    extra, groups = whole(values.get("PCOUNT", 0)), whole(values.get("GCOUNT", 1))
    if extra is None or groups is None or extra < 0 or groups < 0:
        extra, groups = 0, 1
    return abs(bitpix) // 8 * groups * (extra + math.prod(lengths))


# --- headers ----------------------------------------------------------------


def _read_header(read_at: ReadAt, offset: int, *, first: bool) -> tuple[list[str], int] | None:
    """The cards before END, and the length of the header with its padding; None where no header begins."""
    # Block by block, since a compressed stream cannot step back.
    data = bytearray(read_at(offset, BLOCK))
    if not data.startswith(b"SIMPLE" if first else b"XTENSION"):
        if first:
            raise _not_fits(data)
        return None
    searched = 0
    while (end := _find_end(data, searched)) is None:
        if len(data) > MAX_HEADER_BYTES:
            raise UnreadableFrame(
                f"The file has a header without END among its first {MAX_HEADER_BYTES // CARD:,} cards.",
                next_step="It is damaged, or no camera's; leave it out.",
            )
        searched = len(data) - len(data) % CARD
        chunk = read_at(offset + len(data), BLOCK)
        if not chunk:
            raise truncated("it ends within its header")
        data += chunk
    return _decode(bytes(data[:end])), padded(end + CARD)


def _not_fits(data: bytes | bytearray) -> UnreadableFrame:
    if not data:
        return UnreadableFrame("The file is empty (zero bytes).", next_step=COPY_AGAIN)
    return UnreadableFrame(
        "The file is no FITS file: it does not begin with a FITS header.",
        next_step="Leave it out, or convert it to FITS.",
    )


def _find_end(data: bytearray, start: int) -> int | None:
    while (start := data.find(b"END", start)) != -1:
        if start % CARD == 0 and not data[start + 3 : start + 8].strip(b" \0"):
            return start
        start += 1
    return None


_PRINTABLE = bytes(range(32, 127))


def _decode(block: bytes) -> list[str]:
    if not block.translate(None, _PRINTABLE):
        text = block.decode("ascii")
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


# --- cards ------------------------------------------------------------------

_STRING = re.compile(r"'((?:[^']|'')*)(?:'\s*(?:/(.*))?|$)")
_NUMBER = re.compile(r"([+-]?\d{1,18})|[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?", re.ASCII)
_LOOSE = re.compile(r"\s*([A-Za-z0-9_-]{1,8})\s*=(.*)")


def parse_cards(lines: Iterable[str], *, strip: bool = True) -> Cards:
    """Values and comments of cards; `strip` takes blanks before strings off, which the standard keeps."""
    values: dict[str, Value] = {}
    comments: dict[str, str] = {}
    prose: dict[str, list[str]] = {}
    long: dict[str, list[str]] = {}
    """by keyword the pieces of strings that are continued, each with its &"""
    continued = ""
    for line in lines:
        keyword = line[:8].rstrip().upper()
        if continued and keyword == "CONTINUE":
            value, _ = _parse_value(line[8:])
            piece = str(value if value is not None else "")
            long[continued].append(piece)
            continued = continued if piece.endswith("&") else ""
            continue
        continued = ""
        if keyword in ("HISTORY", "COMMENT"):
            prose.setdefault(keyword, []).append(line[8:].strip())
            continue
        keyword, field = _split(keyword, line)
        if not keyword or keyword in values:
            continue
        value, comment = _parse_value(field)
        if value is None:
            continue
        if isinstance(value, str):
            if value.endswith("&"):
                continued = keyword
                long[keyword] = [value]
            value = value.strip() if strip else value
        values[keyword] = value
        if comment:
            comments[keyword] = comment
    for keyword, pieces in long.items():
        if len(pieces) > 1:
            value = "".join(piece.removesuffix("&") for piece in pieces)
            values[keyword] = value.strip() if strip else value
    for keyword, said in prose.items():
        values[keyword] = "\n".join(said)
    return values, comments


def keyword_of(card: bytes) -> str:
    """The keyword under which `parse_cards` has a card's value, however it is written; '' if it has none."""
    line = _decode_card(card)
    return _split(line[:8].rstrip().upper(), line)[0]


def _split(keyword: str, line: str) -> tuple[str, str]:
    """Keyword of a card that begins with one, or does not, and the field of its value."""
    if line[8:9] == "=" and keyword:
        return keyword, line[9:]
    if keyword == "HIERARCH" and "=" in line:
        name, _, field = line[8:].partition("=")
        return " ".join(name.split()).upper(), field
    if match := _LOOSE.match(line):
        return match[1].upper(), match[2]
    return "", ""


def _parse_value(field: str) -> tuple[Value | None, str]:
    """Value (None: undefined) and comment of a card's field; what is no value is taken as a string."""
    field = field.strip()
    if field.startswith("'"):
        match = _STRING.match(field)
        if match is None:
            return field[1:].rstrip("'"), ""
        return match[1].replace("''", "'").rstrip(), (match[2] or "").strip()
    word, _, comment = field.partition("/")
    word, comment = word.strip(), comment.strip()
    if not word:
        return None, comment
    if word in ("T", "F"):
        return word == "T", comment
    number = _NUMBER.fullmatch(word)
    if number is None:
        return word, comment
    if number[1]:
        return int(word), comment
    return float(word.upper().replace("D", "E")), comment
