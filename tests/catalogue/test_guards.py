"""The database keeps its own promises, against SQL written by hand."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening, schema
from hotpix_registry.domain import digest

REFUSED = (sa.exc.IntegrityError, sa.exc.DBAPIError)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["new", "upgraded"])
def filled(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a registry with a row in every table: new, or upgraded from the first schema."""
    with ExitStack() as stack:
        address = str(tmp_path_factory.mktemp("filled") / "registry.sqlite")
        if kind == "postgresql":
            server = request.getfixturevalue("postgresql")
            address = stack.enter_context(server.empty_database())
        engine = databases.connect(databases.parse_url(address))
        first = "20261123_0001" if request.param == "upgraded" else "head"
        opening.upgrade(engine, to=first)
        with databases.writing(engine) as connection:
            fill(connection)
        opening.upgrade(engine)
        with databases.writing(engine) as connection:
            fill_history(connection)
        engine.dispose()
        yield address


@pytest.fixture
def engine(request: pytest.FixtureRequest, kind: str, filled: str, tmp_path: Path) -> Iterator[Engine]:
    """A copy of it for one test."""
    with ExitStack() as stack:
        if kind == "sqlite":
            address = str(shutil.copy(filled, tmp_path / "registry.sqlite"))
        else:
            address = stack.enter_context(request.getfixturevalue("postgresql").copy(filled))
        engine = databases.connect(databases.parse_url(address))
        stack.callback(engine.dispose)
        yield engine


def fill(connection: Connection) -> None:
    """One row in every table, written by hand."""
    for tx in (1, 2, 3):
        run(
            connection,
            f"INSERT INTO transactions (tx, at_us, actor, host, software, action) "
            f"VALUES ({tx}, {tx}, 'a', 'b', 'c', 'd')",
        )
    run(connection, "INSERT INTO cameras (created_tx) VALUES (1)")
    run(
        connection,
        "INSERT INTO camera_names (id, camera_id, name, is_alias, opened_tx)"
        " VALUES (1, 1, 'aspen', false, 1)",
    )
    run(
        connection,
        "INSERT INTO profiles (id, kind, name, camera_id, digest, body, opened_tx)"
        " VALUES (1, 'camera', 'aspen', 1, 'd', '{}', 1)",
    )
    run(
        connection,
        "INSERT INTO series (id, camera_id, configuration_digest, configuration, set_point_key, created_tx)"
        " VALUES (1, 1, 'd', '{}', 'none', 1)",
    )
    run(
        connection,
        "INSERT INTO frames (id, sha256, size_bytes, compression, header, created_tx)"
        " VALUES (1, 'f', 1, '', '', 1)",
    )
    run(
        connection,
        "INSERT INTO locations (id, frame_id, path, size_bytes, mtime_ns, opened_tx)"
        " VALUES (1, 1, '/a', 1, 1, 1)",
    )
    run(
        connection,
        "INSERT INTO readings (id, frame_id, camera_id, kind, exptime_s, start_us, night, nx, ny, n_combined,"
        " facts, opened_tx) VALUES (1, 1, 1, 'dark', 1, 1, 'n', 1, 1, 1, '{}', 1)",
    )
    run(
        connection,
        "INSERT INTO overrides (id, frame_id, field, value, reason, opened_tx)"
        " VALUES (1, 1, 'excluded', 'true', 'r', 1)",
    )
    run(
        connection,
        "INSERT INTO masks (id, series_id, version, sha256, build_key, rule, algorithm_version, first_night,"
        " last_night, campaign_start_us, campaign_end_us, shortest_s, longest_s, nx, ny, flagged, profile_id,"
        " created_tx, recipe, counts, warnings, software, report, encoding, blob_sha256, numbers, blob)"
        " VALUES (1, 1, 1, 's', 'k', 'r', 'v', 'a', 'b', 1, 2, 1, 2, 1, 1, 0, 1, 1, '{}', '{}', '[]', '{}',"
        " '{}', 'e', 'b', '', '')",
    )
    run(
        connection,
        "INSERT INTO defects (id, camera_id, x0, y0, width, height, reason, opened_tx)"
        " VALUES (1, 1, 0, 0, 1, 1, 'r', 1)",
    )
    run(connection, "INSERT INTO mask_inputs (mask_id, frame_id, role) VALUES (1, 1, 'dark')")
    assign(connection, 1, 100, 200)


def fill_history(connection: Connection) -> None:
    """The same for the tables that came with later migrations."""
    run(connection, "INSERT INTO revocations (id, mask_id, reason, opened_tx) VALUES (1, 1, 'r', 1)")
    run(
        connection,
        "INSERT INTO events (id, camera_id, at_us, kind, note, opened_tx) VALUES (1, 1, 5, 'anneal', '', 1)",
    )
    run(connection, "INSERT INTO releases (name, at_tx, note, created_tx) VALUES ('2026B', 1, '', 1)")
    run(
        connection,
        "INSERT INTO tokens (id, name, sha256, scopes, opened_tx) VALUES (1, 'anna', 's', '[]', 1)",
    )
    run(
        connection,
        "INSERT INTO jobs (id, kind, camera_id, request, opened_tx) VALUES (1, 'build', 1, '{}', 1)",
    )
    run(
        connection,
        "INSERT INTO job_events (id, job_id, at_us, state, body) VALUES (1, 1, 1, 'queued', '{}')",
    )


def run(connection: Connection, statement: str) -> sa.CursorResult[Any]:
    return connection.exec_driver_sql(statement)


def assign(connection: Connection, number: int, start: int, end: int | None, *, series: int = 1) -> None:
    run(
        connection,
        "INSERT INTO assignments (id, series_id, mask_id, valid_from_us, valid_to_us, opened_tx)"
        f" VALUES ({number}, {series}, 1, {start}, {'NULL' if end is None else end}, 1)",
    )


def refuses(engine: Engine, statement: str) -> bool:
    """Whether the database turns a statement down, leaving everything as it was."""
    before = contents(engine)
    try:
        with databases.writing(engine) as connection:
            run(connection, statement)
    except REFUSED:
        assert contents(engine) == before
        return True
    return False


def contents(engine: Engine) -> str:
    with databases.reading(engine) as connection:
        tables = (*schema.IMMUTABLE, *schema.CLOSING)
        # as text: a statement that SQLAlchemy compiles anew for each engine takes longer than a test
        return digest({t.name: [str(row) for row in run(connection, _all_of(t))] for t in tables})


def _all_of(table: sa.Table) -> str:
    return f"SELECT * FROM {table.name} ORDER BY {', '.join(table.primary_key.columns.keys())}"


@pytest.mark.parametrize("table", [t.name for t in (*schema.IMMUTABLE, *schema.CLOSING)])
def test_no_row_is_ever_deleted(engine: Engine, table: str) -> None:
    assert refuses(engine, f"DELETE FROM {table}")


@pytest.mark.parametrize("table", [t.name for t in schema.IMMUTABLE])
def test_an_immutable_row_is_never_changed(engine: Engine, table: str) -> None:
    column = schema.metadata.tables[table].columns.keys()[-1]
    assert refuses(engine, f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("table", [t.name for t in schema.CLOSING])
def test_a_row_admits_its_closing_once_and_nothing_else(engine: Engine, table: str) -> None:
    assert refuses(engine, f"UPDATE {table} SET opened_tx = 2")
    assert refuses(engine, f"UPDATE {table} SET opened_tx = 2, closed_tx = 3")
    assert refuses(engine, f"UPDATE {table} SET id = 7")
    assert not refuses(engine, f"UPDATE {table} SET closed_tx = 2")
    assert refuses(engine, f"UPDATE {table} SET closed_tx = 3")
    assert refuses(engine, f"UPDATE {table} SET closed_tx = NULL")


@pytest.mark.parametrize(
    ("start", "end", "overlaps"),
    [
        (200, 300, False),
        (50, 100, False),
        (199, 300, True),
        (50, 101, True),
        (120, 130, True),
        (50, 300, True),
        (50, None, True),
        (199, None, True),
        (200, None, False),
        (100, 200, True),
    ],
)
def test_current_assignments_of_a_series_never_overlap(
    engine: Engine, start: int, end: int | None, overlaps: bool
) -> None:
    try:
        with databases.writing(engine) as connection:
            assign(connection, 2, start, end)
        refused = False
    except REFUSED:
        refused = True
    assert refused == overlaps


def test_an_open_assignment_keeps_everything_later_out(engine: Engine) -> None:
    with databases.writing(engine) as connection:
        assign(connection, 2, 200, None)
    with pytest.raises(REFUSED), databases.writing(engine) as connection:
        assign(connection, 3, 10**15, None)


def test_a_closed_assignment_makes_room(engine: Engine) -> None:
    with databases.writing(engine) as connection:
        run(connection, "UPDATE assignments SET closed_tx = 2 WHERE id = 1")
        assign(connection, 2, 50, None)


@pytest.mark.parametrize("end", [100, 99])
def test_an_empty_assignment_is_refused(engine: Engine, end: int) -> None:
    with pytest.raises(REFUSED), databases.writing(engine) as connection:
        assign(connection, 2, 100, end)


def test_transaction_time_never_runs_backwards(engine: Engine) -> None:
    columns = "INSERT INTO transactions (tx, at_us, actor, host, software, action) VALUES"
    assert refuses(engine, f"{columns} (4, 2, 'a', 'b', 'c', 'd')")
    assert refuses(engine, f"{columns} (2, 9, 'a', 'b', 'c', 'd')")
    assert not refuses(engine, f"{columns} (4, 3, 'a', 'b', 'c', 'd')")


def test_sqlite_does_not_let_insert_or_replace_walk_past(tmp_path: object) -> None:
    engine = opening.open_database(databases.parse_url(f"{tmp_path}/r.sqlite"), create=True)
    with databases.writing(engine) as connection:
        fill(connection)
        fill_history(connection)
    for statement in (
        "INSERT OR REPLACE INTO assignments SELECT * FROM assignments",
        "INSERT OR REPLACE INTO assignments (id, series_id, mask_id, valid_from_us, valid_to_us, opened_tx)"
        " VALUES (1, 1, 1, 500, 600, 1)",
        "REPLACE INTO masks SELECT * FROM masks",
        "INSERT OR REPLACE INTO frames (id, sha256, size_bytes, compression, header, created_tx)"
        " VALUES (9, 'f', 2, '', '', 1)",
        "INSERT OR REPLACE INTO camera_names (id, camera_id, name, is_alias, opened_tx)"
        " VALUES (9, 1, 'aspen', false, 2)",
        "UPDATE OR REPLACE frames SET sha256 = 'g'",
        "REPLACE INTO releases (name, at_tx, note, created_tx) VALUES ('2026B', 2, '', 2)",
        "REPLACE INTO revocations (id, mask_id, reason, opened_tx) VALUES (9, 1, 'other', 2)",
        "REPLACE INTO tokens (id, name, sha256, scopes, opened_tx) VALUES (9, 'anna', 't', '[]', 2)",
        "REPLACE INTO tokens (id, name, sha256, scopes, opened_tx) VALUES (9, 'ben', 's', '[\"admin\"]', 2)",
        "REPLACE INTO jobs (id, kind, request, opened_tx) VALUES (1, 'ingest', '{}', 2)",
        "REPLACE INTO job_events (id, job_id, at_us, state, body) VALUES (1, 1, 2, 'done', '{}')",
        "REPLACE INTO events (id, camera_id, at_us, kind, note, opened_tx) VALUES (1, 1, 6, 'swap', '', 2)",
    ):
        assert refuses(engine, statement), statement


def test_postgresql_does_not_let_truncate_walk_past(postgresql_url: str) -> None:
    engine = opening.open_database(databases.parse_url(postgresql_url), create=True)
    with databases.writing(engine) as connection:
        fill(connection)
        fill_history(connection)
    for table in (*schema.IMMUTABLE, *schema.CLOSING):
        assert refuses(engine, f"TRUNCATE {table.name} CASCADE"), table.name
    engine.dispose()


def test_ids_are_never_used_again(engine: Engine) -> None:
    with databases.writing(engine) as connection:
        first = connection.execute(schema.cameras.insert().values(created_tx=1)).inserted_primary_key
    with pytest.raises(ZeroDivisionError), databases.writing(engine) as connection:
        connection.execute(schema.cameras.insert().values(created_tx=1))
        raise ZeroDivisionError
    with databases.writing(engine) as connection:
        second = connection.execute(schema.cameras.insert().values(created_tx=1)).inserted_primary_key
    assert first is not None
    assert second is not None
    assert second[0] > first[0]


def test_a_lost_guard_is_noticed(engine: Engine) -> None:
    assert opening.check(engine) == []
    with databases.writing(engine) as connection:
        on = "" if engine.dialect.name == "sqlite" else " ON assignments"
        run(connection, f"DROP TRIGGER guard_assignments_update{on}")
    assert opening.check(engine) == ["the guard guard_assignments_update is missing"]
