"""What a look-up costs does not grow: one step in an index, and one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
import sqlalchemy as sa

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.prompt import Driver
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.errors import AmbiguousMask, NoMask, RevokedMask
from hotpix_registry.instants import Validity, parse_date
from tests.plain_masks import add_camera, add_mask
from tests.told import Story


@pytest.fixture
def aspen(told: Callable[[Story], Path], registry: Registry) -> CameraRow:
    """A camera with ten masks, each built twice, so that half of what they held is closed."""
    told(ten_masks)
    with reading(registry._engine) as connection:
        (camera,) = queries.cameras(connection)
    return camera


def ten_masks(registry: Registry, _: Path) -> None:
    camera = add_camera(registry, CameraProfile(name="aspen", longitude_deg_east=0.0))
    for seed in (1, 2):
        for year in range(2010, 2020):
            night = f"{year}-08-22"
            start_us = parse_date(f"{night}T20:00:00Z")
            assert isinstance(start_us, int)
            add_mask(registry, camera, (night, night), [start_us], seed=seed)


@contextmanager
def statements(registry: Registry, before: Callable[[str], object] = str) -> Iterator[list[str]]:
    """What drivers send to the database meanwhile; `before` is called with each as it is about to be run."""
    sent: list[str] = []

    def note(statement: str) -> None:
        if statement.startswith("SELECT"):
            sent.append(statement)
            before(statement)

    class Noting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *arguments: Any, **options: Any) -> Self:
            note(str(query))
            return super().execute(query, *arguments, **options)

    def listen(connection: Any, *_: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(note)
        else:
            connection.cursor_factory = Noting

    registry._prompt.close()  # those it opens from now on are listened to
    sa.event.listen(registry._engine, "checkout", listen)
    yield sent
    sa.event.remove(registry._engine, "checkout", listen)
    registry._prompt.close()


def asked(registry: Registry, date: str, **options: Any) -> int:
    """How many statements a look-up costs."""
    with statements(registry) as sent:
        registry.mask("aspen", date, **options)
    return len(sent)


def test_a_look_up_costs_one_statement(registry: Registry, aspen: CameraRow) -> None:
    assert asked(registry, "2015-01-01T00:00:00Z") > 1
    assert asked(registry, "2015-01-01T00:00:00Z") == 1
    assert asked(registry, "2015-01-01") == 1
    registry.revoke(3, reason="light leak")
    assert asked(registry, "2015-01-01") > 1  # what was kept is forgotten when anything is written
    assert asked(registry, "2015-01-01") == 1
    for moment in ({"as_of": 15}, {"as_of": "2100-01-01"}, {"release": "2015A"}):
        if "release" in moment:
            registry.create_release("2015A", as_of=15)
        assert asked(registry, "2015-01-01", **moment) > 1
        assert asked(registry, "2015-01-01", **moment) == 1


def test_a_look_up_sees_what_another_process_has_just_written(
    registry: Registry, aspen: CameraRow, database: str
) -> None:
    before = registry.mask("aspen", "2015-01-01").answer
    with Registry(database) as other:
        other.revoke(before.mask_id, reason="light leak")
        with pytest.raises(RevokedMask):
            registry.mask("aspen", "2015-01-01")
        other.lift_revocation(before.mask_id, reason="none after all")
    assert registry.mask("aspen", "2015-01-01").answer.tx == before.tx + 2


def test_a_look_up_of_several_statements_sees_one_state_of_the_registry(
    registry: Registry, aspen: CameraRow, database: str
) -> None:
    start_us = parse_date("2015-08-22T20:00:00Z")
    assert isinstance(start_us, int)
    warm = add_mask(registry, aspen, ("2015-08-22", "2015-08-22"), [start_us], set_point_c=5.0)
    cold = registry.mask("aspen", "2015-09-01", temperature_c=-10.0).answer.mask_id
    with pytest.raises(AmbiguousMask):
        registry.mask("aspen", "2015-09-01")
    seen: list[str] = []
    with Registry(database) as other:

        def write(statement: str) -> None:
            seen.append(statement)
            if len(seen) == 2:  # the cold series had a mask, the warm one has none any more
                other.decertify(warm, reason="light leak")
                other.decertify(cold, reason="light leak")

        with statements(registry, write), pytest.raises(NoMask):
            registry.mask("aspen", "2015-09-01")


def test_a_look_up_outlives_its_connection(registry: Registry, aspen: CameraRow) -> None:
    before = registry.mask("aspen", "2015-01-01").answer
    assert registry.mask("aspen", "2015-01-01").answer == before
    for driver in registry._prompt._idle:
        driver.connection.close()
    assert registry.mask("aspen", "2015-01-01").answer == before
    assert asked(registry, "2015-01-01") == 1


@pytest.mark.parametrize("analyzed", [False, True])
def test_each_statement_about_dates_takes_an_index(
    registry: Registry, aspen: CameraRow, analyzed: bool
) -> None:
    if registry._engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL reads a small table whole, and rightly")
    with registry._engine.connect() as connection:
        if analyzed:
            connection.exec_driver_sql("ANALYZE")
    night = Validity(1_420_113_600_000_000, 1_420_200_000_000_000)
    with statements(registry) as sent, reading(registry._engine) as connection:
        for at in (None, 15):
            queries.assignments_within(Driver.of(connection), 1, night, at)
            queries.assignments_before(connection, 1, night.start_us, limit=9, at=at)
            queries.assignments_after(connection, 1, night.start_us, limit=9, at=at)
        queries.candidates(connection, 1)
        queries.tx_at(connection, night.start_us)
    for statement in sent:
        with registry._engine.connect() as connection:
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [step for step in plan if step.startswith("SCAN") or "B-TREE" in step], (statement, plan)
