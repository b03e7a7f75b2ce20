"""Headers are read from any file a camera or an archive writes; anything else is one sentence."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits.blocks import MAX_HEADER_BYTES, MOST_HDUS
from hotpix_registry.fits.headers import FrameHeader, check_complete, parse_header_text, read_header
from tests.fits import header_texts as texts


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFrame) as caught:
        check_complete(path, read_header(path))
    assert caught.value.next_step
    return caught.value.message


def stripped(header: fits.Header) -> dict[str, object]:
    return {k: v.strip() if isinstance(v, str) else v for k, v in header.items() if k}


# --- where the image is -----------------------------------------------------


def test_a_plain_file_gives_its_cards_shape_and_the_place_of_its_data(tmp_path: Path) -> None:
    header = read_header(written(tmp_path / "a.fits", texts.image("EXPTIME = 30.0 / [s]", nx=9, ny=7)))

    assert (header.shape, header.bitpix, header.hdu, header.compression) == ((7, 9), 16, 0, "")
    assert header.data_span == (2880, 126)
    assert header.cards["EXPTIME"] == 30.0
    assert header.comments["EXPTIME"] == "[s]"


@pytest.mark.parametrize(("compress", "name"), [(gzip.compress, "gz"), (bz2.compress, "bz2")])
def test_compression_is_recognised_by_content_whatever_the_name(tmp_path: Path, compress, name: str) -> None:
    path = written(tmp_path / "a.fits", compress(texts.image("EXPTIME = 30.0")))

    header = read_header(path)

    assert (header.compression, header.shape, header.cards["EXPTIME"]) == (name, (6, 8), 30.0)
    check_complete(path, header)


def test_a_compressed_light_is_not_unpacked_to_read_its_header(tmp_path: Path) -> None:
    content = gzip.compress(texts.image(nx=1000, ny=1000) + os.urandom(500_000))
    path = written(tmp_path / "a.fits.gz", content[: len(content) // 2])

    assert read_header(path).shape == (1000, 1000)


def test_rice_compressed_images_look_like_the_images_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.fz"
    image = fits.CompImageHDU(np.arange(4800, dtype=np.int16).reshape(60, 80), compression_type="RICE_1")
    image.header["EXPTIME"] = 90.0
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)

    header = read_header(path)

    assert (header.shape, header.bitpix, header.hdu, header.compression) == ((60, 80), 16, 1, "fz")
    assert (header.cards["NAXIS"], header.cards["NAXIS1"], header.cards["NAXIS2"]) == (2, 80, 60)
    assert header.cards["EXPTIME"] == 90.0
    check_complete(path, header)
    os.truncate(path, sum(header.data_span or ()) - 1)
    assert "truncated" in refusal(path)


def test_the_cards_of_the_only_extension_win_over_those_of_the_primary(tmp_path: Path) -> None:
    content = texts.empty_primary("EXPTIME = 5.0 / of the primary\nOBSERVER= 'me'") + texts.extension(
        "EXPTIME = 7.0"
    )

    header = read_header(written(tmp_path / "a.fits", content))

    assert (header.cards["EXPTIME"], header.cards["OBSERVER"], header.hdu) == (7.0, "me", 1)
    assert "EXPTIME" not in header.comments
    assert header.data_span == (2 * 2880, 96)


def test_tables_beside_the_image_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=np.arange(9000))])
    image = fits.ImageHDU(np.zeros((6, 8), np.int16))
    fits.HDUList([fits.PrimaryHDU(), table, image, table.copy()]).writeto(path)

    assert (read_header(path).hdu, read_header(path).shape) == (2, (6, 8))


def test_a_ccddata_file_is_its_primary_whatever_mask_and_uncertainty_follow(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    data = CCDData(np.ones((6, 8)), unit="adu", mask=np.zeros((6, 8), bool))
    data.uncertainty = np.ones((6, 8))
    data.write(path)

    assert (read_header(path).hdu, read_header(path).shape, read_header(path).bitpix) == (0, (6, 8), -64)


def test_variance_and_quality_planes_do_not_make_a_mosaic(tmp_path: Path) -> None:
    content = texts.empty_primary() + b"".join(
        texts.extension(f"EXTNAME = '{name}'") for name in ("DQ", "SCI", "VAR")
    )

    assert read_header(written(tmp_path / "a.fits", content)).hdu == 2


def test_a_third_axis_of_one_plane_is_no_axis(tmp_path: Path) -> None:
    cards = "SIMPLE = T\nBITPIX = 16\nNAXIS = 3\nNAXIS1 = 8\nNAXIS2 = 6\nNAXIS3 = {}"
    one = texts.header_bytes(cards.format(1)) + texts.data_bytes(96)
    three = texts.header_bytes(cards.format(3)) + texts.data_bytes(288)

    assert read_header(written(tmp_path / "one.fits", one)).shape == (6, 8)
    assert read_header(written(tmp_path / "three.fits", three)).shape is None


def test_scaling_of_an_empty_primary_says_nothing_about_the_image_behind_it(tmp_path: Path) -> None:
    content = texts.empty_primary("BZERO = 32768\nBLANK = 7") + texts.extension("BSCALE = 2.0")

    cards = read_header(written(tmp_path / "a.fits", content)).cards

    assert {k: cards[k] for k in ("BZERO", "BSCALE", "BLANK") if k in cards} == {"BSCALE": 2.0}


# --- what cannot be read ----------------------------------------------------


def test_a_mosaic_is_refused_with_its_number_of_images(tmp_path: Path) -> None:
    content = texts.empty_primary() + texts.extension() * 3

    message = refusal(written(tmp_path / "a.fits", content))

    assert message == "The file is a mosaic of 3 images, which is not supported."


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_compressed_mosaic_is_refused_when_its_completeness_is_checked(tmp_path: Path, compress) -> None:
    content = texts.empty_primary() + texts.extension() * 3
    said = texts.empty_primary("NEXTEND = 3") + texts.extension() * 3

    assert "mosaic of 3 images" in refusal(written(tmp_path / "a", compress(content)))
    with pytest.raises(UnreadableFrame, match="mosaic of 3 images"):
        read_header(written(tmp_path / "b", compress(said)))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "zero bytes"),
        (b"# a list of my darks\n", "no FITS file"),
        (texts.image()[:300], "ends within its header"),
        (texts.empty_primary(), "holds no image"),
        (texts.header_bytes("SIMPLE = T\nBITPIX = 17\nNAXIS = 2"), "BITPIX = 17"),
        (texts.header_bytes("SIMPLE = T\nBITPIX = 16\nNAXIS = 2\nNAXIS1 = -5\nNAXIS2 = 2"), "axes are"),
        (texts.image()[:2900], "truncated"),
        (gzip.compress(texts.image(), mtime=0)[:-30], "truncated or damaged"),
        (gzip.compress(texts.image(nx=900)[:-5000], mtime=0), "truncated"),
        (b"\x1f\x8b\x08 and not gzip", "truncated or damaged"),
        (b"BZh9 and not bzip2", "truncated or damaged"),
        (b"SIMPLE  =                    T".ljust(80) * (MAX_HEADER_BYTES // 80 + 200), "36,000 cards"),
    ],
)
def test_what_is_no_whole_image_is_refused_in_one_sentence(tmp_path: Path, content: bytes, what: str) -> None:
    assert what in refusal(written(tmp_path / "a.fits", content))


def test_a_truncated_bzip2_file_is_found_although_it_does_not_say_its_size(tmp_path: Path) -> None:
    whole = bz2.compress(texts.image(nx=900))

    assert "truncated" in refusal(written(tmp_path / "a", bz2.compress(texts.image(nx=900)[:-5000])))
    assert "truncated" in refusal(written(tmp_path / "b", whole[:-9]))
    check_complete(written(tmp_path / "c", whole), read_header(tmp_path / "c"))


def test_a_gzip_file_with_a_mask_behind_the_image_is_decompressed_to_its_end(tmp_path: Path) -> None:
    content = texts.image(nx=300) + texts.extension("EXTNAME = 'MASK'", nx=300)

    path = written(tmp_path / "a.gz", gzip.compress(content))

    check_complete(path, read_header(path))
    assert "truncated" in refusal(written(path, gzip.compress(content)[:-20]))


def test_a_gzip_file_of_several_members_is_whole(tmp_path: Path) -> None:
    content = texts.image(nx=300)
    path = written(tmp_path / "a.gz", gzip.compress(content[:3000]) + gzip.compress(content[3000:]))

    check_complete(path, read_header(path))


def test_data_without_the_padding_of_the_last_block_are_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", texts.image()[: 2880 + 96])

    check_complete(path, read_header(path))


def test_a_missing_file_and_a_folder_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFrame, match="no such file"):
        read_header(tmp_path / "nothing.fits")
    with pytest.raises(UnreadableFrame, match="a folder"):
        read_header(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UnreadableFrame, match="a pipe"):
        read_header(tmp_path / "pipe")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read every file")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", texts.image())
    path.chmod(0)

    with pytest.raises(UnreadableFrame, match="may not be read"):
        read_header(path)


# --- cards ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "keyword", "value"),
    [
        ("SIMPLE  =                    T/CCDSOFT-SOFTWARE BISQUE 3", "SIMPLE", True),
        ("SET-TEMP= -1.500000000000E+001", "SET-TEMP", -15.0),
        ("EXPTIME =   3.0D+02", "EXPTIME", 300.0),
        ("EXPTIME = 060.00 / seconds", "EXPTIME", 60.0),
        ("TELHUM  = 05 / percent", "TELHUM", 5),
        ("NAXIS1  =512", "NAXIS1", 512),
        ("OBJECT  = '   blanks   '", "OBJECT", "blanks"),
        ("OBSERVER= 'O''Hara / me'/ who", "OBSERVER", "O'Hara / me"),
        ("OBSERVER= 'never closed", "OBSERVER", "never closed"),
        ("EXPTIME = NaN", "EXPTIME", "NaN"),
        ("STATE   = AZ / unquoted", "STATE", "AZ"),
        ("exptime = 5", "EXPTIME", 5),
        ("HIERARCH ESO DPR TYPE        = 'DARK    '   / Observation type", "ESO DPR TYPE", "DARK"),
        ("HIERARCH CAMERA-DATE-OBS = '2018-09-17T21:04:46'", "CAMERA-DATE-OBS", "2018-09-17T21:04:46"),
        ("BIG     = 123456789012345678901234567890", "BIG", 123456789012345678901234567890.0),
    ],
)
def test_cards_are_read_as_they_were_meant(line: str, keyword: str, value: object) -> None:
    read = parse_header_text(line).cards[keyword]

    assert read == value
    assert type(read) is type(value)


def test_the_first_of_two_cards_wins_and_undefined_values_are_absent() -> None:
    header = parse_header_text("EXPTIME = 5\nEXPTIME = 6\nSEEING  = / not measured")

    assert header.cards == {"EXPTIME": 5}


def test_long_strings_continue() -> None:
    header = parse_header_text("PATH    = 'one &'\nCONTINUE  'two&'\nCONTINUE  ' three' / end\nNEXT    = 1")

    assert header.cards == {"PATH": "one two three", "NEXT": 1}


def test_history_is_all_its_lines() -> None:
    header = parse_header_text("HISTORY first\nEXPTIME = 5\nHISTORY second")

    assert header.cards["HISTORY"] == "first\nsecond"


def test_bytes_outside_ascii_become_text_that_a_database_can_keep(tmp_path: Path) -> None:
    content = texts.image("OBSERVER= 'Müller \x85\x00'\nSITE = 'Köln'")

    header = read_header(written(tmp_path / "a.fits", content))

    assert header.cards["OBSERVER"] == "Müller"
    assert header.cards["SITE"] == "Köln"
    assert "\0" not in header.text
    assert parse_header_text(header.text).cards == header.cards


def test_headers_of_ten_thousand_cards_are_read(tmp_path: Path) -> None:
    many = "\n".join(f"KEY{i:05} = {i}" for i in range(10_000))

    assert read_header(written(tmp_path / "a.fits", texts.image(many))).cards["KEY09999"] == 9999


_VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(str.strip),
)


@given(cards=st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{2,7}", fullmatch=True), _VALUES, max_size=12))
@settings(deadline=None)
def test_what_astropy_writes_is_read_as_astropy_reads_it(cards: dict[str, object]) -> None:
    reserved = ("SIMPLE", "BITPIX", "NAXIS", "END", "HISTORY", "COMMENT", "CONTINUE", "HIERARCH", "XTENSION")
    text = fits.Header({k: v for k, v in cards.items() if k not in reserved}).tostring(sep="\n")

    ours, theirs = parse_header_text(text), fits.Header.fromstring(text, sep="\n")

    assert ours.cards == stripped(theirs)


@given(content=st.binary(max_size=400), magic=st.sampled_from([b"", b"SIMPLE  =", b"\x1f\x8b", b"BZh9"]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_header_or_a_sentence(tmp_path: Path, content: bytes, magic: bytes) -> None:
    path = written(tmp_path / "a.fits", magic + content)
    try:
        header = read_header(path)
        check_complete(path, header)
    except UnreadableFrame as error:
        assert error.message.endswith(".")
    else:
        assert isinstance(header, FrameHeader)


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_a_file_is_a_header_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    files = [texts.image(), texts.empty_primary() + texts.extension() * 2]
    files += [gzip.compress(files[1], mtime=0), bz2.compress(files[0])]
    content = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, min(len(content), 9000) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path / "a.fits", bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        check_complete(path, read_header(path))
    except UnreadableFrame as error:
        assert error.message


@given(text=st.text(max_size=400))
def test_any_text_has_cards(text: str) -> None:
    header = parse_header_text(text)

    assert parse_header_text(header.text) == header


def test_a_gzip_trailer_that_lies_is_not_believed(tmp_path: Path) -> None:
    content = gzip.compress(texts.image(nx=900))
    path = written(tmp_path / "a.gz", content[:-4] + struct.pack("<I", 7))

    assert "truncated or damaged" in refusal(path)


def test_reading_a_header_imports_neither_astropy_nor_numpy(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", texts.image())
    code = (
        "import sys; from hotpix_registry.fits.headers import read_header; "
        f"read_header({str(path)!r}); print([m for m in ('astropy', 'numpy') if m in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"


# --- real files -------------------------------------------------------------


@pytest.mark.skipif(not texts.SHARED_DARKS.is_dir(), reason="the real darks are not at ../shared/data/darks")
def test_the_real_darks_are_read_as_astropy_reads_them() -> None:
    paths = sorted(path for path in texts.SHARED_DARKS.rglob("*") if path.is_file())
    assert len(paths) == 34
    for path in paths:
        ours = read_header(path)
        check_complete(path, ours)
        theirs = fits.getheader(path)
        assert ours.cards == stripped(theirs)
        assert parse_header_text(ours.text).cards == ours.cards


# --- hostile headers --------------------------------------------------------


def test_a_string_that_goes_on_for_thousands_of_cards_is_read_once(tmp_path: Path) -> None:
    pieces = "\n".join(["CONTINUE  '" + "x" * 66 + "&'"] * 30_000)
    header = read_header(written(tmp_path / "a.fits", texts.image(f"LONG = 'x&'\n{pieces}\nCONTINUE  'y'")))
    assert header.cards["LONG"] == "x" * (1 + 66 * 30_000) + "y"


def test_more_headers_than_any_file_has_are_refused(tmp_path: Path) -> None:
    empty = texts.header_bytes("XTENSION= 'IMAGE'\nBITPIX = 8\nNAXIS = 0\nPCOUNT = 0\nGCOUNT = 1")
    path = written(tmp_path / "a.fits", texts.empty_primary() + empty * MOST_HDUS)
    with pytest.raises(UnreadableFrame, match="The file has more than 10,000 HDUs"):
        read_header(path)


def test_a_million_cards_are_refused_at_a_fraction_of_them(tmp_path: Path) -> None:
    cards = b"".join(f"K{number:07d}= {number:>20}".ljust(80).encode() for number in range(1000)) * 1000
    path = written(tmp_path / "a.fits", texts.header_bytes("SIMPLE = T")[:80] + cards)
    assert refusal(path).startswith("The file has a header without END among its first 36,000 cards")


@pytest.mark.parametrize("axes", ["2147483648", "999999999999999999", "9" * 60, "1E300"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_axes_beyond_all_reason_are_no_image_or_a_truncated_one(tmp_path: Path, axes: str, compress) -> None:
    content = texts.header_bytes(f"SIMPLE = T\nBITPIX = 8\nNAXIS = 2\nNAXIS1 = {axes}\nNAXIS2 = {axes}")
    path = written(tmp_path / "a.fits", compress(content))
    assert read_header(path).shape is None
    assert refusal(path).startswith("The file is truncated: it ends before the image")


@pytest.mark.parametrize(
    "line",
    [
        "HIERARCH",
        "HIERARCH =",
        "HIERARCH = 1",
        "HIERARCH  = ' / '' = ",
        "CONTINUE",
        "CONTINUE  'nothing is continued&'",
        "CONTINUE= 'x&'",
        "END = 1",
        "='",
        "        = 1",
        "A = '" + "'" * 70,
        "A = " + "1" * 70,
        "A = 1E99999",
        "A = -+1",
        "NAXIS1 = '8'",
        "\x00" * 80,
        "\xff" * 80,
    ],
)
def test_odd_cards_do_no_harm_to_those_beside_them(tmp_path: Path, line: str) -> None:
    content = texts.image(f"BEFORE = 1\n{'x' * 80}\nAFTER = 2").replace(
        b"x" * 80, line.encode("latin-1").ljust(80)
    )
    header = read_header(written(tmp_path / "a.fits", content))
    assert (header.cards["BEFORE"], header.cards["AFTER"], header.shape) == (1, 2, (6, 8))
    assert "\x00" not in header.text
