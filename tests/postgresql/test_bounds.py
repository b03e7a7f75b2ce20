"""What PostgreSQL is given: so many connections and so much time; and a pooler in between."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from hotpix_registry import Registry
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue.claims import claims
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.errors import DatabaseUnavailable, UsageError
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.databases import PostgreSQL
from tests.story import CAMERA, import_pixels, register_camera


@pytest.fixture
def place(postgresql: PostgreSQL, tmp_path: Path) -> Iterator[str]:
    with postgresql.new_registry() as url:
        with Registry(url) as registry:
            register_camera(registry, tmp_path)
            import_pixels(registry, tmp_path, "2021-05-01", [5, 70])
        yield url


def said(database: str, statement: str, **options: Any) -> Any:
    engine = databases.connect(databases.parse_url(database), **options)
    try:
        with reading(engine) as connection:
            return connection.exec_driver_sql(statement).scalar()
    finally:
        engine.dispose()


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Somebody migrates, and holds what every look-up reads."""
    engine = sa.create_engine(databases.parse_url(database))
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
        yield
    engine.dispose()


@pytest.mark.parametrize("pooler", ["none", "pgbouncer"])
def test_a_statement_is_cut_where_a_time_is_given_and_nowhere_else(
    place: str, pooler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPIX_DATABASE_POOLER", pooler)
    with pytest.raises(DatabaseUnavailable, match="was not waited for any longer: canceling statement"):
        said(place, "SELECT pg_sleep(5)", statement_s=0.1)
    assert said(place, "SHOW statement_timeout", statement_s=2.5) == "2500ms"
    assert said(place, "SHOW idle_in_transaction_session_timeout", statement_s=2.5) == "1min"
    assert said(place, "SHOW statement_timeout") == "0"
    assert said(f"{place}&options=-c%20statement_timeout%3D7s", "SHOW statement_timeout") == "7s"


def test_whoever_asks_while_somebody_migrates_is_told_to_ask_again(place: str) -> None:
    settings = ServerSettings(database=place, statement_timeout_s=0.2)
    with TestClient(create_app(settings)) as client:
        url = f"/v1/cameras/{CAMERA}/mask?date=2021-05-01"
        assert client.get(url).status_code == 200
        with locked(place):
            for asked in (url, "/v1/masks", "/readyz"):
                got = client.get(asked)
                assert (got.status_code, got.headers["retry-after"]) == (503, "5")
                assert got.json()["code"] == "database-unavailable"
                assert "was not waited for any longer" in got.json()["detail"]
        assert client.get(url).status_code == 200


def test_a_process_has_so_many_connections_and_tells_who_comes_later(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPIX_DATABASE_CONNECTIONS", "3")
    monkeypatch.setattr("hotpix_registry.catalogue.postgresql.POOL_WAIT_S", 0.1)
    with Registry(place) as registry, ExitStack() as others:
        for _ in range(2):
            assert registry.mask(CAMERA, "2021-05-02").answer.mask_id == 1
        for _ in range(2):
            others.enter_context(reading(registry._engine))
        assert registry.mask(CAMERA, "2021-05-02").answer.mask_id == 1  # by the one for look-ups
        with pytest.raises(DatabaseUnavailable, match="is read by as many as it takes"):
            registry.masks()


def test_behind_a_pooler_nothing_is_prepared_and_no_session_is_counted_on(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPIX_DATABASE_POOLER", "pgbouncer")
    with Registry(place) as registry:
        for _ in range(12):  # psycopg prepares what it has seen five times
            registry.mask(CAMERA, "2021-05-02")
            registry.masks()
        with reading(registry._engine) as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
            assert "options" not in registry._engine.url.query
        with claims(registry._engine) as held:
            assert held.take("ab" * 32)
            pinned = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            assert said(place, f"{pinned} AND datname = current_database()") == 1


def test_a_run_that_holds_claims_has_a_connection_left(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTPIX_DATABASE_CONNECTIONS", "3")
    monkeypatch.setattr("hotpix_registry.catalogue.postgresql.POOL_WAIT_S", 0.1)
    with Registry(place) as registry, claims(registry._engine) as held:
        assert held.take("ab" * 32)
        assert len(registry.masks()) == 1


@contextmanager
def full_pooler(place: str) -> Iterator[str]:
    """The address of something that lets everybody in to PostgreSQL, and leaves them waiting there."""
    url = sa.make_url(place)
    path = f"{url.query['host']}/.s.PGSQL.5432"

    def serve(client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(path)
            server.sendall(client.recv(10_000))
            answer = b""
            while not answer.endswith(b"Z\x00\x00\x00\x05I"):  # ready for a query
                answer += server.recv(10_000)
            client.sendall(answer)
            while client.recv(10_000):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port = listening.getsockname()[1]
        yield f"postgresql://{url.username}@127.0.0.1:{port}/{url.database}?sslmode=disable&gssencmode=disable"
        listening.shutdown(socket.SHUT_RDWR)


def test_a_pooler_without_a_free_session_is_not_waited_for(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPIX_DATABASE_POOLER", "pgbouncer")
    monkeypatch.setattr("hotpix_registry.catalogue.postgresql.POOL_WAIT_S", 0.2)
    with full_pooler(place) as url, pytest.raises(DatabaseUnavailable) as told:
        Registry(url)
    assert "gives no session: no session came free within 0.2 s." in told.value.message
    assert "default_pool_size" in told.value.next_step


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HOTPIX_DATABASE_CONNECTIONS", "many", "'many' does not fit database_connections."),
        ("HOTPIX_DATABASE_CONNECTIONS", "2", "Write a number from 3 to 1000."),
        ("HOTPIX_DATABASE_POOLER", "session", "HOTPIX_DATABASE_POOLER is none or pgbouncer."),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(
    place: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as refused:
        Registry(place)
    assert words in str(refused.value)
