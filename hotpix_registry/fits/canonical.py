"""FITS written byte for byte the same, whatever the libraries: the digest of a mask file is its identity.

Headers, tables and checksums are simple enough to write by hand, and must not change with the version of
a library, the clock, or the machine. References: FITS standard 4.0; Seaman, Pence and Rots, "FITS
Checksum Proposal" (2002), adopted in its section 4.4.2.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import canonical_json
from hotpix_registry.fits.blocks import CARD, HDU, padded, whole

Card = tuple[str, bool | int | float | str | None, str]
"""keyword, value, comment; a value of None leaves the card out"""

_TEXT = 67
"""characters of a string in one card that is continued"""
_QUOTE_BEFORE_SLASH = re.compile(r"'(?=\s*/)")
"""astropy ends a string at a quote that a slash follows, though the quote is doubled as it should be"""
_DTYPES = {"J": ">i4", "K": ">i8", "D": ">f8"}
_TFORM = re.compile(r"(\d{1,6})A|1([JKD])")
_NOT_ALPHANUMERIC = frozenset((*range(0x3A, 0x41), *range(0x5B, 0x61)))


def rounded(value: float) -> float:
    """A measured number to six significant digits."""
    return float(f"{value:.6g}")


def ascii_text(text: str) -> str:
    """Text as FITS can hold it: other characters become escapes such as `\\xe9`."""
    escaped = _QUOTE_BEFORE_SLASH.sub(r"\\x27", text).encode("ascii", "backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", escaped)


def json_text(value: Any) -> str:
    """Canonical JSON that survives as a FITS string, and reads back as the same value."""
    return _QUOTE_BEFORE_SLASH.sub(r"\\u0027", canonical_json(value))


def header(cards: Iterable[Card], *, data_sum: int) -> bytes:
    """A whole header in blocks of 2880 bytes, with DATASUM and CHECKSUM.

    Cards of the keywords HISTORY and COMMENT carry their text as value, at most 72 characters.
    `data_sum` is the `ones_complement_sum` of the data behind it.
    """
    lines = [line for card in cards if card[1] is not None for line in card_lines(*card)]
    lines += card_lines("DATASUM", str(data_sum), "32-bit sum of the data")
    lines += card_lines("CHECKSUM", "0" * 16, "makes the sum of the HDU zero")
    return seal([f"{line:<{CARD}}".encode("ascii") for line in lines], data_sum=data_sum)


def seal(cards: Iterable[bytes], *, data_sum: int) -> bytes:
    """Cards of 80 bytes as a whole header; a CHECKSUM of sixteen zeros among them gets its value."""
    joined = b"".join((*cards, f"{'END':<{CARD}}".encode()))
    block = joined + padding(len(joined), b" ")
    total = _fold(data_sum + ones_complement_sum(block))
    return block.replace(b"CHECKSUM= '" + b"0" * 16, b"CHECKSUM= '" + _checksum(total), 1)


def padding(size: int, fill: bytes = b"\0") -> bytes:
    """What fills data of this size up to a whole block."""
    return fill * (padded(size) - size)


def ones_complement_sum(data: bytes | NDArray[Any]) -> int:
    """The 32-bit ones' complement sum of bytes that are a multiple of four, as CHECKSUM takes it."""
    return _fold(int(np.frombuffer(data, ">u4").sum(dtype=np.uint64)))


def add_sums(sums: Iterable[int]) -> int:
    """The sum of parts that lie one after the other."""
    return _fold(sum(sums))


def table(name: str, columns: Sequence[tuple[str, str, str, Sequence[Any]]]) -> bytes:
    """A binary table extension as bytes.

    Parameters
    ----------
    columns
        name, format, unit and values of each; the format is `A` (text, as wide as needed), `J` (int32),
        `K` (int64) or `D` (float64)
    """
    formats, fields = [], []
    for _, kind, _, values in columns:
        if kind == "A":
            texts = [ascii_text(value).encode() for value in values]
            width = max((len(text) for text in texts), default=0) or 1
            formats.append(f"{width}A")
            fields.append(np.array(texts, f"S{width}"))
        else:
            formats.append(f"1{kind}")
            fields.append(np.array(values, _DTYPES[kind]))
    rows = np.zeros(
        len(fields[0]), [(column[0], field.dtype) for column, field in zip(columns, fields, strict=True)]
    )
    for column, field in zip(columns, fields, strict=True):
        rows[column[0]] = field
    data = rows.tobytes()
    data += padding(len(data))
    cards: list[Card] = [
        ("XTENSION", "BINTABLE", "binary table"),
        ("BITPIX", 8, "bytes"),
        ("NAXIS", 2, ""),
        ("NAXIS1", rows.dtype.itemsize, "bytes in a row"),
        ("NAXIS2", len(rows), "rows"),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("TFIELDS", len(columns), "columns"),
        ("EXTNAME", name, ""),
    ]
    for i, ((column_name, _, unit, _), tform) in enumerate(zip(columns, formats, strict=True), start=1):
        cards += [(f"TTYPE{i}", column_name, ""), (f"TFORM{i}", tform, ""), (f"TUNIT{i}", unit or None, "")]
    return header(cards, data_sum=ones_complement_sum(data)) + data


def read_table(file: bytes, unit: HDU) -> list[dict[str, Any]]:
    """The rows of a table that `table` wrote, by the names of its columns.

    Raises
    ------
    KeyError
        A keyword that describes the table is missing.
    ValueError
        It is no such table, or ends before its rows.
    """
    values = unit.values
    columns = []
    for i in range(1, (whole(values["TFIELDS"]) or 0) + 1):
        form = _TFORM.fullmatch(str(values[f"TFORM{i}"]))
        if form is None:
            raise ValueError(f"TFORM{i} is of no table of this program")
        columns.append((str(values[f"TTYPE{i}"]), _DTYPES.get(form[2]) or f"S{form[1]}"))
    row_type = np.dtype(columns)
    if row_type.itemsize != values["NAXIS1"] or not row_type.itemsize:
        raise ValueError(f"the rows of its table have {values['NAXIS1']} bytes and not {row_type.itemsize}")
    rows = np.frombuffer(file, row_type, whole(values["NAXIS2"]) or 0, unit.start)
    return [
        {
            name: item.decode("ascii").rstrip() if isinstance(item, bytes) else item
            for name, item in zip(row_type.names or (), row, strict=True)
        }
        for row in rows.tolist()
    ]


def card_lines(keyword: str, value: bool | int | float | str | None, comment: str) -> list[str]:
    """The card of a keyword, of at most 80 characters, with those that continue a long string."""
    if keyword in ("HISTORY", "COMMENT"):
        return [f"{keyword:<8}{ascii_text(str(value))}"[:CARD]]
    if isinstance(value, str):
        return _text_lines(keyword, ascii_text(value), comment)
    if isinstance(value, bool):
        text = "T" if value else "F"
    elif isinstance(value, float):
        text = repr(value).upper()
    else:
        text = str(value)
    return [_with_comment(f"{keyword:<8}= {text:>20}", comment)]


def _text_lines(keyword: str, text: str, comment: str) -> list[str]:
    quoted = text.replace("'", "''")
    if len(quoted) <= _TEXT + 1:
        return [_with_comment(f"{keyword:<8}= " + f"'{quoted:<8}'".ljust(20), comment)]
    pieces = []
    while quoted:
        piece = quoted[:_TEXT]
        if piece.count("'") % 2:  # a doubled quote must not be torn apart
            piece = piece[:-1]
        pieces.append(piece)
        quoted = quoted[len(piece) :]
    lines = [f"CONTINUE  '{piece}&'" for piece in pieces]
    lines[0] = lines[0].replace("CONTINUE  ", f"{keyword:<8}= ", 1)
    lines[-1] = lines[-1].removesuffix("&'") + "'"
    return lines


def _with_comment(line: str, comment: str) -> str:
    return f"{line} / {comment}"[:CARD].rstrip() if comment else line


def _fold(total: int) -> int:
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _checksum(total: int) -> bytes:
    """Sixteen letters and digits that bring the sum of an HDU to minus zero."""
    letters = bytearray(16)
    for i, byte in enumerate((~total & 0xFFFFFFFF).to_bytes(4, "big")):
        quarters = [byte // 4 + 0x30] * 4
        quarters[0] += byte % 4
        while any(quarter in _NOT_ALPHANUMERIC for quarter in quarters):
            for j in (0, 2):
                if quarters[j] in _NOT_ALPHANUMERIC or quarters[j + 1] in _NOT_ALPHANUMERIC:
                    quarters[j] += 1
                    quarters[j + 1] -= 1
        letters[i::4] = bytes(quarters)
    return bytes(letters[-1:] + letters[:-1])
