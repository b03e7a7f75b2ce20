"""Ranks by a sorting network, against plain sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.science.ranks import median, ranked, row_median, sorting_network


@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(1, 40), st.integers(1, 5)),
        elements=st.integers(0, 65535),
    )
)
def test_a_network_of_minima_and_maxima_sorts_any_rows(values):
    rows = ranked(list(values), range(len(values)))
    assert np.array_equal(np.stack(rows), np.sort(values, axis=0))


def test_twenty_frames_take_97_comparisons_or_few_more():
    assert len(sorting_network(20)) <= 105
    assert len(sorting_network(2)) == 1
    assert sorting_network(1) == ()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 20, 32])
def test_only_the_ranks_that_are_needed_are_sorted(n: int) -> None:
    rows = list(np.random.default_rng(n).integers(0, 50, (n, 1000)).astype(np.uint16))
    ordered = np.sort(rows, axis=0)
    for ranks in ({0}, {n - 1}, {n // 2}, {0, n // 2, n - 1}, set(range(n))):
        found = ranked(rows, ranks)
        for rank in ranks:
            assert np.array_equal(found[rank], ordered[rank])


@pytest.mark.parametrize("n", [1, 2, 3, 8, 64])
def test_the_median_is_numpys(n: int) -> None:
    rows = np.random.default_rng(n).normal(0, 1, (n, 500)).astype(np.float32)
    assert np.array_equal(median(rows), np.median(rows, axis=0))
    assert np.array_equal(row_median(rows.T), np.median(rows, axis=0))
