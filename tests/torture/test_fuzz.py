"""The short form of the fuzzing: every reader survives some hundreds of inputs, the same each time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hotpix_registry.errors import HotpixError, UsageError
from tests.torture.fuzz import fault_of, feed_random, run
from tests.torture.targets import TARGETS
from tests.torture.targets.target import Target

IN_PROCESS = sorted(set(TARGETS) - {"tiles", "science-tiles"})
"""astropy unpacks tiles in C, and a damaged one may damage the process that runs the other tests"""


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_reader_answers_hostile_input_with_a_sentence(name: str) -> None:
    tally = feed_random(TARGETS[name], inputs=300, minutes=5, seed=7)
    assert (tally.faults, tally.tried) == ({}, 300)


@pytest.mark.parametrize("name", TARGETS)
def test_most_seeds_are_taken_for_what_they_are(name: str, tmp_path: Path) -> None:
    taken = 0
    seeds = TARGETS[name].seeds()
    for data in seeds:
        try:
            TARGETS[name].feed(data, tmp_path)
            taken += 1
        except HotpixError:
            pass
    assert taken >= min(2, len(seeds)), f"{taken} of {len(seeds)}"


@pytest.mark.parametrize("name", TARGETS)
def test_changes_are_the_same_for_the_same_seed(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds()[:3]:
        assert target.mutate(data, random.Random(3)) == target.mutate(data, random.Random(3))


def feed(data: bytes, _: Path) -> None:
    if data == b"bad":
        raise UsageError("It is bad.")
    raise KeyError(data)


def test_what_is_no_sentence_is_a_fault_with_its_place(tmp_path: Path) -> None:
    target = Target(name="t", what="texts", feed=feed, seeds=lambda: [b"x"], mutate=lambda data, _: data)
    assert fault_of(target, b"bad", tmp_path) == ""
    assert fault_of(target, b"worse", tmp_path).startswith("KeyError at test_fuzz.py:")
    row = feed_random(target, inputs=5, minutes=1, seed=1).row(target)
    assert (row.tried, row.survived, row.lost) == (5, 0, 5)
    assert row.note.startswith("at random; 5 x KeyError at test_fuzz.py:")


def test_a_run_is_bounded_by_its_inputs() -> None:
    (row,) = run(["dates"], inputs=20, minutes=1, seed=1, guided=False)
    assert (row.fault, row.tried, row.survived, row.lost) == (
        "hostile input: dates, receipts and other short texts",
        20,
        20,
        0,
    )
