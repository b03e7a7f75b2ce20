"""Any strip of any container gives the pixels that astropy gives."""

from __future__ import annotations

import bz2
import gzip
import itertools
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.errors import ProfileError, UnreadableFrame
from hotpix_registry.fits import streams
from hotpix_registry.fits.pixels import open_rows, overscan_level, parse_section
from hotpix_registry.science.inputs import ArrayRows

REAL_DARKS = Path(__file__).parents[3] / "shared" / "data" / "darks"

FRAME = np.random.default_rng(1).integers(0, 65536, (37, 23)).astype(np.uint16)
CONTAINERS = (
    "plain.fits",
    "gzip.fits.gz",
    "bzip2.fits.bz2",
    "rice.fits.fz",
    "gzip-tiles.fits.fz",
    "extension.fits",
)


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frame in each container."""
    folder = tmp_path_factory.mktemp("containers")
    fits.PrimaryHDU(FRAME).writeto(folder / "plain.fits")
    plain = (folder / "plain.fits").read_bytes()
    (folder / "gzip.fits.gz").write_bytes(gzip.compress(plain))
    (folder / "bzip2.fits.bz2").write_bytes(bz2.compress(plain))
    empty = fits.PrimaryHDU
    fits.HDUList([empty(), fits.CompImageHDU(FRAME, compression_type="RICE_1")]).writeto(
        folder / "rice.fits.fz"
    )
    tiles = fits.CompImageHDU(FRAME, compression_type="GZIP_2", tile_shape=(10, 7))
    fits.HDUList([empty(), tiles]).writeto(folder / "gzip-tiles.fits.fz")
    fits.HDUList([empty(), fits.ImageHDU(FRAME)]).writeto(folder / "extension.fits")
    return folder


def in_strips(path: Path, edges: list[int], **options: Any) -> np.ndarray:
    with open_rows(path, **options) as rows:
        ends = sorted({0, rows.shape[0], *(edge for edge in edges if edge < rows.shape[0])})
        return np.concatenate([rows.read(a, b) for a, b in itertools.pairwise(ends)])


def with_cards(data: np.ndarray, **cards: Any) -> fits.PrimaryHDU:
    """Stored numbers as they are, with scaling keywords set by hand."""
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(cards)
    return hdu


# --- the same pixels --------------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
@given(edges=st.lists(st.integers(0, 37)))
@settings(max_examples=15, deadline=None)
def test_every_container_gives_the_same_native_uint16_pixels_in_any_strips(
    containers: Path, name: str, edges: list[int]
) -> None:
    pixels = in_strips(containers / name, edges)
    assert pixels.dtype == np.uint16
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels, FRAME)


@pytest.mark.parametrize("name", CONTAINERS)
def test_rows_can_be_read_in_any_order_and_twice(containers: Path, name: str) -> None:
    with open_rows(containers / name) as rows:
        for y0, y1 in ((30, 37), (0, 5), (20, 20), (36, 37), (0, 37)):
            np.testing.assert_array_equal(rows.read(y0, y1), FRAME[y0:y1])


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_trimmed_frame_is_the_slice_of_the_whole(containers: Path, name: str) -> None:
    pixels = in_strips(containers / name, [3, 11], trim="[3:20, 2:30]")
    np.testing.assert_array_equal(pixels, FRAME[1:30, 2:20])
    assert pixels.flags.c_contiguous
    pixels = in_strips(containers / name, [4], trim=(slice(5, 9), slice(0, 23)))
    np.testing.assert_array_equal(pixels, FRAME[5:9])


NUMBERS = st.sampled_from(["u1", "i2", "i4", "i8", "f4", "f8"]).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
)


@given(data=NUMBERS, edges=st.lists(st.integers(0, 12), max_size=3))
@settings(max_examples=60, deadline=None)
def test_every_type_of_number_gives_what_astropy_gives(
    tmp_path_factory: pytest.TempPathFactory, data: np.ndarray, edges: list[int]
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "frame.fits"
    fits.PrimaryHDU(data).writeto(path)
    pixels = in_strips(path, edges)
    assert pixels.dtype.isnative
    assert pixels.dtype in (np.uint16, np.float32, np.float64)
    np.testing.assert_array_equal(pixels, fits.getdata(path).astype(pixels.dtype))
    if data.dtype.kind != "i" or data.itemsize < 8:
        np.testing.assert_array_equal(pixels.astype(np.float64), data.astype(np.float64))


@pytest.mark.parametrize(
    ("kind", "scale", "zero"),
    [
        ("i2", 1.0, 32768.0),
        ("i2", 0.5, 100.0),
        ("i2", 1.0, 1000.0),
        ("u1", 2.0, -3.0),
        ("i4", 0.1, 7.0),
        ("f4", 1.5, 0.25),
    ],
)
def test_scaled_numbers_are_those_of_astropy(tmp_path: Path, kind: str, scale: float, zero: float) -> None:
    data = np.arange(-60 if kind != "u1" else 0, 60).reshape(-1, 10).astype(kind)
    path = tmp_path / "scaled.fits"
    with_cards(data, BSCALE=scale, BZERO=zero).writeto(path)
    np.testing.assert_array_equal(in_strips(path, [2]), fits.getdata(path))


def test_unsigned_32_bit_numbers_lose_nothing(tmp_path: Path) -> None:
    data = np.array([[0, 1, 2**32 - 1, 2**24 + 1]], np.uint32)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    assert in_strips(tmp_path / "a.fits", []).tolist() == data.tolist()


def test_blank_pixels_of_signed_numbers_become_nan_and_nan_stays(tmp_path: Path) -> None:
    with_cards(np.array([[1, -99, 3]], np.int16), BLANK=-99).writeto(tmp_path / "blank.fits")
    np.testing.assert_array_equal(in_strips(tmp_path / "blank.fits", []), [[1, np.nan, 3]])
    fits.PrimaryHDU(np.array([[np.nan, 2]], np.float32)).writeto(tmp_path / "nan.fits")
    np.testing.assert_array_equal(in_strips(tmp_path / "nan.fits", []), [[np.nan, 2]])


def test_a_quantised_float_image_gives_what_astropy_gives(tmp_path: Path) -> None:
    data = np.random.default_rng(2).normal(100, 5, (20, 30)).astype(np.float32)
    compressed = fits.CompImageHDU(data, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(tmp_path / "a.fz")
    np.testing.assert_array_equal(in_strips(tmp_path / "a.fz", [7]), fits.getdata(tmp_path / "a.fz"))


def test_numbers_that_a_scale_makes_too_large_are_infinite_and_no_warning(tmp_path: Path) -> None:
    with_cards(np.array([[1, 2]], np.int16), BZERO=1e300).writeto(tmp_path / "zero.fits")
    with_cards(np.array([[1e300, 0.0]]), BSCALE=1e300).writeto(tmp_path / "scale.fits")
    assert np.isinf(in_strips(tmp_path / "zero.fits", [])).all()
    assert in_strips(tmp_path / "scale.fits", []).tolist() == [[np.inf, 0.0]]


def test_a_third_axis_of_length_one_is_dropped(tmp_path: Path) -> None:
    fits.PrimaryHDU(FRAME[np.newaxis]).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(in_strips(tmp_path / "a.fits", [5]), FRAME)
    cube = fits.CompImageHDU(FRAME[np.newaxis], compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), cube]).writeto(tmp_path / "a.fz")
    np.testing.assert_array_equal(in_strips(tmp_path / "a.fz", [5]), FRAME)


def test_tables_and_other_extensions_beside_the_image_do_not_matter(tmp_path: Path) -> None:
    table = fits.BinTableHDU(np.array([(1,)], dtype=[("A", "i4")]))
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(FRAME)]).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(in_strips(tmp_path / "a.fits", []), FRAME)
    fits.HDUList([fits.PrimaryHDU(FRAME), fits.ImageHDU(FRAME[:3])]).writeto(tmp_path / "b.fits")
    np.testing.assert_array_equal(in_strips(tmp_path / "b.fits", []), FRAME)
    np.testing.assert_array_equal(in_strips(tmp_path / "b.fits", [], hdu=1), FRAME[:3])


def test_a_missing_end_of_the_last_block_and_stray_bytes_behind_it_are_accepted(
    containers: Path, tmp_path: Path
) -> None:
    plain = (containers / "plain.fits").read_bytes()
    (tmp_path / "short.fits").write_bytes(plain[: 2880 + 2 * FRAME.size])
    np.testing.assert_array_equal(in_strips(tmp_path / "short.fits", []), FRAME)
    extension = (containers / "extension.fits").read_bytes()
    (tmp_path / "stray.fits").write_bytes(extension + b"\0" * 100)
    np.testing.assert_array_equal(in_strips(tmp_path / "stray.fits", []), FRAME)


def test_seek_and_read_serve_where_there_is_no_positioned_read(
    containers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    np.testing.assert_array_equal(in_strips(containers / "plain.fits", [9, 20]), FRAME)


def test_several_threads_read_one_plain_file(containers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in ("with positioned reads", "without"):
        with open_rows(containers / "plain.fits") as rows, ThreadPoolExecutor(4) as pool:
            strips = list(pool.map(lambda y, rows=rows: rows.read(y % 37, y % 37 + 1), range(740)))
        np.testing.assert_array_equal(np.concatenate(strips), np.tile(FRAME, (20, 1)))
        monkeypatch.delattr(os, "preadv", raising=False)


def test_gzip_is_read_with_isal_where_it_is_installed(containers: Path) -> None:
    pytest.importorskip("isal", reason="python-isal is not installed")
    assert "isal" in streams._gzip_opener().__module__
    np.testing.assert_array_equal(in_strips(containers / "gzip.fits.gz", [9]), FRAME)


def test_an_array_serves_as_rows() -> None:
    rows = ArrayRows(FRAME)
    assert rows.shape == (37, 23)
    np.testing.assert_array_equal(rows.read(3, 5), FRAME[3:5])
    with pytest.raises(ValueError, match="values to unpack"):
        _ = ArrayRows(FRAME[0]).shape


def test_real_darks_are_read_as_astropy_reads_them() -> None:
    paths = sorted(REAL_DARKS.rglob("*.[fF][iI][tT]"))[::8]
    if not paths:
        pytest.skip("the real darks are not here")
    for path in paths:
        with fits.open(path, memmap=False) as hdus:
            np.testing.assert_array_equal(in_strips(path, [100, 317]), hdus[0].data)


# --- what cannot be read ----------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"these are notes on darks\n" * 200, "does not begin with a FITS header"),
        (b"SIMPLE  =                    T", "ends within its header"),
        (b"SIMPLE  =                    T".ljust(2880), "ends within its header"),
        (gzip.compress(b"no image at all" * 300, mtime=0), "does not begin with a FITS header"),
        (b"\x1f\x8b\x08\x00rubbish", "truncated or damaged"),
        (b"BZh9rubbish that is long enough", "truncated or damaged"),
    ],
)
def test_a_file_that_is_no_fits_image_is_named_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "notes.fits"
    path.write_bytes(content)
    with pytest.raises(UnreadableFrame, match=reason) as caught:
        open_rows(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFrame, match=r"gone\.fits: There is no such file"):
        open_rows(tmp_path / "gone.fits")


@pytest.mark.parametrize("name", CONTAINERS)
@given(kept=st.floats(0, 0.97))
@settings(max_examples=15, deadline=None)
def test_a_truncated_file_is_unreadable_in_every_container(containers: Path, name: str, kept: float) -> None:
    whole = (containers / name).read_bytes()
    size = min(
        len(whole),
        {"plain.fits": 2880 + 2 * FRAME.size, "extension.fits": 5760 + 2 * FRAME.size}.get(name, 10**9),
    )
    if name.endswith(".fz"):
        size = whole.rstrip(b"\0").__len__()
    path = containers / f"truncated-{name}"
    path.write_bytes(whole[: int(size * kept)])
    with pytest.raises(UnreadableFrame, match=r"truncated-"):
        in_strips(path, [10, 20])


@pytest.mark.parametrize("name", ["gzip.fits.gz", "bzip2.fits.bz2"])
def test_a_flipped_bit_in_compressed_data_never_passes(containers: Path, name: str) -> None:
    whole = bytearray((containers / name).read_bytes())
    for position in range(len(whole) // 3, len(whole), 97):
        damaged = whole.copy()
        damaged[position] ^= 0x10
        path = containers / f"damaged-{name}"
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(in_strips(path, [10]), FRAME)
        except UnreadableFrame:
            continue


def test_damaged_tiles_are_unreadable(containers: Path) -> None:
    whole = bytearray((containers / "gzip-tiles.fits.fz").read_bytes())
    heap = len(whole) - 2880
    whole[heap : heap + 400] = b"\xff" * 400
    path = containers / "damaged.fits.fz"
    path.write_bytes(whole)
    with pytest.raises(UnreadableFrame, match="compressed tiles cannot be read"):
        in_strips(path, [10])


def test_an_image_that_astropy_takes_for_another_is_refused(containers: Path, tmp_path: Path) -> None:
    """Where the END of the primary header got lost, astropy sees in its place a table of bytes."""
    rest = (containers / "gzip-tiles.fits.fz").read_bytes()[2880:]
    path = tmp_path / "one.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(2880) + rest)
    with pytest.raises(UnreadableFrame, match="its headers can be read in more than one way"):
        open_rows(path)


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"TFIELDS": 2147483647}, "its table of tiles makes no sense"),
        ({"TFIELDS": 0}, "its table of tiles makes no sense"),
        ({"ZTILE1": 0}, "its table of tiles makes no sense"),
        ({"ZTILE2": -1}, "its table of tiles makes no sense"),
        ({"ZTILE1": 1000000}, "its table of tiles makes no sense"),
        ({"ZNAXIS1": 1000000, "ZNAXIS2": 1000000}, "it has 16 of 14285800000 tiles"),
        (
            {"ZNAXIS1": 1000000, "ZNAXIS2": 1000000, "ZTILE1": 250000, "ZTILE2": 250000},
            "a tile of it has more than 1 GiB",
        ),
        ({"ZCMPTYPE": "NONE"}, "its compressed tiles cannot be read"),
        ({"TFORM1": "1PX(9)"}, "its compressed tiles cannot be read"),
        ({"TTYPE1": "NONE"}, "its compressed tiles cannot be read"),
    ],
)
def test_what_a_table_of_tiles_announces_is_not_believed(
    containers: Path, tmp_path: Path, cards: dict[str, Any], why: str
) -> None:
    content = (containers / "gzip-tiles.fits.fz").read_bytes()
    for keyword, value in cards.items():
        written = f"'{value:8}'" if isinstance(value, str) else f"{value:>20}"
        content, times = re.subn(
            rb"%-8s= .{70}" % keyword.encode(), f"{keyword:8}= {written:70}".encode(), content, count=1
        )
        assert times == 1
    (tmp_path / "a.fits.fz").write_bytes(content)
    with pytest.raises(UnreadableFrame, match=why):
        in_strips(tmp_path / "a.fits.fz", [10])


def test_a_mosaic_a_cube_and_a_file_without_an_image_are_refused(tmp_path: Path) -> None:
    detectors = [fits.ImageHDU(FRAME), fits.ImageHDU(FRAME)]
    fits.HDUList([fits.PrimaryHDU(), *detectors]).writeto(tmp_path / "mosaic.fits")
    with pytest.raises(UnreadableFrame, match="mosaic of 2 images"):
        open_rows(tmp_path / "mosaic.fits")
    np.testing.assert_array_equal(in_strips(tmp_path / "mosaic.fits", [], hdu=2), FRAME)
    with pytest.raises(UnreadableFrame, match="no image in HDU 7"):
        open_rows(tmp_path / "mosaic.fits", hdu=7)
    fits.PrimaryHDU(np.zeros((3, 4, 5), np.uint8)).writeto(tmp_path / "colour.fits")
    with pytest.raises(UnreadableFrame, match="5 x 4 x 3 pixels"):
        open_rows(tmp_path / "colour.fits")
    fits.PrimaryHDU().writeto(tmp_path / "header-only.fits")
    with pytest.raises(UnreadableFrame, match="holds no image"):
        open_rows(tmp_path / "header-only.fits")
    fits.PrimaryHDU(np.zeros(5)).writeto(tmp_path / "spectrum.fits")
    with pytest.raises(UnreadableFrame, match="5 pixels"):
        open_rows(tmp_path / "spectrum.fits")


def test_rows_outside_of_the_image_are_a_bug_of_the_caller(containers: Path) -> None:
    with open_rows(containers / "plain.fits") as rows, pytest.raises(IndexError):
        rows.read(0, 38)


@given(junk=st.binary(max_size=6000))
@settings(max_examples=60, deadline=None)
def test_bytes_of_any_kind_raise_nothing_but_unreadable_frame(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("junk") / "junk.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(80) + junk)
    with pytest.raises(UnreadableFrame, match=r"junk\.fits"):
        in_strips(path, [])


VALUES = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.integers(-3, 40).map(str),
    st.floats().map(str),
    st.sampled_from(["T", "F", "'x'", "'", "1.0", "-32", "16", ""]),
)


@given(
    values=st.fixed_dictionaries(
        {"BITPIX": VALUES, "NAXIS": st.one_of(st.sampled_from("0123"), VALUES)},
        optional=dict.fromkeys(
            (
                "NAXIS1",
                "NAXIS2",
                "NAXIS3",
                "PCOUNT",
                "GCOUNT",
                "GROUPS",
                "BZERO",
                "BSCALE",
                "BLANK",
                "ZIMAGE",
                "ZNAXIS",
            ),
            VALUES,
        ),
    ),
    name=st.sampled_from(["a.fits", "a.fits.gz"]),
)
@settings(max_examples=300, deadline=None)
def test_headers_of_any_kind_raise_nothing_but_unreadable_frame(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str], name: str
) -> None:
    cards = [
        "SIMPLE  =                    T",
        *(f"{key:<8}= {value:>20}" for key, value in values.items()),
        "END",
    ]
    content = "".join(f"{card:<80}" for card in cards).ljust(2880).encode() + bytes(2880)
    path = tmp_path_factory.mktemp("headers") / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    try:
        with open_rows(path) as rows:
            rows.read(0, min(1, rows.shape[0]))
    except UnreadableFrame as error:
        assert str(path) in str(error)


# --- sections ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "y", "x"),
    [
        ("[1:4096, 1:2048]", slice(0, 2048), slice(0, 4096)),
        ("[4097:4128,:]", slice(0, 4096), slice(4096, 4128)),
        ("*, 3", slice(2, 3), slice(0, 4128)),
        (" [ 5 : 6 , 7 : 8 ] ", slice(6, 8), slice(4, 6)),
    ],
)
def test_a_section_counts_from_one_x_first_and_includes_both_ends(text: str, y: slice, x: slice) -> None:
    assert parse_section(text, (4096, 4128)) == (y, x)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1:10]", "not an image section"),
        ("[1:10,2:3,4:5]", "not an image section"),
        ("[1:10,a:b]", "no range of pixels"),
        ("[10:1,:]", "runs backwards"),
        ("[0:10,:]", "outside of the image of 20 pixels"),
        ("[1:21,:]", "outside of the image of 20 pixels"),
        ("[:,1:11]", "outside of the image of 10 pixels"),
        ("[-3:4,:]", "no range of pixels"),
        ("[" + "9" * 5000 + ":4,:]", "no range of pixels"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        parse_section(text, (10, 20))


def test_a_section_that_does_not_fit_names_the_file(containers: Path) -> None:
    with pytest.raises(ProfileError, match=r"plain\.fits: The x part"):
        open_rows(containers / "plain.fits", trim="[1:24,:]")


@given(first=st.integers(1, 50), length=st.integers(1, 50), nx=st.integers(1, 60))
def test_a_section_selects_the_pixels_it_names(first: int, length: int, nx: int) -> None:
    last = first + length - 1
    if last > nx:
        with pytest.raises(ProfileError):
            parse_section(f"[{first}:{last},1:1]", (1, nx))
        return
    _, x = parse_section(f"[{first}:{last},1:1]", (1, nx))
    assert np.arange(1, nx + 1)[x].tolist() == list(range(first, last + 1))


# --- overscan ---------------------------------------------------------------


@pytest.mark.parametrize(("noise_adu", "step_adu"), [(7.0, 1), (0.25, 1), (2.0, 4), (0.05, 1)])
def test_the_overscan_level_is_found_to_a_fraction_of_an_adu(noise_adu: float, step_adu: int) -> None:
    rng = np.random.default_rng(3)
    frame = np.full((2000, 100), 40000.0)
    frame[:, 68:] = 1000.3 + rng.normal(0, noise_adu, (2000, 32))
    frame[::90, 68] += 300  # charge left behind by hot pixels
    frame[5, 70:80] = 65535  # a cosmic ray in the electronics
    stored = (np.round(frame / step_adu) * step_adu).clip(0, 65535).astype(np.uint16)
    clean = stored[np.ix_(np.arange(2000) % 90 != 0, range(81, 100))].mean()
    level = overscan_level(ArrayRows(stored), "[69:100, :]")
    assert abs(level - clean) < 0.05 * max(noise_adu, 1)


def slow_overscan_level(values: np.ndarray) -> float:
    values = values[np.isfinite(values)].astype(float)
    distance = np.abs(values - np.median(values))
    sigma = 1.4826 * np.median(distance)
    steps = np.diff(np.unique(values[distance <= 4 * sigma])) if sigma else distance[distance > 0]
    sigma = max(sigma, steps.min()) if steps.size else sigma
    return float(values[distance <= 4 * sigma].mean())


@given(
    hnp.arrays(
        st.sampled_from([np.uint16, np.float32, np.float64]),
        st.tuples(st.integers(1, 9), st.integers(1, 30)),
        elements=st.integers(0, 2000),
    )
)
def test_the_overscan_level_equals_the_slow_calculation(values: np.ndarray) -> None:
    level = overscan_level(ArrayRows(values), (slice(None), slice(None)))
    assert level == pytest.approx(slow_overscan_level(values), rel=1e-12)


def test_the_overscan_level_is_the_same_from_a_file_and_in_any_container(containers: Path) -> None:
    levels = {overscan_level(containers / name, "[20:23, 2:36]") for name in CONTAINERS}
    assert len(levels) == 1


def test_a_constant_overscan_has_its_constant_as_level() -> None:
    assert overscan_level(ArrayRows(np.full((9, 9), 512, np.uint16)), "[1:2,:]") == 512.0


def test_nan_in_the_overscan_is_left_out_and_nothing_else_is_an_error() -> None:
    frame = np.full((4, 4), np.nan, np.float32)
    with pytest.raises(UnreadableFrame, match="holds no number"):
        overscan_level(ArrayRows(frame), "[1:2,:]")
    frame[2, 1] = 7.5
    assert overscan_level(ArrayRows(frame), "[1:2,:]") == 7.5


def test_numbers_that_no_frame_can_hold_are_left_out_of_the_overscan_too() -> None:
    frame = np.full((4, 4), 1.7e308)
    frame[:, 1:] = (100.0, -1.7e308, np.inf)
    assert overscan_level(ArrayRows(frame), (slice(None), slice(None))) == 100.0
