"""Masks from elsewhere as `import` reads them, and stored ones as they are unpacked."""

from __future__ import annotations

import functools
import io
import json
import random
import zlib
from pathlib import Path

import numpy as np

from hotpix_registry.domain import Configuration
from hotpix_registry.fits import maskfile, packing
from hotpix_registry.fits.exports import FORMATS, export
from hotpix_registry.fits.foreign import read_foreign_mask
from tests.torture import mutations
from tests.torture.mutations import any_of, fits_cards, pieces, raw_bytes, repeated
from tests.torture.targets.frames import plain_files
from tests.torture.targets.target import Target

_SHAPE = (48, 64)


def feed_import(data: bytes, folder: Path) -> None:
    path = folder / "mask"
    path.write_bytes(data)
    for shape, bit in ((_SHAPE, None), (None, 3)):
        mask = read_foreign_mask(path, shape=shape, bit=bit)
        assert mask.dtype == np.bool_ and mask.ndim == 2
        assert shape is None or mask.shape == shape


def feed_stored(data: bytes, _: Path) -> None:
    maskfile.read_bad(data)
    maskfile.decode(data)


def feed_packed(data: bytes, _: Path) -> None:
    packing.unpack(packing.SPARSE, data, sha256=maskfile.digest(_mask()))


@functools.cache
def _mask() -> bytes:
    return maskfile.encode(_content())


def _content() -> maskfile.MaskContent:
    dq = np.zeros(_SHAPE, np.uint16)
    dq[5:9, 7], dq[20, 30:33] = 5, 33
    return maskfile.MaskContent(
        dq=dq,
        camera="aspen",
        configuration=Configuration(),
        build_key="0" * 64,
        algorithm_version="1",
        recipe={"rule": "import"},
        inputs=(maskfile.MaskInput(role="import", sha256="0" * 64),),
    )


def _foreign() -> list[bytes]:
    arrays = (
        *(np.zeros(_SHAPE, kind) for kind in ("?", "u1", "<i2", ">u4", "<f8", "<U1", "<c8", "M8[s]")),
        np.zeros(_SHAPE, [("a", "u1"), ("b", "<f4")]),
        np.asfortranarray(np.eye(48, 64)),
    )
    saved = []
    for array in arrays:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        saved.append(file.getvalue())
    return [*saved, *(export(_mask(), name).content for name in FORMATS), *plain_files()]


_ECSV = (
    *(b"# %ECSV 1.0", b"# ---", b"# datatype:", b"# - {name: x0, datatype: int64}", b"x0 y0 width height"),
    *(b"1 2 3 4", b"-1 0 1 1", b"0 0 64 48", b"9999999999999999999 0 1 1", b"nan 0 1 1", b'"" "" "" ""'),
    *(b"# - {name: x0, datatype: object}", b"# - {name: x0, datatype: string, subtype: 'int64[2,null]'}"),
    *(
        b"# delimiter: ','",
        b"# meta: !!omap [a: &a [*a]]",
        b"# meta: !!python/object:os.system x",
        b"# - [" * 900,
    ),
    b"# meta: {__serialized_columns__: {x0: {__class__: astropy.time.Time}}}",
)
_NPY = (
    *(b"'descr': '|O'", b"'shape': (99999999999, 9999999999)", b"'shape': (-1, 2)", b"'fortran_order': 7"),
    *(
        b"'shape': ((((((",
        b"{" * 500,
        b"'descr': [('a', '<f4', (2,))]",
        b"'descr': '<f99'",
        b"\x93NUMPY\x03\x00",
    ),
)


def _npy_header(data: bytes, rng: random.Random) -> bytes:
    """The text of an npy file's header changed, with its length kept right."""
    if not data.startswith(b"\x93NUMPY") or len(data) < 12:
        return raw_bytes(data, rng)
    length = int.from_bytes(data[8:10], "little")
    text = any_of(raw_bytes, repeated, pieces(b", ", _NPY))(data[10 : 10 + length], rng)[:65535]
    return data[:8] + len(text).to_bytes(2, "little") + text + data[10 + length :]


def _streams(data: bytes, rng: random.Random) -> bytes:
    """One of the three streams of a stored mask changed, and packed again."""
    parts, at = [], 0
    for _ in range(3):
        length = int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    number = rng.randrange(3)
    try:
        plain = zlib.decompressobj().decompress(parts[number], 1 << 20)
        if rng.random() < 0.3:  # the sizes and places at the beginning
            plain = raw_bytes(plain[:16], rng) + plain[16:]
        parts[number] = zlib.compress(raw_bytes(plain, rng))
    except zlib.error:
        return raw_bytes(data, rng)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _foreign_change(data: bytes, rng: random.Random) -> bytes:
    if data.startswith(b"\x93NUMPY"):
        return any_of(_npy_header, _npy_header, raw_bytes)(data, rng)
    if data.startswith(b"#"):
        return any_of(raw_bytes, repeated, pieces(b"\n", _ECSV), pieces(b"\n", _ECSV), pieces(b" ", _ECSV))(
            data, rng
        )
    return any_of(fits_cards, fits_cards, mutations.blocks, raw_bytes)(data, rng)


TARGETS = (
    Target(
        name="masks",
        what="masks from elsewhere: FITS, npy, lists of boxes",
        feed=feed_import,
        seeds=_foreign,
        mutate=_foreign_change,
        words=(*_ECSV, *_NPY, json.dumps(FORMATS).encode()),
    ),
    Target(
        name="maskfiles",
        what="mask files of this program",
        feed=feed_stored,
        seeds=lambda: [_mask()],
        mutate=any_of(fits_cards, mutations.blocks, raw_bytes),
        words=mutations.KEYWORDS,
    ),
    Target(
        name="packed",
        what="masks as a database holds them",
        feed=feed_packed,
        seeds=lambda: [packing.pack(maskfile.parts(_content())).blob],
        mutate=any_of(_streams, _streams, raw_bytes),
    ),
)
