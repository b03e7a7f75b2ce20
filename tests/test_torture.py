"""The torture in its short form: each fault a few times, and nothing lost. `make torture` inflicts more."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from tests.databases import PostgreSQL
from tests.torture import corruption, crowd, faults, fleets, kills, soak
from tests.torture.place import KINDS, POSTGRESQL, SQLITE
from tests.torture.table import Row, render


def nothing_lost(rows: Iterable[Row]) -> None:
    told = list(rows)
    assert told
    assert not [row for row in told if row.lost], render(told)


@pytest.mark.parametrize(
    ("work", "kind"),
    [(work, SQLITE) for work in kills.WORKS[::2]] + [(work, POSTGRESQL) for work in kills.WORKS[1::2]],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_command_that_is_killed_loses_nothing(postgresql: PostgreSQL, kind: str, work: kills.Work) -> None:
    nothing_lost(kills.kill_commands(postgresql, kind=kind, trials=1, seed=1, works=(work,)))


def test_a_fleet_that_is_killed_loses_nothing(postgresql: PostgreSQL) -> None:
    nothing_lost(fleets.kill_fleet(postgresql, kind=SQLITE, trials=1, seed=1))


def test_a_client_that_is_killed_goes_on_with_whole_files(postgresql: PostgreSQL) -> None:
    nothing_lost(kills.kill_client(postgresql, kind=SQLITE, trials=3, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_that_is_killed_leaves_a_mirror_of_some_moment(postgresql: PostgreSQL, kind: str) -> None:
    nothing_lost(kills.kill_sync(postgresql, kind=kind, trials=2, seed=1))


def test_a_database_server_that_is_killed_keeps_what_it_acknowledged() -> None:
    nothing_lost(kills.kill_postgresql(trials=1, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_found_and_never_served(postgresql: PostgreSQL, kind: str) -> None:
    nothing_lost(corruption.corruption(postgresql, kind=kind, trials=2, seed=1))


def test_disks_rights_frames_and_clocks_that_fail_lose_nothing(postgresql: PostgreSQL) -> None:
    nothing_lost(faults.faults(postgresql, kind=SQLITE, trials=1, seed=1))


def test_a_full_disk_of_the_database_server_loses_nothing() -> None:
    nothing_lost([faults.full_disk_of_the_server(1)])


@pytest.mark.parametrize("kind", KINDS)
def test_eight_processes_at_once_lose_nothing(postgresql: PostgreSQL, kind: str) -> None:
    # how long a reader waits is measured where nothing else goes on, by `make torture`
    nothing_lost(crowd.crowd(postgresql, kind=kind, seconds=2, seed=1, longest_read_s=math.inf))


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_of_a_long_life_is_the_one_that_a_calendar_gives(
    postgresql: PostgreSQL, kind: str
) -> None:
    nothing_lost(soak.soak(postgresql, kind=kind, campaigns=3, seed=1))
