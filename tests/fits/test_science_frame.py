"""A mask written into a science frame is joined with what is there, and nothing else changes."""

from __future__ import annotations

import bz2
import gzip
import os
import stat
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.domain import DQ
from hotpix_registry.errors import StorageError, UnreadableFrame
from hotpix_registry.fits.science_frame import Marked, Provenance, write_mask
from tests.fits import header_texts as texts

SHAPE = (5, 7)
DATA = np.random.default_rng(3).integers(0, 65536, SHAPE).astype(np.uint16)
MASK_3 = Provenance(
    registry_id="k7f3q2mz",
    mask_id=3,
    version=2,
    sha256="ab" * 32,
    receipt="hp:k7f3q2mz/41/3/abababababab?c=aspen&d=20180822",
)


def plane(*pixels: tuple[int, int], flags: DQ = DQ.BAD | DQ.HOT) -> np.ndarray:
    """Flags at pixels (x, y)."""
    dq = np.zeros(SHAPE, np.uint16)
    for x, y in pixels:
        dq[y, x] = flags.value
    return dq


def apply(path: Path, dq: np.ndarray, provenance: Provenance = MASK_3, output: Path | None = None) -> Marked:
    return write_mask(path, dq, dq & 1 != 0, provenance, output=output or path)


def frame(path: Path, *extensions: Any, **cards: Any) -> Path:
    primary = fits.PrimaryHDU(DATA)
    primary.header.update(cards)
    fits.HDUList([primary, *extensions]).writeto(path)
    return path


def masked(path: Path) -> list[tuple[int, int]]:
    """Pixels (x, y) that CCDData takes for masked; the file's checksums are right."""
    verified(path)
    mask = CCDData.read(path, unit="adu").mask
    return [(int(x), int(y)) for y, x in np.argwhere(mask)]


def verified(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True, memmap=False) as hdus:
            hdus.verify("exception")
            for hdu in hdus:
                assert hdu.data is None or hdu.data.size


# --- a frame without masks ------------------------------------------------------


def test_a_frame_gets_a_mask_that_ccddata_reads_and_flags_that_say_why(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits", OBJECT="M 31")
    before = path.read_bytes()
    assert apply(path, plane((3, 1), (6, 4))) == Marked(changed=True, added=2, masked=2)
    assert masked(path) == [(3, 1), (6, 4)]
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK", "DQ"]
        assert np.array_equal(hdus[0].data, DATA)
        assert hdus["MASK"].data.dtype == np.uint8
        assert hdus["DQ"].data.dtype == np.uint16
        assert hdus["DQ"].data[1, 3] == 5
        assert hdus[0].header["OBJECT"] == "M 31"
    after = path.read_bytes()
    assert after[: 80 * 9] == before[: 80 * 9]
    assert after[2880:5760] == before[2880:5760]


def test_the_header_names_registry_mask_version_digest_and_receipt(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    provenance = replace(MASK_3, steps=("The order of the rows was reversed.",))
    apply(path, plane((3, 1)), provenance)
    header = fits.getheader(path)
    assert header["HPXREG"] == "k7f3q2mz"
    assert (header["HPXMASK"], header["HPXVER"], header["HPXPRE"]) == (3, 2, "default")
    assert header["HPXSHA"] == "ab" * 32
    assert header["HPXRCPT"] == "hp:k7f3q2mz/41/3/abababababab?c=aspen&d=20180822"
    assert list(header["HISTORY"]) == [
        "hotpix-registry joined mask 3, version 2, preset default.",
        "The order of the rows was reversed.",
    ]


def test_ccdproc_goes_on_with_the_result(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    apply(path, plane((3, 1)))
    ccd = CCDData.read(path, unit="adu")
    dark = CCDData(np.zeros(SHAPE), unit="adu")
    done = ccdproc.subtract_dark(ccd, dark, dark_exposure=1 * u.s, data_exposure=1 * u.s)
    assert done.mask[1, 3]
    ccdproc.trim_image(done[:, 2:]).write(tmp_path / "reduced.fits")
    assert np.argwhere(CCDData.read(tmp_path / "reduced.fits").mask).tolist() == [[1, 1]]
    collection = ccdproc.ImageFileCollection(tmp_path, glob_include="light.fits", keywords=["hpxmask"])
    assert list(collection.summary["hpxmask"]) == [3]


# --- again, and with another mask ---------------------------------------------------


def test_the_same_mask_again_changes_no_byte_and_says_so(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    apply(path, plane((3, 1)))
    before, inode = path.read_bytes(), path.stat().st_ino
    later = replace(MASK_3, receipt="hp:k7f3q2mz/99/3/abababababab?c=aspen&d=20180822")
    assert apply(path, plane((3, 1)), later) == Marked(changed=False, added=0, masked=1)
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)
    elsewhere = tmp_path / "copy.fits"
    assert not apply(path, plane((3, 1)), output=elsewhere).changed
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize(
    "card", [b"   HPXMASK = 7", b"hpxsha  = 'cdcd'", b"HPXVER=9", b"HIERARCH HPXPRE = 'all'"]
)
def test_a_keyword_that_is_written_otherwise_is_taken_over_too(tmp_path: Path, card: bytes) -> None:
    """What is read as HPXMASK is replaced, also where bytes got lost and cards begin in their middle."""
    path = frame(tmp_path / "light.fits")
    content = bytearray(path.read_bytes())
    end = content.index(b"END".ljust(80))
    content[end : end + 160] = card.ljust(80) + b"END".ljust(80)
    path.write_bytes(content)
    apply(path, plane((3, 1)))
    written = path.read_bytes()
    assert card not in written
    assert fits.getheader(path)["HPXMASK"] == 3
    assert apply(path, plane((3, 1))) == Marked(changed=False, added=0, masked=1)
    assert path.read_bytes() == written


def test_another_mask_is_joined_and_takes_over_the_keywords(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    apply(path, plane((3, 1), flags=DQ.BAD | DQ.HOT))
    other = Provenance(registry_id="k7f3q2mz", mask_id=4, version=3, sha256="cd" * 32)
    assert apply(path, plane((3, 1), (0, 0), flags=DQ.BAD | DQ.UNSTABLE), other).added == 1
    assert masked(path) == [(0, 0), (3, 1)]
    header = fits.getheader(path)
    assert (header["HPXMASK"], header["HPXSHA"]) == (4, "cd" * 32)
    assert "HPXRCPT" not in header, "the receipt of the first mask does not belong to the second"
    assert header.count("HPXMASK") == 1
    assert len(header["HISTORY"]) == 2
    assert fits.getdata(path, "DQ")[1, 3] == (DQ.BAD | DQ.HOT | DQ.UNSTABLE).value


def test_a_long_receipt_is_continued_and_replaced_whole(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits", FILTER="V")
    apply(path, plane((3, 1)), replace(MASK_3, receipt="hp:" + "x" * 150))
    assert fits.getheader(path)["HPXRCPT"] == "hp:" + "x" * 150
    apply(path, plane((0, 0)), replace(MASK_3, mask_id=4, receipt="hp:short"))
    header = fits.getheader(path)
    assert (header["HPXRCPT"], header["FILTER"]) == ("hp:short", "V")
    assert "CONTINUE" not in str(header)
    verified(path)


# --- masks that are there already ------------------------------------------------------


def test_a_mask_of_ccddata_is_joined_and_its_values_stay(tmp_path: Path) -> None:
    path = tmp_path / "reduced.fits"
    mask = np.zeros(SHAPE, bool)
    mask[0, 2] = mask[1, 3] = True
    CCDData(
        DATA.astype(np.float32), unit="electron", mask=mask, uncertainty=StdDevUncertainty(np.ones(SHAPE))
    ).write(path)
    with fits.open(path, mode="update") as hdus:
        hdus["MASK"].data[0, 2] = 7
    assert apply(path, plane((3, 1), (6, 4))) == Marked(changed=True, added=1, masked=3)
    assert masked(path) == [(2, 0), (3, 1), (6, 4)]
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK", "UNCERT", "DQ"]
        assert hdus["MASK"].data[0, 2] == 7
        assert (hdus["UNCERT"].data == 1).all()
    assert CCDData.read(path).unit == u.electron


def test_a_foreign_dq_gets_the_bit_that_means_bad_there(tmp_path: Path) -> None:
    theirs = np.full(SHAPE, 0, np.int32)
    theirs[1, 3], theirs[0, 0] = 2048, 5
    jwst = frame(tmp_path / "jwst.fits", fits.ImageHDU(theirs, name="DQ"), TELESCOP="JWST")
    hst = frame(tmp_path / "hst.fits", fits.ImageHDU(theirs.astype(np.int16), name="DQ"), TELESCOP="HST")
    unsigned = frame(tmp_path / "unsigned.fits", fits.ImageHDU(theirs.astype(np.uint16), name="DQ"))
    for path, bit in ((jwst, 1), (hst, 4), (unsigned, 1)):
        apply(path, plane((3, 1), (0, 0), flags=DQ.BAD | DQ.WARM))
        dq = fits.getdata(path, "DQ")
        assert (dq[1, 3], dq[0, 0], dq[4, 6]) == (2048 | bit, 5 | bit, 0)
        assert masked(path) == [(0, 0), (3, 1)]
    assert fits.getdata(unsigned, "DQ").dtype == np.uint16


def test_a_mask_of_bit_planes_gets_the_bit_that_it_names_bad(tmp_path: Path) -> None:
    planes = np.zeros(SHAPE, np.int32)
    planes[1, 3] = 32
    extension = fits.ImageHDU(planes, name="MASK")
    extension.header.update({"MP_BAD": 2, "MP_SAT": 1})
    path = frame(tmp_path / "calexp.fits", extension)
    assert apply(path, plane((3, 1), (0, 0))).added == 2
    found = fits.getdata(path, "MASK")
    assert (found[1, 3], found[0, 0]) == (36, 4)


@given(
    old=hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 255)),
    dq=hnp.arrays(np.uint16, SHAPE, elements=st.integers(0, 1023)),
    more=hnp.arrays(np.uint16, SHAPE, elements=st.integers(0, 1023)),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_masked_stays_masked(
    tmp_path: Path, old: np.ndarray, dq: np.ndarray, more: np.ndarray
) -> None:
    path = tmp_path / "light.fits"
    path.unlink(missing_ok=True)
    frame(path, fits.ImageHDU(old, name="MASK"))
    for number, flags in enumerate((dq, more)):
        apply(path, flags, replace(MASK_3, mask_id=number))
    mask = CCDData.read(path, unit="adu").mask
    assert np.array_equal(mask, (old != 0) | ((dq | more) & 1 != 0))
    assert np.array_equal(fits.getdata(path, "DQ"), dq | more)
    assert np.array_equal(fits.getdata(path, "MASK")[old != 0], old[old != 0])


# --- containers --------------------------------------------------------------------


def test_compressed_tiles_are_copied_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "light.fits.fz"
    tiles = fits.CompImageHDU(DATA, compression_type="RICE_1")
    tiles.header["OBJECT"] = "M 31"
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path, checksum=True)
    with fits.open(path, disable_image_compression=True) as hdus:
        rows = hdus[1].data.tobytes()
    apply(path, plane((3, 1)))
    with fits.open(path, disable_image_compression=True, checksum=True) as hdus:
        assert hdus[1].data.tobytes() == rows
        assert hdus[1]._checksum_valid == 1
    with fits.open(path) as hdus:
        assert np.array_equal(hdus[1].data, DATA)
        assert (hdus[1].header["HPXMASK"], hdus[1].header["OBJECT"]) == (3, "M 31")
    assert not apply(path, plane((3, 1))).changed


def test_beside_compressed_tiles_the_planes_are_compressed_and_joined_too(tmp_path: Path) -> None:
    path = tmp_path / "light.fits.fz"
    tiles = fits.CompImageHDU(DATA, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path)
    apply(path, plane((3, 1)))
    other = replace(MASK_3, mask_id=4)
    assert apply(path, plane((0, 0), flags=DQ.BAD | DQ.UNSTABLE), other) == Marked(
        changed=True, added=1, masked=2
    )
    assert not apply(path, plane((0, 0), flags=DQ.BAD | DQ.UNSTABLE), other).changed
    with fits.open(path) as hdus:
        assert [type(hdu).__name__ for hdu in hdus] == ["PrimaryHDU"] + ["CompImageHDU"] * 3
        assert (hdus["DQ"].data[1, 3], hdus["DQ"].data[0, 0]) == (5, 33)
    # by itself CCDData would take the first plain image for the frame
    ccd = CCDData.read(path, hdu=1, unit="adu")
    assert np.array_equal(ccd.data, DATA)
    assert np.argwhere(ccd.mask).tolist() == [[0, 0], [1, 3]]


@pytest.mark.parametrize("name", ["MASK", "DQ"])
def test_a_damaged_mask_in_tiles_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "light.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(DATA)]).writeto(path)
    apply(path, plane((3, 1)))
    with fits.open(path, disable_image_compression=True) as hdus:
        place = hdus[name].fileinfo()
    damaged = bytearray(path.read_bytes())
    damaged[place["datLoc"] : place["datLoc"] + place["datSpan"]] = b"\xa5" * place["datSpan"]
    path.write_bytes(damaged)
    with pytest.raises(UnreadableFrame, match="its compressed tiles cannot be read"):
        apply(path, plane((0, 0)))
    assert path.read_bytes() == damaged


def test_a_compressed_dq_of_others_is_joined(tmp_path: Path) -> None:
    theirs = np.zeros(SHAPE, np.int32)
    theirs[1, 3] = 2048
    path = frame(tmp_path / "jwst.fits", fits.CompImageHDU(theirs, name="DQ", compression_type="GZIP_1"))
    apply(path, plane((3, 1), (0, 0)))
    dq = fits.getdata(path, "DQ")
    assert (dq[1, 3], dq[0, 0], dq[4, 6]) == (2049, 1, 0)
    assert masked(path) == [(0, 0), (3, 1)]


@pytest.mark.parametrize(("ending", "module"), [(".gz", gzip), (".bz2", bz2)])
def test_a_compressed_file_stays_compressed_and_may_be_written_plain(
    tmp_path: Path, ending: str, module: Any
) -> None:
    plain = frame(tmp_path / "plain.fits")
    path = tmp_path / f"light.fits{ending}"
    path.write_bytes(module.compress(plain.read_bytes()))
    apply(path, plane((3, 1)), output=tmp_path / "unpacked.fits")
    apply(path, plane((3, 1)))
    apply(plain, plane((3, 1)))
    assert module.decompress(path.read_bytes()) == plain.read_bytes()
    assert (tmp_path / "unpacked.fits").read_bytes() == plain.read_bytes()
    assert masked(path) == [(3, 1)]
    assert not apply(path, plane((3, 1))).changed
    assert not list(tmp_path.glob(".*"))


def test_the_image_may_be_an_extension_among_its_companions(tmp_path: Path) -> None:
    path = tmp_path / "flt.fits"
    primary = fits.PrimaryHDU()
    primary.header["NEXTEND"] = 3
    science, errors = fits.ImageHDU(DATA, name="SCI"), fits.ImageHDU(np.ones(SHAPE, np.float32), name="ERR")
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2, 3])], name="CATALOG")
    fits.HDUList([primary, science, errors, table]).writeto(path, checksum=True)
    apply(path, plane((3, 1)))
    with fits.open(path, checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "CATALOG", "MASK", "DQ"]
        assert hdus[0].header["NEXTEND"] == 5
        assert "HPXMASK" not in hdus[0].header
        assert hdus["SCI"].header["HPXMASK"] == 3
        assert hdus["CATALOG"].data["A"].tolist() == [1, 2, 3]
    assert masked(path) == [(3, 1)]


def test_checksums_that_were_there_stay_right(tmp_path: Path) -> None:
    path = tmp_path / "light.fits"
    extension = fits.ImageHDU(np.zeros(SHAPE, np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(DATA), extension]).writeto(path, checksum=True)
    comment = fits.getheader(path).comments["CHECKSUM"]
    apply(path, plane((3, 1)))
    assert masked(path) == [(3, 1)]
    assert fits.getheader(path).comments["CHECKSUM"] == comment


def test_an_image_with_a_third_axis_of_one_gets_planes_of_its_axes(tmp_path: Path) -> None:
    path = tmp_path / "light.fits"
    fits.PrimaryHDU(DATA[np.newaxis]).writeto(path)
    apply(path, plane((3, 1)))
    assert CCDData.read(path, unit="adu").mask.shape == (1, 5, 7)
    assert not apply(path, plane((3, 1))).changed


@pytest.mark.parametrize("cards_before_end", [35, 36, 30])
def test_headers_that_fill_their_blocks_grow_by_whole_blocks(tmp_path: Path, cards_before_end: int) -> None:
    path = tmp_path / "light.fits"
    header = fits.PrimaryHDU(DATA).header
    while len(header) < cards_before_end:
        header[f"KEY{len(header)}"] = len(header)
    fits.PrimaryHDU(DATA, header).writeto(path)
    apply(path, plane((3, 1)))
    assert path.stat().st_size % 2880 == 0
    assert masked(path) == [(3, 1)]
    assert fits.getheader(path)[f"KEY{cards_before_end - 1}"] == cards_before_end - 1


def test_a_last_block_without_padding_is_filled_before_what_follows(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    path.write_bytes(path.read_bytes()[: 2880 + 70])
    apply(path, plane((3, 1)))
    assert masked(path) == [(3, 1)]
    assert np.array_equal(fits.getdata(path), DATA)


def test_cards_that_are_no_standard_stay_as_they_were_written(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    odd = b"OBSERVER= 'Mu\xf1oz   '           / caf\xe9".ljust(80)
    content = bytearray(path.read_bytes())
    end = content.index(b"END".ljust(80))
    content[end : end + 160] = odd + b"END".ljust(80)
    path.write_bytes(content)
    apply(path, plane((3, 1)))
    assert odd in path.read_bytes()


def test_extend_false_becomes_true_with_the_first_extension(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    content = path.read_bytes().replace(
        b"EXTEND  =                    T", b"EXTEND  =                    F", 1
    )
    path.write_bytes(content)
    apply(path, plane((3, 1)))
    assert fits.getheader(path)["EXTEND"] is True
    assert masked(path) == [(3, 1)]


def test_permissions_stay_and_another_name_takes_them_over(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    path.chmod(0o640)
    apply(path, plane((3, 1)))
    apply(path, plane((3, 1)), output=tmp_path / "other.fits")
    for written in (path, tmp_path / "other.fits"):
        assert stat.S_IMODE(os.stat(written).st_mode) == 0o640


# --- what is refused -----------------------------------------------------------------


def refused(path: Path, *words: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises((UnreadableFrame, StorageError)) as caught:
        apply(path, plane((3, 1)))
    for word in (str(path), *words):
        assert word in str(caught.value), (word, str(caught.value))
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not list(path.parent.glob(".*.tmp"))


def test_what_is_no_single_image_of_the_masks_shape_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.fits", "no such file")
    refused(tmp_path, "a folder")
    text = tmp_path / "notes.fits"
    text.write_text("no FITS")
    refused(text, "is no FITS file")
    table = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]).writeto(table)
    refused(table, "no image")
    cube = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.zeros((3, *SHAPE), np.uint8)).writeto(cube)
    refused(cube, "7 x 5 x 3", "Split")
    small = tmp_path / "small.fits"
    fits.PrimaryHDU(DATA[:4]).writeto(small)
    refused(small, "7 x 4 pixels, not of 7 x 5")
    mosaic = tmp_path / "mosaic.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(DATA), fits.ImageHDU(DATA)]).writeto(mosaic)
    refused(mosaic, "mosaic of 2 images")
    only_mask = tmp_path / "mask.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(DATA, name="MASK")]).writeto(only_mask)
    refused(only_mask, "no science frame")


def test_an_extension_that_announces_more_than_its_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "light.fits"
    odd = texts.extension("EXTNAME = 'DQ'").replace(b"PCOUNT  = 0", b"PCOUNT  = 1")
    path.write_bytes(texts.image("IMAGETYP= 'Light'") + odd)
    with pytest.raises(UnreadableFrame, match="no image of whole numbers"):
        write_mask(
            path, np.ones((6, 8), np.uint16), np.ones((6, 8), bool), MASK_3, output=tmp_path / "out.fits"
        )


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_truncated_frame_is_refused(tmp_path: Path, ending: str) -> None:
    content = frame(tmp_path / "whole.fits").read_bytes()[: 2880 + 60]
    path = tmp_path / f"light.fits{ending}"
    path.write_bytes(gzip.compress(content) if ending else content)
    refused(path, "truncated")


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        (fits.ImageHDU(np.zeros(SHAPE, np.float32), name="MASK"), "no image of whole numbers"),
        (fits.ImageHDU(np.zeros((2, 2), np.uint8), name="DQ"), "of 2 x 2 pixels beside"),
        (fits.CompImageHDU(np.zeros((2, 2), np.uint8), name="DQ"), "of 2 x 2 pixels beside"),
        (fits.CompImageHDU(np.ones(SHAPE, np.float32), name="DQ"), "no image of whole numbers"),
        (fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])], name="MASK"), "of 4 x 1 pixels"),
    ],
)
def test_a_mask_that_cannot_be_joined_is_refused(tmp_path: Path, extension: Any, words: str) -> None:
    refused(frame(tmp_path / "light.fits", extension), words)


def test_two_masks_are_refused(tmp_path: Path) -> None:
    twice = [fits.ImageHDU(np.zeros(SHAPE, np.uint8), name="MASK", ver=i) for i in (1, 2)]
    refused(frame(tmp_path / "light.fits", *twice), "2 extensions MASK")


def test_a_write_protected_frame_is_not_replaced(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    path.chmod(0o444)
    refused(path, "write-protected", "-o")
    apply(path, plane((3, 1)), output=tmp_path / "marked.fits")
    assert masked(tmp_path / "marked.fits") == [(3, 1)]


def test_without_an_output_nothing_is_written(tmp_path: Path) -> None:
    path = frame(tmp_path / "light.fits")
    before = path.read_bytes()
    dq = plane((3, 1))
    assert write_mask(path, dq, dq != 0, MASK_3, output=None) == Marked(changed=True, added=1, masked=1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
