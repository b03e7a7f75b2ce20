"""How a mask file is kept in the database: small, verified, and quick to turn into pixels.

The identity of a mask is the sha256 of its canonical FITS file, mostly zeros: gzip cannot go below
1/1032 of its 50 MB and needs 0.2 s to undo. The encoding `sparse` keeps the file without its two
images, the gaps between flagged pixels, and their flags; the images follow from these. Undoing it
imports neither numpy nor astropy as long as whole files are asked for.

Layout of a `sparse` blob: three zlib streams, each behind its length (uint32). First nx, ny and where
the two images belong (4 x uint32), then the file without its images; second the number of good pixels
before each flagged one (uint32); third the flags (uint16). Lengths and places are big-endian; gaps and
flags little-endian and grouped by byte: the low bytes of all, then the next.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotpix_registry.errors import IntegrityError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.fits.flagged import Flagged
    from hotpix_registry.fits.maskfile import Parts

SPARSE = "sparse"

_HEAD = struct.Struct(">4I")
_LENGTH = struct.Struct(">I")
MOST_PIXELS = 1 << 28
"""what no mask exceeds, nor any detector: a file of 800 MB"""
_MOST_REST = 1 << 28
"""bytes of a file without its images"""
_GOOD = b"\x80\x00"
"""0 as unsigned 16-bit numbers are written: minus BZERO = 32768"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedMask:
    """A mask file as it is stored, with the digests of the blob and of the file itself."""

    encoding: str
    blob: bytes
    blob_sha256: str
    sha256: str


def pack(parts: Parts) -> PackedMask:
    """Encode the file of a mask for storage, without ever holding its images.

    Raises
    ------
    IntegrityError
        What was packed does not unpack to the same.
    """
    import numpy as np

    (ny, nx), positions, flags = parts.flagged
    bad_start, dq_start = len(parts.before), len(parts.before) + len(parts.between)
    rest = parts.before + parts.between + parts.after
    gaps = np.diff(positions, prepend=-1).astype("<u4") - np.uint32(1)
    head = _HEAD.pack(nx, ny, bad_start, dq_start)
    streams = (head + rest, _by_bytes(gaps), _by_bytes(flags.astype("<u2")))
    with ThreadPoolExecutor(3) as pool:
        sha256 = pool.submit(_sha256_of, parts.pieces())
        packed = list(pool.map(lambda stream: zlib.compress(stream, 9), streams))
    blob = b"".join(part for one in packed for part in (_LENGTH.pack(len(one)), one))
    mask = PackedMask(
        encoding=SPARSE, blob=blob, blob_sha256=hashlib.sha256(blob).hexdigest(), sha256=sha256.result()
    )
    *held, held_gaps, held_flags = _open(SPARSE, blob)
    held_whole = held == [nx, ny, bad_start, dq_start, rest]
    if not (held_whole and np.array_equal(held_gaps, gaps) and np.array_equal(held_flags, flags)):
        raise IntegrityError(
            "What was packed of a mask is not what was to be packed; nothing was stored.",
            next_step="Check the memory of this machine, and run the command again.",
        )
    return mask


def _sha256_of(pieces: Iterable[bytes | memoryview]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def unpack(encoding: str, blob: bytes, *, sha256: str) -> bytes:
    """The canonical mask file of a blob, verified against its digest.

    Raises
    ------
    IntegrityError
        When the blob does not give the file with this sha256.
    """
    try:
        fits_bytes = _restored(encoding, blob)
    except (IndexError, ValueError):
        raise _damaged(sha256) from None
    if hashlib.sha256(fits_bytes).hexdigest() != sha256:
        raise _damaged(sha256)
    return fits_bytes


def _restored(encoding: str, blob: bytes) -> bytes:
    nx, ny, bad_start, dq_start, rest, gaps, flags = _open(encoding, blob)
    file = io.BytesIO()
    file.write(rest[:bad_start])
    file.write(bytes(nx * ny))
    file.write(rest[bad_start:dq_start])
    file.writelines(itertools.repeat(_GOOD * nx, ny))
    file.write(rest[dq_start:])
    pixels = file.getbuffer()
    try:
        _set_flags(pixels, bad_start, dq_start + nx * ny, gaps, flags)
    finally:
        pixels.release()
    return file.getvalue()


def unpack_header(encoding: str, blob: bytes, *, blob_sha256: str) -> bytes:
    """The primary header of a blob's mask file, without the work that its images are.

    Raises
    ------
    IntegrityError
        When the blob does not have its digest.
    """
    _verify(blob, blob_sha256)
    _, _, bad_start, _, rest, _, _ = _open(encoding, blob)
    return rest[:bad_start]


def unpack_bad(encoding: str, blob: bytes, *, blob_sha256: str) -> NDArray[np.bool_]:
    """The boolean mask (ny, nx) of a blob, True = masked: the pixels with DQ.BAD.

    Raises
    ------
    IntegrityError
        When the blob does not have its digest.
    """
    import numpy as np

    shape, positions, flags = unpack_flagged(encoding, blob, blob_sha256=blob_sha256)
    bad = np.zeros(shape, np.bool_)
    bad.reshape(-1)[positions[flags & 1 != 0]] = True
    return bad


def unpack_dq(encoding: str, blob: bytes, *, blob_sha256: str) -> NDArray[np.uint16]:
    """The data-quality plane (ny, nx) uint16 of a blob.

    Raises
    ------
    IntegrityError
        When the blob does not have its digest.
    """
    import numpy as np

    shape, positions, flags = unpack_flagged(encoding, blob, blob_sha256=blob_sha256)
    dq = np.zeros(shape, np.uint16)
    dq.reshape(-1)[positions] = flags
    return dq


def unpack_flagged(encoding: str, blob: bytes, *, blob_sha256: str) -> Flagged:
    """The flagged pixels of a blob without its planes.

    Raises
    ------
    IntegrityError
        When the blob does not have its digest.
    """
    import numpy as np

    from hotpix_registry.fits.flagged import Flagged

    _verify(blob, blob_sha256)
    nx, ny, _, _, _, gaps, flags = _open(encoding, blob)
    positions = np.cumsum(np.frombuffer(gaps, np.uint32), dtype=np.intp)
    positions += np.arange(positions.size)
    return Flagged(shape=(ny, nx), positions=positions, flags=np.frombuffer(flags, np.uint16))


def _by_bytes(numbers: NDArray[np.unsignedinteger]) -> bytes:
    """Little-endian numbers grouped by byte: the high bytes, nearly all zero, then pack to nothing."""
    return numbers.view("u1").reshape(-1, numbers.itemsize).T.tobytes()


def _from_bytes(grouped: bytes, typecode: str) -> array[int]:
    numbers = array(typecode)
    n_bytes = numbers.itemsize
    count = len(grouped) // n_bytes
    plain = bytearray(len(grouped))
    for i in range(n_bytes):
        plain[i::n_bytes] = grouped[i * count : (i + 1) * count]
    numbers.frombytes(plain)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _open(encoding: str, blob: bytes) -> tuple[int, int, int, int, bytes, array[int], array[int]]:
    if encoding != SPARSE:
        raise IntegrityError(
            f"A mask is stored in the encoding '{encoding}', which this version does not know.",
            next_step="Upgrade hotpix-registry.",
        )
    try:
        position, streams = 0, []
        for _ in range(3):
            (length,) = _LENGTH.unpack_from(blob, position)
            position += _LENGTH.size
            streams.append(blob[position : position + length])
            position += length
        first = _inflated(streams[0], _MOST_REST)
        nx, ny, bad_start, dq_start = _HEAD.unpack_from(first)
        if not 0 < nx * ny <= MOST_PIXELS:
            raise _damaged()
        gaps, flags = _inflated(streams[1], 4 * nx * ny), _inflated(streams[2], 2 * nx * ny)
        rest = first[_HEAD.size :]
        return nx, ny, bad_start, dq_start, rest, _from_bytes(gaps, "I"), _from_bytes(flags, "H")
    except (struct.error, zlib.error, ValueError) as error:
        raise _damaged() from error


def _inflated(stream: bytes, most: int) -> bytes:
    """A zlib stream that unpacks to no more than so many bytes."""
    inflation = zlib.decompressobj()
    content = inflation.decompress(stream, most + 1)
    if not inflation.eof or len(content) > most:
        raise ValueError(f"a stream of the blob has no end within {most} bytes")
    return content


def _verify(blob: bytes, blob_sha256: str) -> None:
    if hashlib.sha256(blob).hexdigest() != blob_sha256:
        raise _damaged()


def _set_flags(
    pixels: memoryview, bad_start: int, dq_start: int, gaps: array[int], flags: array[int]
) -> None:
    stored = array("H", flags)
    if sys.byteorder == "little":
        stored.byteswap()
    sign = 0x0080 if sys.byteorder == "little" else 0x8000
    # Both images start on a block of 2880 bytes, so the 16-bit words are aligned.
    bad, dq = pixels[bad_start:], pixels[dq_start : dq_start + (len(pixels) - dq_start) // 2 * 2].cast("H")
    position = -1
    for gap, flag, word in zip(gaps, flags, stored, strict=True):
        position += gap + 1
        dq[position] = word ^ sign
        if flag & 1:
            bad[position] = 1


def _damaged(sha256: str = "") -> IntegrityError:
    return IntegrityError(
        f"The stored bytes of mask {sha256[:12]} are damaged."
        if sha256
        else "The stored bytes of a mask are damaged.",
        next_step="`hotpix-registry verify --fix` makes them again from the darks, or with --from BACKUP.",
    )
