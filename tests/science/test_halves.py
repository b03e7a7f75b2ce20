"""The benchmark of even against odd frames: what it compares is alike."""

import numpy as np
import pytest

from tests.benchmarks import halves


def test_both_halves_find_more_of_the_bad_pixels_than_both_cuts_of_the_same_number():
    five_of_each, *_ = halves.simulated_darks(512, [1])
    ((_, (ours,)), *_) = halves.compare_halves([five_of_each]).items()
    assert ours["found_by_both"] > 0.75
    assert ours["found_by_both"] > ours["found_by_both_difference"] + 0.05
    assert ours["found_by_both"] > ours["found_by_both_dark_current"] + 0.2
    assert ours["jaccard"] > ours["same_number_difference"] + 0.2


def test_cuts_hold_as_many_pixels_as_the_masks_they_are_compared_with():
    rng = np.random.default_rng(1)
    planes = [rng.normal(size=(50, 50)), rng.normal(size=(50, 50))]
    like = [np.arange(2500).reshape(50, 50) < 30, np.arange(2500).reshape(50, 50) < 50]
    cut = halves._cut(planes, like)
    assert sum(mask.sum() for mask in cut) == 80
    assert min(plane[mask].min() for plane, mask in zip(planes, cut, strict=True)) >= max(
        plane[~mask].max() for plane, mask in zip(planes, cut, strict=True)
    )


def test_where_the_real_darks_are_not_at_hand_none_are_compared(tmp_path):
    assert halves.real_darks(tmp_path / "darks") == []


def test_even_and_odd_frames_share_no_frame_but_single_ones():
    (darks, *_) = halves.simulated_darks(64, [1])
    even, odd = ({frame.name for group in darks.half(which) for frame in group.frames} for which in (0, 1))
    assert len(even) == len(odd) == 10
    assert not even & odd
    assert darks.name == "simulated, 10 × 90 and 1000 s halved, nothing in both"
    assert darks.bad.mean() == pytest.approx(0.0005, abs=0.0005)
