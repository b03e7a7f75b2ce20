"""Making, recognising and refusing databases."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening, schema
from hotpix_registry.errors import DatabaseUnavailable, SchemaError, UsageError


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    assert opening.known_revisions()[-1] == schema.REVISION


def test_a_new_database_is_as_the_code_describes_it(empty_database: str) -> None:
    engine = opening.open_database(databases.parse_url(empty_database), create=True)
    assert opening.current_revision(engine) == schema.REVISION
    assert opening.check(engine) == []
    engine.dispose()


def test_a_new_file_has_the_very_schema_that_the_migrations_make(tmp_path: Path) -> None:
    """In a process that has made one before, no migration runs for the next."""

    def made(name: str, to: str) -> tuple[list[object], list[object]]:
        engine = databases.connect(databases.parse_url(str(tmp_path / name)))
        opening.upgrade(engine, to=to, then=lambda _: None)
        with databases.reading(engine) as connection:
            held = connection.exec_driver_sql("SELECT * FROM sqlite_master ORDER BY rowid").all()
            rows = [
                row
                for table in sa.inspect(connection).get_table_names()
                for row in connection.exec_driver_sql(f"SELECT '{table}', * FROM {table}")
            ]
        engine.dispose()
        return [tuple(row) for row in held], rows

    by_migrations = made("migrated.sqlite", schema.REVISION)
    assert len(by_migrations[0]) > 50
    assert made("new.sqlite", "head") == made("another.sqlite", "head") == by_migrations


def test_upgrading_twice_changes_nothing(empty_database: str) -> None:
    engine = databases.connect(databases.parse_url(empty_database))
    opening.upgrade(engine)
    with databases.reading(engine) as connection:
        before = connection.execute(schema.registries.select()).all()
    opening.upgrade(engine)
    with databases.reading(engine) as connection:
        assert connection.execute(schema.registries.select()).all() == before
    engine.dispose()


def test_another_schema_is_refused_with_what_to_do(empty_database: str) -> None:
    engine = opening.open_database(databases.parse_url(empty_database), create=True)
    with databases.writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from-the-future'")
    with pytest.raises(SchemaError, match=r"does not know.*Upgrade hotpix-registry"):
        opening.open_database(databases.parse_url(empty_database), create=True)
    engine.dispose()


def test_a_schema_from_the_future_is_not_upgraded(empty_database: str) -> None:
    engine = opening.open_database(databases.parse_url(empty_database), create=True)
    with databases.writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from-the-future'")
    with pytest.raises(SchemaError, match="does not know"):
        opening.upgrade(engine)
    engine.dispose()


def test_tables_of_something_else_are_not_mixed_with_ours(empty_database: str) -> None:
    engine = databases.connect(databases.parse_url(empty_database))
    if engine.dialect.name == "sqlite":
        sqlite3.connect(empty_database).close()
    with databases.writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE assignments (of_something_else INTEGER)")
    with pytest.raises(SchemaError, match="something else"):
        opening.upgrade(engine)
    with databases.reading(engine) as connection:
        assert sa.inspect(connection).get_table_names() == ["assignments"]
    engine.dispose()


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="something else"):
        opening.open_database(databases.parse_url(str(path)), create=True)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and no database at all.\n" * 50)
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="no registry"):
        opening.open_database(databases.parse_url(str(path)), create=True)
    assert path.read_bytes() == before


def test_reading_makes_no_registry(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "registry.sqlite"
    with pytest.raises(SchemaError, match="no registry"):
        opening.open_database(databases.parse_url(str(path)), create=False)
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://me@host/hotpix", "'mysql' are not supported"),
        ("sqlite://", "in memory"),
        ("://", "no database URL"),
        ("postgresql://me:secret@host:notaport/x", "no database URL"),
    ],
)
def test_an_unknown_url_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        databases.parse_url(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named() -> None:
    url = databases.parse_url("postgresql://me:secret@127.0.0.1:1/hotpix")
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1") as caught:
        opening.open_database(url, create=False)
    assert "secret" not in str(caught.value)
