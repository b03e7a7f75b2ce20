"""Masks that others wrote come in with the pixels they have; what is none is one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from hotpix_registry.errors import UnreadableFrame, UsageError
from hotpix_registry.fits.foreign import read_foreign_mask

DEFECTS = Path(__file__).parents[3] / "shared" / "data" / "defects"


def test_any_number_but_zero_is_masked_or_one_bit_of_it(tmp_path: Path) -> None:
    values = np.array([[0, 1, 16, 17, 65535]], np.uint16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values)]).writeto(tmp_path / "mask.fits.fz")
    fits.PrimaryHDU(values.astype(np.int32)).writeto(tmp_path / "mask.fits")
    np.save(tmp_path / "mask.npy", values.astype(float))
    for name in ("mask.fits.fz", "mask.fits", "mask.npy"):
        assert read_foreign_mask(tmp_path / name).tolist() == [[False, True, True, True, True]]
        assert read_foreign_mask(tmp_path / name, bit=4).tolist() == [[False, False, True, True, True]]


def test_nan_is_masked(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.array([[np.nan, 0.0]]))
    assert read_foreign_mask(tmp_path / "mask.npy").tolist() == [[True, False]]
    assert read_foreign_mask(tmp_path / "mask.npy", bit=0).tolist() == [[True, False]]


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableFrame, match=r"is no plane of numbers: its header says .*'\|O'"):
        read_foreign_mask(tmp_path / "mask.npy")


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((2, 2, 2)), np.array([["a"]])])
def test_an_array_that_is_no_plane_of_numbers_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "mask.npy", array)
    with pytest.raises(UnreadableFrame, match="is no plane of numbers: its header says"):
        read_foreign_mask(tmp_path / "mask.npy")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.zeros((3, 5)))
    with pytest.raises(UnreadableFrame, match="has 5 x 3 pixels where 4 x 4 are needed"):
        read_foreign_mask(tmp_path / "mask.npy", shape=(4, 4))


def test_a_list_of_boxes_needs_a_shape_and_must_fit_it(tmp_path: Path) -> None:
    path = tmp_path / "defects.ecsv"
    Table({"x0": [1], "y0": [0], "width": [2], "height": [3]}).write(path, format="ascii.ecsv")
    assert np.argwhere(read_foreign_mask(path, shape=(3, 4))).tolist() == [
        [0, 1],
        [0, 2],
        [1, 1],
        [1, 2],
        [2, 1],
        [2, 2],
    ]
    with pytest.raises(UsageError, match="Give the shape"):
        read_foreign_mask(path)
    with pytest.raises(UnreadableFrame, match="does not lie within 4 x 2 pixels"):
        read_foreign_mask(path, shape=(2, 4))
    Table({"x": [1], "y": [0]}).write(path, format="ascii.ecsv", overwrite=True)
    with pytest.raises(UnreadableFrame, match="It needs columns x0, y0, width and height"):
        read_foreign_mask(path, shape=(2, 4))
    path.write_text("# %ECSV 1.0\n# ---\n# datatype: [")
    with pytest.raises(UnreadableFrame, match="is no list of defects"):
        read_foreign_mask(path, shape=(2, 4))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFrame, match=r"gone\.fits cannot be opened"):
        read_foreign_mask(tmp_path / "gone.fits")


def test_real_defect_lists_are_read_with_every_box() -> None:
    paths = sorted(DEFECTS.glob("*.ecsv"))
    if not paths:
        pytest.skip("the real defect lists are not here")
    for path in paths:
        mask = read_foreign_mask(path, shape=(4096, 2048))
        slow = np.zeros((4096, 2048), bool)
        for line in path.read_text().splitlines():
            if re.fullmatch(r"\d+ \d+ \d+ \d+", line):
                x0, y0, width, height = map(int, line.split())
                slow[y0 : y0 + height, x0 : x0 + width] = True
        assert slow.any()
        np.testing.assert_array_equal(mask, slow)


# --- hostile files ----------------------------------------------------------


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999), }", "truncated"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (900, 900), }", "truncated: .* the 900 x 900"),
        (
            "{'descr': '<f7', 'fortran_order': False, 'shape': (1, 1), }",
            "of the kind <f7, which NumPy does not",
        ),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }", "no plane of numbers"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1), }", "no plane of numbers"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2), }", "no plane of numbers"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (((((((((((1", "no plane of numbers"),
        ("{'descr': '|u1'\x00\x1b]0;x\x07", r"its header says '{'descr': '\|u1'\?\?\]0;x\?'"),
    ],
)
def test_what_an_npy_header_announces_is_not_believed(tmp_path: Path, header: str, why: str) -> None:
    (tmp_path / "mask.npy").write_bytes(npy(header, b"1234"))
    with pytest.raises(UnreadableFrame, match=why):
        read_foreign_mask(tmp_path / "mask.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["?", "u1", ">i2", "<u8", "<f4", ">f8"])
def test_planes_of_every_kind_and_order_come_in(tmp_path: Path, kind: str, order: str) -> None:
    values = np.zeros((3, 4), kind, order=order)  # type: ignore[call-overload]
    values[1, 2] = 1
    np.save(tmp_path / "mask.npy", values)
    assert np.argwhere(read_foreign_mask(tmp_path / "mask.npy")).tolist() == [[1, 2]]
    assert np.argwhere(read_foreign_mask(tmp_path / "mask.npy", bit=0)).tolist() == [[1, 2]]


def test_numbers_beyond_64_bits_have_no_bits_and_are_masked(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.array([[1e300, -np.inf, 4.0]]))
    assert read_foreign_mask(tmp_path / "mask.npy", bit=1).tolist() == [[True, True, False]]


LIST = "# %ECSV 1.0\n# ---\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{LIST}x0 y0 width height\n9223372036854775807 0 1 1\n",
        f"{LIST}x0 y0 width height\n1 0 9223372036854775807 1\n",
        f"{LIST}x0 y0 width height\n-1 0 1 1\n",
        f"{LIST}x0 y0 width height\n0 0 0 1\n",
        f"{LIST}x0 y0 width height\n{'9' * 5000} 0 1 1\n",
        f"{LIST}x0 y0 width height\nnan 0 1 1\n",
        f"{LIST}x0 y0 width height\n1 2\n",
        f'{LIST}x0 y0 width height\n"" "" "" ""\n',
        f"{LIST}x0 y0 width height\n{'1' * 200_000}\n",
        f"{LIST}# meta: !!python/object/apply:os.system [false]\nx y\n1 2\n",
        f"{LIST}# - {'[' * 5000}\n",
        LIST,
    ],
)
def test_a_list_that_makes_no_sense_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "defects.ecsv").write_text(text)
    with pytest.raises(UnreadableFrame, match=r"is no list of defects|does not lie within 6 x 4 pixels"):
        read_foreign_mask(tmp_path / "defects.ecsv", shape=(4, 6))


def test_a_list_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "defects.ecsv").write_bytes(LIST.encode() + b"x0 y0 width height\n\xff")
    with pytest.raises(UnreadableFrame, match="is no list of defects"):
        read_foreign_mask(tmp_path / "defects.ecsv", shape=(4, 6))


def test_a_list_may_be_divided_by_commas_and_have_other_columns(tmp_path: Path) -> None:
    (tmp_path / "defects.ecsv").write_text(f'{LIST}why,height,width,y0,x0\n"a, b",1,2,3,4\n')
    assert np.argwhere(read_foreign_mask(tmp_path / "defects.ecsv", shape=(4, 6))).tolist() == [
        [3, 4],
        [3, 5],
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(1, 6)] * 2), max_size=12))
def test_boxes_that_lie_over_each_other_mask_what_any_of_them_covers(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[int, int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("boxes") / "defects.ecsv"
    path.write_text(LIST + "x0 y0 width height\n" + "".join(f"{' '.join(map(str, box))}\n" for box in boxes))
    slow = np.zeros((11, 11), bool)
    for x0, y0, width, height in boxes:
        slow[y0 : y0 + height, x0 : x0 + width] = True
    np.testing.assert_array_equal(read_foreign_mask(path, shape=(11, 11)), slow)
