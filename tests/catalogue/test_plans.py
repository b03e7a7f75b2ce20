"""What a look-up costs does not grow: one step in an index, and few statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import Validity, parse_date
from tests.plain_masks import add_camera, add_mask


@pytest.fixture
def aspen(registry: Registry) -> CameraRow:
    """A camera with ten masks, each built twice, so that half of what they held is closed."""
    camera = add_camera(registry, CameraProfile(name="aspen", longitude_deg_east=0.0))
    for seed in (1, 2):
        for year in range(2010, 2020):
            night = f"{year}-08-22"
            start_us = parse_date(f"{night}T20:00:00Z")
            assert isinstance(start_us, int)
            add_mask(registry, camera, (night, night), [start_us], seed=seed)
    return camera


@contextmanager
def statements(registry: Registry) -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    sent: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    sa.event.listen(registry._engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(registry._engine, "before_cursor_execute", note)


def test_a_look_up_costs_two_statements_and_one_more_for_a_night(
    registry: Registry, aspen: CameraRow
) -> None:
    def asked(date: str, **options: int) -> int:
        with statements(registry) as sent:
            registry.mask("aspen", date, **options)  # type: ignore[arg-type]
        return len([statement for statement in sent if statement.startswith("SELECT")])

    assert asked("2015-01-01T00:00:00Z") > 2
    assert asked("2015-01-01T00:00:00Z") == 2
    assert asked("2015-01-01") == 3
    registry.revoke(3, reason="light leak")
    assert asked("2015-01-01") > 3  # what was kept is forgotten when anything is written
    assert asked("2015-01-01") == 3


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
            queries.assignments_within(connection, 1, night, at=at)
            queries.assignments_before(connection, 1, night.start_us, limit=9, at=at)
            queries.assignments_after(connection, 1, night.start_us, limit=9, at=at)
        queries.candidates(connection, 1)
        queries.tx_at(connection, night.start_us)
    for statement in sent:
        if not statement.startswith("SELECT"):
            continue
        with registry._engine.connect() as connection:
            numbers = (1,) * statement.count("?")
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", numbers)]
        assert not [step for step in plan if step.startswith("SCAN") or "B-TREE" in step], (statement, plan)
