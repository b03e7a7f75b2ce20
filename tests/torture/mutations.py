"""Changes to inputs that keep enough of their form to get past the first check."""

from __future__ import annotations

import bz2
import gzip
import random
import zlib
from collections.abc import Callable, Sequence

BLOCK, CARD = 2880, 80

Mutate = Callable[[bytes, random.Random], bytes]


def raw_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice((1, 1, 2, 4, 80, 2880)))
        match rng.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end]
            case 3:
                changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
            case _ if at < len(changed):
                changed[at] = rng.choice(b"\x00\xff\x80\x7f '/=\n[]{}")
    return bytes(changed)


def pieces(separator: bytes, words: Sequence[bytes]) -> Mutate:
    """Lines, or other pieces, moved, doubled, dropped, or with a word put in their place."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        parts = data.split(separator)
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                parts[at] = rng.choice(words)
            case 1:
                parts.insert(at, rng.choice(words))
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts.insert(at, parts[other])
            case 4:
                del parts[at]
            case _:
                parts[at] = raw_bytes(parts[at], rng)
        return separator.join(parts)

    return mutate


def repeated(data: bytes, rng: random.Random) -> bytes:
    """One short piece many times over: what recurses, or counts, has its depth tried."""
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.choice((1, 1, 2, 3))]
    return data[:at] + piece * rng.choice((8, 100, 1200, 5000)) + data[at:]


# --- FITS -------------------------------------------------------------------

VALUES = (
    *(b"0", b"1", b"-1", b"2", b"8", b"16", b"-32", b"-64", b"64", b"3", b"999", b"1000", b"65535", b"32768"),
    *(b"2147483647", b"2147483648", b"4294967296", b"9223372036854775807", b"999999999999999999", b"1000000"),
    *(b"1E400", b"-1E400", b"1D308", b"NaN", b"INF", b"1.5", b"16.0", b"T", b"F", b"", b"''", b"'&'", b"'"),
    *(
        b"'a''b'",
        b"'Dark Frame'",
        b"'BIAS'",
        b"'2018-08-22T04:00:00.123456789'",
        b"'2018-13-45'",
        b"'22/08/99'",
    ),
    *(
        b"'9999-12-31T23:59:60'",
        b"'0001-01-01'",
        b"'[1:8,1:6]'",
        b"'[0:99999999999999999999,:]'",
        b"'BINTABLE'",
    ),
    *(b"'IMAGE'", b"'RICE_1'", b"'GZIP_2'", b"'HCOMPRESS_1'", b"'PLIO_1'", b"'1PB(99)'", b"'1QB'", b"'MASK'"),
    *(b"'\xc3\xa9\xff\x00'", b"'" + b"x" * 66 + b"&'", b"1" * 60, b"58352.17", b"2458352.67"),
)
KEYWORDS = (
    *(b"SIMPLE", b"XTENSION", b"BITPIX", b"NAXIS", b"NAXIS1", b"NAXIS2", b"NAXIS3", b"PCOUNT", b"GCOUNT"),
    *(b"GROUPS", b"EXTEND", b"NEXTEND", b"EXTNAME", b"BSCALE", b"BZERO", b"BLANK", b"TFIELDS", b"TFORM1"),
    *(b"THEAP", b"ZIMAGE", b"ZBITPIX", b"ZNAXIS", b"ZNAXIS1", b"ZNAXIS2", b"ZTILE1", b"ZTILE2", b"ZCMPTYPE"),
    *(b"ZNAME1", b"ZVAL1", b"ZBLANK", b"ZQUANTIZ", b"EXPTIME", b"DATE-OBS", b"TIME-OBS", b"MJD-OBS", b"JD"),
    *(b"TIMESYS", b"IMAGETYP", b"SET-TEMP", b"CCD-TEMP", b"XBINNING", b"YBINNING", b"XORGSUBF", b"YORGSUBF"),
    *(b"GAIN", b"EGAIN", b"OFFSET", b"INSTRUME", b"SWCREATE", b"NCOMBINE", b"BIASSEC", b"TRIMSEC", b"BUNIT"),
    *(b"ROWORDER", b"BAYERPAT", b"MP_BAD", b"ORIGIN", b"CHECKSUM", b"DATASUM", b"HPXMASK", b"END"),
)
ODD_CARDS = (
    *(
        b"HIERARCH ESO DET READ CURNAME = 'x'",
        b"HIERARCH = 1",
        b"HIERARCH  a b c=1/2/3",
        b"CONTINUE  'more&'",
    ),
    *(b"CONTINUE  ", b"CONTINUE = 1", b"COMMENT", b"HISTORY = 'x'", b"", b"=", b"        = 1", b"lower = 1"),
    *(b"\xff" * CARD, b"\x00" * CARD, b"END", b"END     \x00", b"END x", b"A='" + b"'" * 70),
)


def fits_cards(data: bytes, rng: random.Random) -> bytes:
    """Cards of one of a file's headers changed, and the header closed and padded again."""
    begins = [at for at in range(0, len(data), BLOCK) if data[at : at + 8] in (b"SIMPLE  ", b"XTENSION")]
    if not begins:
        return raw_bytes(data, rng)
    begin = rng.choice(begins)
    end = begin
    while end < len(data) and data[end : end + 8] != b"END     ":
        end += CARD
    cards = [data[at : at + CARD] for at in range(begin, end, CARD)]
    rest = data[-(-(end + CARD) // BLOCK) * BLOCK :]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(cards) + 1)
        match rng.randrange(7):
            case 0 | 1 if at < len(cards):
                cards[at] = cards[at][:10] + rng.choice(VALUES)
            case 2:
                cards.insert(at, b"%-8s= %s" % (rng.choice(KEYWORDS), rng.choice(VALUES)))
            case 3:
                cards.insert(at, rng.choice(ODD_CARDS))
            case 4:
                del cards[at : at + 1]
            case 5 if at < len(cards):
                cards.insert(rng.randrange(len(cards) + 1), cards[at])
            case _ if at < len(cards):
                cards[at] = raw_bytes(cards[at], rng)
    return data[:begin] + header_of(cards) + rest


def header_of(cards: Sequence[bytes]) -> bytes:
    """Cards as a header: of 80 bytes each, with END, in whole blocks."""
    joined = b"".join(card[:CARD].ljust(CARD) for card in cards) + b"END".ljust(CARD)
    return joined.ljust(-(-len(joined) // BLOCK) * BLOCK)


def blocks(data: bytes, rng: random.Random) -> bytes:
    """Whole blocks dropped, doubled or moved; the end cut off."""
    parts = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)] or [b""]
    at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    match rng.randrange(4):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[other])
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case _:
            return data[: rng.randrange(len(data) + 1)]
    return b"".join(parts)


def packed(inner: Mutate) -> Mutate:
    """A change within a compressed file; or of how it is compressed."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return raw_bytes(data, rng)
        try:
            plain = unpacked(data)
        except (OSError, EOFError, ValueError, zlib.error):
            return raw_bytes(data, rng)
        changed = inner(plain, rng)
        match rng.randrange(8):
            case 0:
                return bz2.compress(changed, 1)
            case 1:
                return gzip.compress(changed, 1, mtime=0)
            case 2:
                half = len(changed) // 2
                return gzip.compress(changed[:half], 1, mtime=0) + gzip.compress(changed[half:], 1, mtime=0)
            case 3:
                return changed
        if data.startswith(b"BZh"):
            return bz2.compress(changed, 1)
        return gzip.compress(changed, 1, mtime=0) if data.startswith(b"\x1f\x8b") else changed

    return mutate


def unpacked(data: bytes) -> bytes:
    if data.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(data, 1 << 20)
    if data.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(data, 1 << 20)
    return data


def any_of(*mutations: Mutate) -> Mutate:
    return lambda data, rng: rng.choice(mutations)(data, rng)
