"""The mask file is the same for the same content, and anyone can read it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import ccdproc
import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.domain import DQ, Configuration, Recipe
from hotpix_registry.errors import IntegrityError, UnreadableFrame
from hotpix_registry.fits import canonical, packing
from hotpix_registry.fits.maskfile import (
    EQUIVALENTS,
    MaskContent,
    MaskInput,
    MaskLimit,
    decode,
    digest,
    encode,
    parts,
    read_bad,
)

DIGEST = hashlib.sha256(b"a dark").hexdigest()


def small_dq() -> np.ndarray:
    dq = np.zeros((5, 7), np.uint16)
    dq[1, 2] = DQ.BAD.value | DQ.HOT.value
    dq[4, 6] = DQ.BAD.value | DQ.DARK_NONLINEAR.value | DQ.WARM.value
    dq[0, 0] = DQ.WARM.value
    return dq


def a_mask(**changes: Any) -> MaskContent:
    content = MaskContent(
        dq=small_dq(),
        camera="aspen",
        configuration=Configuration(
            binning=(2, 1), readout_mode="2 MHz", gain_setting=1.25, sub_frame=(0, 8, 7, 5)
        ),
        build_key=hashlib.sha256(b"key").hexdigest(),
        algorithm_version="1",
        recipe={"rule": "evidence+limit", "limit_e_per_s": None, "cutoff_e_per_s": 1.0},
        set_point_c=-20.0,
        first_night="2018-08-22",
        last_night="2018-12-01",
        exposures_s=(90.0, 1000.0),
        limit=MaskLimit(
            e_per_s=4.25,
            source="automatic",
            low_e_per_s=4.0,
            high_e_per_s=4.5,
            charge_e=382.5,
            exposures_s=(90.0, 1000.0),
            tolerance=0.05,
        ),
        trim_section="[1:7,1:5]",
        inputs=(
            MaskInput(
                role="dark",
                sha256=DIGEST,
                kind="dark",
                exptime_s=90.0,
                ccd_temp_c=-20.125,
                start="2018-08-22T04:00:00Z",
            ),
            MaskInput(role="static defects", sha256=DIGEST),
        ),
        notes=("Simulated.",),
    )
    return dataclasses.replace(content, **changes)


def written(folder: Path, content: MaskContent) -> Path:
    path = folder / "mask.fits"
    path.write_bytes(encode(content))
    return path


def differences(one: MaskContent, other: MaskContent) -> list[str]:
    """Names of the fields that differ."""
    np.testing.assert_array_equal(one.dq, other.dq)
    names = [field.name for field in dataclasses.fields(MaskContent) if field.name != "dq"]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


# --- same bytes, same content -----------------------------------------------


def test_the_canonical_bytes_never_change() -> None:
    """Should this fail, every registry in the world would see its masks change: do not edit the digest."""
    assert digest(encode(a_mask())) == "81b630ce61061cf1c2ac5ab5d92295700333fcfdcd73307ad8d7d1483e8614c1"


def test_what_is_encoded_is_decoded() -> None:
    assert differences(a_mask(), decode(encode(a_mask()))) == []


def test_a_mask_of_which_little_is_known_comes_back_as_it_was() -> None:
    bare = MaskContent(
        dq=np.zeros((1, 1), np.uint16),
        camera="a",
        configuration=Configuration(),
        build_key="",
        algorithm_version="0",
        recipe={},
    )
    assert differences(bare, decode(encode(bare))) == []


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200).map(str.rstrip)
PLAIN = TEXT.filter(lambda text: not re.search(r"'\s*/", text))


def test_a_quote_before_a_slash_is_escaped_since_astropy_would_end_the_string_there() -> None:
    content = a_mask(camera="d'/art", recipe={"it's '/": "' /"})
    decoded = decode(encode(content))
    assert decoded.camera == r"d\x27/art"
    assert decoded.recipe == content.recipe


@given(
    dq=hnp.arrays(
        np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1023)
    ),
    camera=PLAIN,
    recipe=st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-(10**9), 10**9), st.none(), st.booleans())),
    mode=st.one_of(st.none(), PLAIN),
)
@settings(max_examples=60, deadline=None)
def test_any_content_comes_back_as_it_was_and_passes_its_checksums(
    dq: np.ndarray, camera: str, recipe: dict[str, Any], mode: str | None
) -> None:
    content = a_mask(dq=dq, camera=camera, recipe=recipe, configuration=Configuration(readout_mode=mode))
    fits_bytes = encode(content)
    assert differences(content, decode(fits_bytes)) == []
    with fits.open(io.BytesIO(fits_bytes), checksum=True) as hdus:  # a wrong sum is a warning, an error here
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, dq & 1)
        np.testing.assert_array_equal(hdus["DQ"].data, dq)


def test_measured_numbers_keep_six_digits_so_that_the_last_bit_of_a_sum_changes_nothing() -> None:
    limit = MaskLimit(e_per_s=4.25 + 4e-10, source="automatic")
    other = MaskLimit(e_per_s=4.25 - 4e-10, source="automatic")
    assert encode(a_mask(limit=limit)) == encode(a_mask(limit=other))


def test_the_order_of_the_inputs_does_not_matter() -> None:
    content = a_mask()
    assert encode(dataclasses.replace(content, inputs=content.inputs[::-1])) == encode(content)


def test_the_memory_layout_of_the_plane_does_not_matter() -> None:
    assert encode(a_mask(dq=np.asfortranarray(small_dq()))) == encode(a_mask())


def test_characters_that_fits_cannot_hold_are_escaped() -> None:
    assert decode(encode(a_mask(camera="Höhe\n"))).camera == r"H\xf6he\x0a"


def test_a_plane_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="uint16"):
        a_mask(dq=np.zeros((2, 2), np.int32))


# --- others read it ---------------------------------------------------------


def test_fitscheck_passes(tmp_path: Path) -> None:
    script = "import sys; from astropy.io.fits.scripts.fitscheck import main; sys.exit(main(sys.argv[1:]))"
    path = written(tmp_path, a_mask())
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    path.write_bytes(path.read_bytes().replace(b"aspen", b"birch", 1))
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1


def test_ccddata_and_ccdproc_take_it_as_a_mask(tmp_path: Path) -> None:
    path = written(tmp_path, a_mask())
    mask = CCDData.read(path).data.astype(bool)
    assert np.argwhere(mask).tolist() == [[1, 2], [4, 6]]
    frame = CCDData(np.ones((5, 7)), unit="adu", mask=mask)
    assert ccdproc.trim_image(frame[:, 2:]).mask.sum() == 2
    assert ccdproc.ccd_process(frame, bad_pixel_mask=mask).mask.sum() == 2


def test_cfitsio_reads_every_part(tmp_path: Path) -> None:
    path = str(written(tmp_path, a_mask(recipe=Recipe().as_dict() | {"note": "it's a 'long' one " * 30})))
    np.testing.assert_array_equal(fitsio.read(path), small_dq() & 1)
    plane = fitsio.read(path, ext="DQ")
    assert plane.dtype == np.uint16
    np.testing.assert_array_equal(plane, small_dq())
    assert [name.strip() for name in fitsio.read(path, ext="DQDEF")["NAME"]] == [flag.name for flag in DQ]
    assert fitsio.read(path, ext="INPUTS")["SHA256"].tolist() == [DIGEST, DIGEST]
    header = fitsio.read_header(path)
    assert header["IMAGETYP"] == "dark mask"
    assert header["LIMIT"] == 4.25
    assert "it's a 'long' one it's" in header["RECIPE"]


def test_checksums_are_those_that_astropy_writes() -> None:
    ours = fits.open(io.BytesIO(encode(a_mask())))
    for hdu in ours:
        sums = hdu.header["CHECKSUM"], hdu.header["DATASUM"]
        hdu.add_checksum(when="makes the sum of the HDU zero")
        assert hdu.header["DATASUM"] == sums[1]
    ours.close()


@given(data=st.binary(max_size=400).map(lambda data: data[: len(data) // 4 * 4]))
def test_the_sum_is_the_slow_one_of_the_standard(data: bytes) -> None:
    total = 0
    for i in range(0, len(data), 4):
        total += int.from_bytes(data[i : i + 4], "big")
        total = (total & 0xFFFFFFFF) + (total >> 32)
    assert canonical.ones_complement_sum(data) == total


def test_the_header_says_what_a_stranger_needs() -> None:
    header = fits.Header.fromstring(encode(a_mask())[: 4 * 2880].decode("ascii"))
    assert (header["CAMERA"], header["SET-TEMP"], header["XBINNING"]) == ("aspen", -20.0, 2)
    assert (header["EXPTST1"], header["EXPTST2"], header["NMASKED"]) == (90.0, 1000.0, 2)
    history = "\n".join(header["HISTORY"])
    assert "camera aspen" in history
    assert "2 of 35 pixels are masked (5.714 %)" in history.replace("\n", " ")
    assert header.comments["CHECKSUM"] == "makes the sum of the HDU zero"


def test_every_flag_has_a_description_and_its_equivalents() -> None:
    with fits.open(io.BytesIO(encode(a_mask()))) as hdus:
        rows = hdus["DQDEF"].data
        assert rows["VALUE"].tolist() == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
        assert rows["COUNT"].tolist() == [2, 0, 1, 2, 1, 0, 0, 0, 0, 0]
        assert rows["JWST"][4] == "UNRELIABLE_DARK 2^23"
        assert rows["HST"][2] == "16"
    assert set(EQUIVALENTS) == set(DQ)


def test_the_boolean_mask_is_read_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, a_mask())
    for source in (path, str(path), path.read_bytes()):
        bad = read_bad(source)
        assert bad.dtype == np.bool_
        np.testing.assert_array_equal(bad, (small_dq() & 1).astype(bool))


@pytest.mark.parametrize("content", [b"", b"a text", b"SIMPLE  =                    T".ljust(2880)])
def test_what_is_no_mask_file_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.fits"
    path.write_bytes(content)
    with pytest.raises(UnreadableFrame, match=r"other\.fits is no mask file"):
        read_bad(path)
    with pytest.raises(UnreadableFrame, match="is no mask file"):
        decode(content)


def test_a_fits_image_of_another_program_is_refused() -> None:
    file = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, 3), np.uint8)).writeto(file)
    with pytest.raises(UnreadableFrame, match="is no mask file"):
        decode(file.getvalue())


# --- storage ----------------------------------------------------------------


@given(
    dq=hnp.arrays(
        np.uint16,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=50),
        elements=st.integers(0, 1023),
        fill=st.just(0),
    )
)
@settings(max_examples=80, deadline=None)
def test_what_is_packed_is_unpacked_bit_for_bit(dq: np.ndarray) -> None:
    fits_bytes, packed = encode(a_mask(dq=dq)), packing.pack(parts(a_mask(dq=dq)))
    assert packed.sha256 == digest(fits_bytes)
    assert packing.unpack(packed.encoding, packed.blob, sha256=packed.sha256) == fits_bytes
    header = packing.unpack_header(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    assert fits_bytes.startswith(header)
    assert header.rstrip().endswith(b"END")
    bad = packing.unpack_bad(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    np.testing.assert_array_equal(bad, (dq & 1).astype(bool))
    plane = packing.unpack_dq(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    listed = packing.unpack_flagged(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    assert listed[0] == plane.shape
    assert np.array_equal(listed[1], np.flatnonzero(plane))
    assert np.array_equal(listed[2], plane.reshape(-1)[listed[1]])
    assert plane.dtype == np.uint16
    np.testing.assert_array_equal(plane, dq)


@pytest.mark.parametrize(("n_warm", "share"), [(0, 400), (167_772, 80)])
def test_a_stored_mask_of_a_large_sensor_is_small(n_warm: int, share: int) -> None:
    """4,308 flagged pixels among 16.8 million, without and with 1 % of WARM ones, and thirty inputs."""
    rng = np.random.default_rng(1)
    dq = np.zeros(4096 * 4096, np.uint16)
    dq[rng.choice(dq.size, n_warm, replace=False)] = DQ.WARM.value
    dq[rng.choice(dq.size, 4308, replace=False)] = rng.choice(np.array([5, 13, 17, 33, 49], np.uint16), 4308)
    inputs = tuple(
        MaskInput(role="dark", sha256=hashlib.sha256(bytes([i])).hexdigest(), exptime_s=90.0)
        for i in range(30)
    )
    packed = packing.pack(parts(a_mask(dq=dq.reshape(4096, 4096), inputs=inputs)))
    assert len(packed.blob) * share <= dq.size


@given(position=st.integers(0, 10**6), change=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_single_changed_byte_is_noticed_by_every_read(position: int, change: int) -> None:
    fits_bytes, packed = encode(a_mask()), packing.pack(parts(a_mask()))
    blob = bytearray(packed.blob)
    blob[position % len(blob)] ^= change
    try:  # a bit that zlib does not look at changes nothing
        assert packing.unpack(packed.encoding, bytes(blob), sha256=packed.sha256) == fits_bytes
    except IntegrityError as error:
        assert "are damaged" in error.message
    with pytest.raises(IntegrityError, match="are damaged"):
        packing.unpack_bad(packed.encoding, bytes(blob), blob_sha256=packed.blob_sha256)
    for read in (packing.unpack_dq, packing.unpack_header):
        with pytest.raises(IntegrityError, match="are damaged"):
            read(packed.encoding, bytes(blob), blob_sha256=packed.blob_sha256)


def test_the_blob_of_another_mask_is_noticed() -> None:
    one, other = packing.pack(parts(a_mask())), packing.pack(parts(a_mask(camera="birch")))
    with pytest.raises(IntegrityError):
        packing.unpack(one.encoding, one.blob, sha256=other.sha256)
    with pytest.raises(IntegrityError, match="does not know"):
        packing.unpack("later", one.blob, sha256=one.sha256)


@pytest.mark.parametrize(
    ("nx", "ny", "rest_bytes"),
    [(2**32 - 1, 2**32 - 1, 0), (2**14, 2**14 + 1, 0), (0, 2**32 - 1, 0), (4, 4, 300 << 20)],
)
def test_a_blob_that_announces_or_unpacks_to_too_much_is_not_unpacked(
    nx: int, ny: int, rest_bytes: int
) -> None:
    streams = (struct.pack(">4I", nx, ny, 2880, 5760) + bytes(rest_bytes), b"", b"")
    blob = b"".join(len(z).to_bytes(4, "big") + z for z in map(zlib.compress, streams))
    with pytest.raises(IntegrityError, match="bytes of a mask are damaged"):
        packing.unpack(packing.SPARSE, blob, sha256="0" * 64)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"CAMERA  = 'aspen   '", b"CAMERA  =  99999999 ", "CAMERA is no text"),
        (b"XBINNING=                    2", b"XBINNING=                  1.5", "XBINNING is no whole"),
        (b"RECIPE  =", b"RECAPE  =", "'RECIPE' is missing"),
        (b"BZERO   =                32768", b"BZERO   =                    0", "not of unsigned 16-bit"),
        (b"EXTNAME = 'INPUTS  '", b"EXTNAME = 'NUMBERS '", "'INPUTS' is missing"),
        (b"TFIELDS =                    7", b"TFIELDS =           2147483647", "'TFORM8' is missing"),
        (b"TFORM6  = '1J      '", b"TFORM6  = '1PJ(9)  '", "TFORM6 is of no table of this program"),
        (b"TFORM6  = '1J      '", b"TFORM6  = '4A      '", "NCOMBINE of its inputs is of another kind"),
        (b"TFORM6  = '1J      '", b"TFORM6  = '1K      '", "the rows of its table have"),
    ],
)
def test_a_mask_file_with_other_cards_is_named_as_none(old: bytes, new: bytes, why: str) -> None:
    fits_bytes = encode(a_mask())
    at = fits_bytes.rindex(old)
    with pytest.raises(UnreadableFrame, match=why):
        decode(fits_bytes[:at] + new + fits_bytes[at + len(old) :])


def test_a_whole_file_is_unpacked_without_numpy_and_astropy(tmp_path: Path) -> None:
    packed = packing.pack(parts(a_mask()))
    (tmp_path / "blob").write_bytes(packed.blob)
    script = (
        "import sys, pathlib; from hotpix_registry.fits import packing\n"
        f"packing.unpack('sparse', pathlib.Path('blob').read_bytes(), sha256='{packed.sha256}')\n"
        "assert not {'numpy', 'astropy'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{script}"],
        cwd=tmp_path,
        check=True,
    )
