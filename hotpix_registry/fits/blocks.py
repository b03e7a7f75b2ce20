"""The bones of a FITS file: header blocks and where the data lie; standard library only.

Just enough to find pixels without the cost of importing astropy. What a header means is read elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

BLOCK = 2880
CARD = 80
_MAX_HEADER_BLOCKS = 4096

Value = bool | int | float | str
Header = dict[str, Value]


class NotFits(ValueError):
    """Bytes that are no FITS header; the message says what is wrong, without a file's name."""


class NoHeader(NotFits):
    """Bytes that do not even begin as a FITS header does."""


def padded(size: int) -> int:
    """The size rounded up to whole FITS blocks."""
    return -(-size // BLOCK) * BLOCK


def read_header(read: Callable[[int], bytes]) -> tuple[Header, int] | None:
    """Read one header from a stream standing at its start; None where the stream has ended.

    Parameters
    ----------
    read
        as `file.read`: takes a number of bytes and returns as many, fewer only at the end

    Returns
    -------
    The first value of each keyword (commentary and long-string continuations left out) and the size
    of the header in bytes.

    Raises
    ------
    NoHeader
        When it does not begin as a header does.
    NotFits
        When it has no end.
    """
    values: Header = {}
    for n_blocks in range(1, _MAX_HEADER_BLOCKS):
        block = read(BLOCK)
        if n_blocks == 1:
            if not block:
                return None
            if not block.startswith((b"SIMPLE  =", b"XTENSION=")):
                raise NoHeader("it does not begin with a FITS header")
        if len(block) < BLOCK:
            raise NotFits("it ends within its header")
        for start in range(0, BLOCK, CARD):
            card = block[start : start + CARD]
            if card.startswith(b"END") and not card[3:].strip():
                return values, n_blocks * BLOCK
            if card[8:10] == b"= ":
                keyword = card[:8].decode("ascii", "replace").strip()
                value = _value(card[10:].decode("ascii", "replace"))
                if value is not None:
                    values.setdefault(keyword, value)
    raise NotFits("its header has no end")


def _value(text: str) -> Value | None:
    text = text.strip()
    if text.startswith("'"):
        closing = 1
        while (closing := text.find("'", closing)) != -1 and text[closing : closing + 2] == "''":
            closing += 2
        return text[1 : closing if closing != -1 else None].replace("''", "'").rstrip()
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.upper().replace("D", "E"))
    except ValueError:
        return None


def integer(header: Header, keyword: str, default: int | None = None) -> int:
    """A structural keyword; integers that were written as `1.0` are accepted.

    Raises
    ------
    NotFits
        When it is missing without a default, or is no integer.
    """
    value = header.get(keyword, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
        return int(value)
    raise NotFits(f"its keyword {keyword} is missing or no integer")


def axes(header: Header, prefix: str = "") -> tuple[int, ...]:
    """NAXIS1, NAXIS2, …; with the prefix `Z` those of a compressed image.

    Raises
    ------
    NotFits
        When one is missing or impossible.
    """
    n_axes = integer(header, f"{prefix}NAXIS")
    if not 0 <= n_axes <= 999:
        raise NotFits(f"it claims to have {n_axes} axes")
    lengths = tuple(integer(header, f"{prefix}NAXIS{i}") for i in range(1, n_axes + 1))
    if any(length < 0 for length in lengths):
        raise NotFits("an axis has a negative length")
    return lengths


def data_size(header: Header) -> int:
    """Bytes of data behind a header, padding left out.

    Raises
    ------
    NotFits
        When the header does not say, or says something impossible.
    """
    lengths = axes(header)
    if not lengths:
        return 0
    if lengths[0] == 0 and header.get("GROUPS") is True:
        lengths = lengths[1:]
    n_values = integer(header, "PCOUNT", 0) + math.prod(lengths)
    size = abs(integer(header, "BITPIX")) // 8 * integer(header, "GCOUNT", 1) * n_values
    if size < 0:
        raise NotFits("its keywords PCOUNT and GCOUNT give a negative size")
    return size
