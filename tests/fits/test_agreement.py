"""What ingest reads of a file and what a build reads of it are the same image, or both refuse it."""

from __future__ import annotations

import bz2
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits.headers import check_complete, read_header
from hotpix_registry.fits.pixels import open_rows
from tests.fits import header_texts as texts

Image = tuple[int, tuple[int, int]]
"""number of the HDU, and its shape"""

ARRAY = np.arange(60, dtype=np.int16).reshape(6, 10)


def as_ingest_reads(path: Path) -> Image | None:
    try:
        header = read_header(path)
        check_complete(path, header)
    except UnreadableFrame:
        return None
    return (header.hdu, header.shape) if header.shape else None


def as_a_build_reads(path: Path) -> Image | None:
    try:
        with open_rows(path) as rows:
            rows.read(0, rows.shape[0])
            return rows.hdu, rows.shape
    except UnreadableFrame:
        return None


def images(kind: type[fits.ImageHDU] | type[fits.PrimaryHDU]) -> st.SearchStrategy[fits.ImageHDU]:
    shapes = [ARRAY, ARRAY[np.newaxis], ARRAY[:3], ARRAY.reshape(2, 3, 10), ARRAY[0], None]
    return st.sampled_from(shapes).map(lambda array: kind(None if array is None else array.copy()))


def named(hdu: fits.ImageHDU, name: str) -> fits.ImageHDU:
    hdu.name = name
    return hdu


TABLES = st.builds(lambda: fits.BinTableHDU(np.array([(1,)], dtype=[("A", "i4")])))
TILES = st.sampled_from([ARRAY, ARRAY[np.newaxis], ARRAY[:3]]).map(
    lambda array: fits.CompImageHDU(array.copy(), compression_type="RICE_1")
)
EXTENSIONS = st.builds(
    named, st.one_of(images(fits.ImageHDU), TABLES, TILES), st.sampled_from(["", "SCI", "DQ", "MASK", "VAR"])
)


@given(
    primary=images(fits.PrimaryHDU),
    extensions=st.lists(EXTENSIONS, max_size=3),
    announced=st.booleans(),
    compress=st.sampled_from([bytes, gzip.compress, bz2.compress]),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(max_examples=150, deadline=None)
def test_ingest_and_build_find_the_same_image_in_any_file(
    tmp_path_factory: pytest.TempPathFactory,
    primary: fits.PrimaryHDU,
    extensions: list[fits.ImageHDU],
    announced: bool,
    compress: Callable[[bytes], bytes],
    kept: float,
) -> None:
    if announced:
        primary.header["NEXTEND"] = len(extensions)
    file = io.BytesIO()
    fits.HDUList([primary, *extensions]).writeto(file)
    content = file.getvalue()
    path = tmp_path_factory.mktemp("files") / "frame"
    path.write_bytes(compress(content[: round(len(content) * kept)]))

    assert as_ingest_reads(path) == as_a_build_reads(path)


def test_a_blank_value_in_a_table_of_tiles_is_no_number(tmp_path: Path) -> None:
    plain = np.array([[1, -99, 3], [4, 5, 6]], np.int16)
    tiles = fits.CompImageHDU(plain, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(tmp_path / "tiles.fits")
    for keyword in ("BLANK", "ZBLANK"):
        with fits.open(tmp_path / "tiles.fits", disable_image_compression=True) as hdus:
            hdus[1].header[keyword] = -99
            hdus.writeto(tmp_path / f"{keyword}.fits")
        with open_rows(tmp_path / f"{keyword}.fits") as rows:
            np.testing.assert_array_equal(rows.read(0, 2), [[1, np.nan, 3], [4, 5, 6]])
        assert read_header(tmp_path / f"{keyword}.fits").cards["BLANK"] == -99


def test_scaling_comes_from_the_extension_that_holds_the_pixels(tmp_path: Path) -> None:
    content = texts.empty_primary("BZERO = 32768") + texts.extension("BZERO = 100")
    (tmp_path / "a.fits").write_bytes(content)

    with open_rows(tmp_path / "a.fits") as rows:
        assert rows.read(0, 1)[0, 0] == 100
    assert read_header(tmp_path / "a.fits").cards["BZERO"] == 100


def test_tiles_without_the_padding_of_the_last_block_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(ARRAY, compression_type="RICE_1")]).writeto(path)
    start, n_bytes = read_header(path).data_span or (0, 0)
    os.truncate(path, start + n_bytes)

    check_complete(path, read_header(path))
    with open_rows(path) as rows:
        np.testing.assert_array_equal(rows.read(0, 6), ARRAY)


def test_tiles_compressed_once_more_are_refused_by_both(tmp_path: Path) -> None:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(ARRAY, compression_type="RICE_1")]).writeto(file)
    path = tmp_path / "frame.fits.fz.gz"
    path.write_bytes(gzip.compress(file.getvalue()))

    with pytest.raises(UnreadableFrame, match="compressed twice"):
        check_complete(path, read_header(path))
    with pytest.raises(UnreadableFrame, match=r"frame\.fits\.fz\.gz is compressed twice"):
        open_rows(path)


@pytest.mark.skipif(not texts.SHARED_DARKS.is_dir(), reason="the real darks are not at ../shared/data/darks")
def test_the_real_darks_are_one_image_to_both() -> None:
    for path in sorted(path for path in texts.SHARED_DARKS.rglob("*") if path.is_file()):
        found = as_ingest_reads(path)
        assert found is not None
        assert found == as_a_build_reads(path)
