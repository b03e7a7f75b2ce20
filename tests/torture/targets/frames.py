"""FITS files as ingest, build and apply read them: headers alone, and everything in them."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hotpix_registry.fits import keywords
from hotpix_registry.fits.headers import FrameHeader, check_complete, parse_header_text, read_header
from hotpix_registry.fits.pixels import open_rows, overscan_level
from hotpix_registry.fits.science_frame import Provenance, write_mask
from tests.fits import header_texts as texts
from tests.torture import mutations
from tests.torture.mutations import any_of, fits_cards, packed, raw_bytes
from tests.torture.targets.target import Target

_STRIP = 64
_MOST_PIXELS = 1 << 20
"""what is read of one frame; larger ones take their time rightly"""


def feed_header(data: bytes, folder: Path) -> None:
    path = folder / "frame.fits"
    path.write_bytes(data)
    header = read_header(path)
    again = parse_header_text(header.text)
    assert (again.cards, again.comments, again.shape) == (header.cards, header.comments, header.shape)
    check_complete(path, header)
    _interpret(header)


def feed_file(data: bytes, folder: Path) -> None:
    path = folder / "frame.fits"
    path.write_bytes(data)
    with open_rows(path) as rows:
        ny, nx = rows.shape
        if ny * nx > _MOST_PIXELS:
            rows.read(0, 1)
            return
        for y in range(0, ny, _STRIP):
            strip = rows.read(y, min(ny, y + _STRIP))
            assert strip.shape == (min(_STRIP, ny - y), nx)
    overscan_level(path, "[1:2, :]")


def feed_science(data: bytes, folder: Path) -> None:
    path = folder / "frame.fits"
    path.write_bytes(data)
    header = read_header(path)
    ny, nx = header.shape or (1, 1)
    if ny * nx > _MOST_PIXELS:
        return
    dq = np.zeros((ny, nx), np.uint16)
    dq[0, 0] = 5
    write_mask(path, dq, dq != 0, _PROVENANCE, output=folder / "out.fits")
    marked = write_mask(folder / "out.fits", dq, dq != 0, _PROVENANCE, output=folder / "out.fits")
    assert not marked.changed and not marked.added


_PROVENANCE = Provenance(registry_id="0123abcd", mask_id=1, version=1, sha256="0" * 64)


def _interpret(header: FrameHeader) -> None:
    profile = keywords.choose_profile(header, keywords.shipped_keyword_profiles())
    facts = keywords.interpret(header, profile)
    keywords.describe(header, facts)
    assert facts.kind is None or facts.n_combined >= 1


# --- seeds ------------------------------------------------------------------


def _headers() -> Iterator[bytes]:
    for name, text in vars(texts).items():
        if name.isupper() and isinstance(text, str) and "=" in text:
            yield texts.image(text)
    full = "IMAGETYP = 'Dark'\nEXPTIME = 90.0\nDATE-OBS= '2018-08-22T04:00:00'\nSET-TEMP= -20\n"
    yield texts.image(full + "BZERO = 32768\nBSCALE = 1")
    yield texts.empty_primary("NEXTEND = 1") + texts.extension(full + "EXTNAME = 'SCI'")
    long = "".join(f"CONTINUE  '{letter * 60}&'\n" for letter in "abc")
    yield texts.image(f"{full}LONG = 'begin&'\n{long}HIERARCH ESO DPR TYPE = 'DARK' / kind")
    yield texts.image(full) + texts.extension("EXTNAME = 'MASK'") + texts.extension("EXTNAME = 'DQ'")


def plain_files() -> list[bytes]:
    return [*_headers(), *(_image_of(kind) for kind in ("u1", "<i2", "<u2", "<i4", "<i8", "<f4", "<f8"))]


def _image_of(kind: str) -> bytes:
    from astropy.io import fits

    return _written(fits.PrimaryHDU(np.arange(48, dtype=kind).reshape(6, 8)))


def tile_files() -> list[bytes]:
    from astropy.io import fits

    whole = np.arange(96, dtype=np.int16).reshape(8, 12)
    return [
        _written(fits.PrimaryHDU(), fits.CompImageHDU(values, compression_type=kind, tile_shape=(4, 12)))
        for kind in ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1")
        for values in (whole, whole.astype(np.float32))
        if not (kind == "PLIO_1" and values.dtype.kind == "f")
    ]


def masked_tile_files() -> list[bytes]:
    from astropy.io import fits

    image, planes = np.arange(96, dtype=np.int16).reshape(8, 12), np.eye(8, 12)
    return [
        _written(
            fits.PrimaryHDU(),
            *(
                fits.CompImageHDU(values, name=name, compression_type=kind, tile_shape=(4, 12))
                for name, values in (
                    ("SCI", image),
                    ("MASK", planes.astype("u1")),
                    ("DQ", planes.astype("u2")),
                )
            ),
        )
        for kind in ("RICE_1", "GZIP_1", "GZIP_2")
    ]


def _written(*units: Any) -> bytes:
    from astropy.io import fits

    file = io.BytesIO()
    fits.HDUList(list(units)).writeto(file)
    return file.getvalue()


def _compressed(files: list[bytes]) -> list[bytes]:
    return [gzip.compress(data, 1, mtime=0) for data in files] + [bz2.compress(data, 1) for data in files]


_ON_FITS = any_of(fits_cards, fits_cards, fits_cards, mutations.blocks, raw_bytes)
_WORDS = (*mutations.KEYWORDS, *mutations.VALUES, b"\x1f\x8b\x08", b"BZh9", b"CONTINUE  '", b"HIERARCH ")

TARGETS = (
    Target(
        name="headers",
        what="FITS headers and what is read off them",
        feed=feed_header,
        seeds=lambda: [*_headers(), *_compressed(list(_headers())[:2])],
        mutate=packed(_ON_FITS),
        words=_WORDS,
    ),
    Target(
        name="files",
        what="FITS files, plain, .gz and .bz2, with their pixels",
        feed=feed_file,
        seeds=lambda: [*plain_files(), *_compressed(plain_files()[-7:])],
        mutate=packed(_ON_FITS),
        words=_WORDS,
    ),
    Target(
        name="tiles",
        what="tile-compressed FITS files with their pixels",
        feed=feed_file,
        seeds=tile_files,
        mutate=_ON_FITS,
        words=_WORDS,
    ),
    Target(
        name="science",
        what="science frames that a mask is written into",
        feed=feed_science,
        seeds=plain_files,
        mutate=packed(_ON_FITS),
        words=_WORDS,
    ),
    Target(
        name="science-tiles",
        what="science frames in compressed tiles, with masks in such",
        feed=feed_science,
        seeds=masked_tile_files,
        mutate=_ON_FITS,
        words=_WORDS,
    ),
)
