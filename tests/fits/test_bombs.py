"""Files that announce or unpack to more than any memory holds cost a bounded part of it, and one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.fits import header_texts as texts

pytest.importorskip("resource", reason="this system bounds no process")

BOUND_MB = 256
"""what reading any of the files may take beyond what the process has before"""

READING = f"""
import json, os, resource, sys
from pathlib import Path
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy, astropy.io.fits
from hotpix_registry.errors import HotpixError
from hotpix_registry.fits import streams
from hotpix_registry.fits.foreign import read_foreign_mask
from hotpix_registry.fits.headers import check_complete, read_header
from hotpix_registry.fits.pixels import open_rows

streams.MOST_UNPACKED = 1 << 30  # a quarter, in a quarter of the time

def ingested(path):
    check_complete(path, read_header(path))

def built(path):
    with open_rows(path) as rows:
        for y in range(0, rows.shape[0], 8):
            rows.read(y, min(rows.shape[0], y + 8))

def imported(path):
    read_foreign_mask(path, shape=(600, 500))

read_foreign_mask(sys.argv[1])  # what is imported late
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + ({BOUND_MB} << 20),) * 2)
said = {{}}
for path in sys.argv[2:]:
    for use in (ingested, built, imported):
        try:
            use(path)
        except HotpixError as error:
            said[Path(path).name, use.__name__] = error.message
json.dump([[*key, message] for key, message in said.items()], sys.stdout)
"""


def zeros(members: int, compress) -> bytes:
    """So many times 64 MiB, each compressed on its own."""
    member: bytes = compress(bytes(64 << 20))
    return member * members


def tiles_of(shape: tuple[int, int]) -> bytes:
    """One tile of zeros, packed once more by gzip within the file."""
    file = io.BytesIO()
    image = fits.CompImageHDU(np.zeros(shape, np.int16), compression_type="GZIP_1", tile_shape=shape)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(file)
    return file.getvalue()


def write_files(folder: Path) -> list[Path]:
    huge = texts.header_bytes("SIMPLE = T\nBITPIX = -64\nNAXIS = 2\nNAXIS1 = 999999\nNAXIS2 = 999999")
    table = texts.header_bytes(
        "XTENSION= 'BINTABLE'\nBITPIX = 8\nNAXIS = 2\nNAXIS1 = 999999999999\nNAXIS2 = 999999999\n"
        "PCOUNT = 999999999999\nGCOUNT = 1\nTFIELDS = 999\n"
        "ZIMAGE = T\nZBITPIX = 16\nZNAXIS = 2\nZNAXIS1 = 9\nZNAXIS2 = 9"
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("mask.npy", bytes(512 << 20))
    contents = {
        "huge.fits": huge,
        "huge.fits.gz": gzip.compress(huge),
        "huge.fits.bz2": bz2.compress(huge),
        "table.fits": texts.empty_primary() + table,
        "bomb.fits.gz": gzip.compress(texts.image()) + zeros(18, gzip.compress),
        "honest.fits.gz": gzip.compress(huge) + zeros(18, gzip.compress),
        "short.fits.bz2": bz2.compress(huge) + zeros(4, bz2.compress),
        "archive.npz": archive.getvalue(),
        "nested.fits.gz": gzip.compress(gzip.compress(texts.image())),
        "plane.npy": b"\x93NUMPY\x01\x00\x46\x00"
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (20000, 20000)}",
        "boxes.ecsv": b"# %ECSV 1.0\nx0 y0 width height\n" + b"0 0 500 600\n" * 100_000,
        "tiles.fits.fz": tiles_of((600, 500)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_no_file_takes_more_memory_than_the_bound_and_each_is_read_or_refused(tmp_path: Path) -> None:
    paths = write_files(tmp_path)
    np.save(tmp_path / "good.npy", np.zeros((4, 4), bool))

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READING, str(tmp_path / "good.npy"), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    said = {
        (name, use): message.replace(f"{tmp_path}/", "") for name, use, message in json.loads(done.stdout)
    }
    cut = "is truncated: it ends "
    none = "is no FITS file: it does not begin with a FITS header."
    bomb = "unpacks to more than 1 GiB, which no camera's frame has."
    wanted = {
        ("huge.fits", "ingested"): f"The file {cut}before the image that its header announces.",
        ("huge.fits", "built"): f"huge.fits {cut}before the image that its header announces.",
        ("huge.fits.gz", "ingested"): f"The file {cut}before the image that its header announces.",
        ("huge.fits.gz", "built"): f"huge.fits.gz {cut}within rows 1 to 8 of 999999.",
        ("huge.fits.bz2", "ingested"): f"The file {cut}before the image that its header announces.",
        ("huge.fits.bz2", "built"): f"huge.fits.bz2 {cut}within rows 1 to 8 of 999999.",
        ("bomb.fits.gz", "ingested"): f"The file {bomb}",
        ("bomb.fits.gz", "built"): f"bomb.fits.gz {bomb}",
        ("honest.fits.gz", "ingested"): f"The file {bomb}",
        ("honest.fits.gz", "built"): f"honest.fits.gz {bomb}",
        ("archive.npz", "ingested"): f"The file {none}",
        ("nested.fits.gz", "built"): f"nested.fits.gz {none}",
    }
    assert {key: said.get(key) for key in wanted} == wanted
    assert (
        said["table.fits", "built"]
        == "table.fits is truncated: it ends before the image that its header announces."
    )
    assert said["plane.npy", "imported"] == (
        "plane.npy is truncated: it ends before the 20000 x 20000 numbers that it announces."
    )
    assert {name for name, use in said if use == "imported"} == {path.name for path in paths} - {
        "boxes.ecsv",
        "tiles.fits.fz",
    }
