"""The images of a mask file, made from the flagged pixels alone, are those that the whole plane gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.domain import DQ
from hotpix_registry.fits.canonical import ones_complement_sum
from hotpix_registry.fits.flagged import Flagged, Image


def check(image: Image, plain: bytes) -> None:
    """Bytes, length and sum of an image against those of the same image written out."""
    assert b"".join(image.strips()) == plain
    assert image.n_bytes == len(plain)
    assert image.data_sum() == ones_complement_sum(plain + bytes(-len(plain) % 4))


def check_all(dq: np.ndarray) -> None:
    flagged = Flagged.of(dq)
    check(flagged.bad_image(), (dq & 1).astype(np.uint8).tobytes())
    check(flagged.dq_image(), (dq ^ 0x8000).astype(">u2").tobytes())
    assert flagged.counts() == {flag: int(np.sum(dq & flag.value != 0)) for flag in DQ}
    assert flagged.shape == dq.shape
    plane = np.zeros(dq.size, np.uint16)
    plane[flagged.positions] = flagged.flags
    np.testing.assert_array_equal(plane.reshape(dq.shape), dq)


@given(
    dq=hnp.arrays(
        np.uint16,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 0xFFFF),
        fill=st.just(0),
    )
)
@settings(max_examples=100, deadline=None)
def test_the_images_of_any_flags_are_those_of_the_whole_plane(dq: np.ndarray) -> None:
    check_all(dq)


@pytest.mark.parametrize("shape", [(1, 1), (512, 1024), (513, 1027), (1048577, 1)])
def test_images_of_several_strips_have_each_flag_once(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    dq = np.zeros(shape, np.uint16)
    flat = dq.reshape(-1)
    flat[rng.choice(dq.size, dq.size // 50)] = 5
    flat[[0, -1]] = 1023
    flat[(1 << 19) - 1 : (1 << 19) + 1] = 33
    check_all(dq)


@pytest.mark.parametrize("flag", [0, 1023])
def test_images_of_no_flags_and_of_nothing_but_flags_are_right(flag: int) -> None:
    check_all(np.full((700, 900), flag, np.uint16))


def test_the_order_of_rows_in_memory_does_not_matter() -> None:
    dq = np.arange(35, dtype=np.uint16).reshape(5, 7)
    assert (
        b"".join(Flagged.of(np.asfortranarray(dq)).dq_image().strips())
        == (dq ^ 0x8000).astype(">u2").tobytes()
    )
