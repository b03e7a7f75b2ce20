"""Work that forks share comes out as one process finds it, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from hotpix_registry.science.forks import in_order

HERE = os.getpid()


def squared(number: int) -> int:
    return number**2


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_results_come_in_the_order_of_the_items(processes: int) -> None:
    assert list(in_order(squared, range(500), processes)) == [n**2 for n in range(500)]
    assert list(in_order(squared, [], processes)) == []
    assert list(in_order(squared, [7], processes)) == [49]


def test_both_processes_work() -> None:
    def who(_: int) -> int:
        time.sleep(0.01)
        return os.getpid()

    workers = list(in_order(who, range(40), 2))
    assert len(set(workers)) == 2
    assert min(map(workers.count, set(workers))) > 5


def test_results_larger_than_a_pipe_arrive() -> None:
    found = in_order(lambda number: bytes([number]) * 3_000_000, range(20), 2)
    assert [(blob[0], len(blob)) for blob in found] == [(n, 3_000_000) for n in range(20)]


def test_what_a_killed_fork_had_taken_is_done_here() -> None:
    def suicidal(number: int) -> int:
        if os.getpid() != HERE and number > 5:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.005)
        return number

    assert list(in_order(suicidal, range(60), 2)) == list(range(60))


def test_an_error_in_a_fork_is_met_here() -> None:
    def unlucky(number: int) -> int:
        time.sleep(0.005)
        if number == 30:
            raise ZeroDivisionError
        return number

    found = in_order(unlucky, range(60), 2)
    with pytest.raises(ZeroDivisionError):
        list(found)


def test_forks_end_with_whoever_asks_no_further() -> None:
    def pid(_: int) -> int:
        time.sleep(0.01)
        return os.getpid()

    results: Iterator[int] = in_order(pid, range(1000), 2)
    workers = {next(results) for _ in range(20)}
    results.close()  # type: ignore[attr-defined]
    (fork,) = workers - {HERE}
    with pytest.raises(ProcessLookupError):
        os.kill(fork, 0)
