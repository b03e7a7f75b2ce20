"""A registry whose look-ups read a replica: never older than what was told, and never without an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from hotpix_registry import Registry
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.errors import DatabaseUnavailable, UnknownId, UsageError
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.databases import PostgreSQL, Replica
from tests.story import CAMERA, import_pixels, register_camera

NIGHT = "2021-05-01"


@pytest.fixture(scope="module")
def replica(postgresql: PostgreSQL) -> Iterator[Replica]:
    with postgresql.replica() as running:
        yield running


@pytest.fixture
def place(postgresql: PostgreSQL, replica: Replica, tmp_path: Path) -> Iterator[str]:
    """A registry with one mask, which the replica has too."""
    database = postgresql.create()
    with Registry(database) as registry:
        register_camera(registry, tmp_path)
        import_pixels(registry, tmp_path, NIGHT, [5, 70])
    replica.catch_up(database)
    yield database
    replica.start_if_down()
    replica.catch_up(database)


def reads(replica: Replica, database: str) -> int:
    """How many connections the replica has to a database."""
    return int(
        replica.execute(
            database,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL",
        )
    )


def test_look_ups_are_read_from_the_replica_and_writes_go_to_the_primary(
    replica: Replica, place: str, tmp_path: Path
) -> None:
    with Registry(place, read_database=replica.address(place)) as registry:
        assert registry.mask(CAMERA, NIGHT).answer.mask_id == 1
        assert reads(replica, place) > 0
        import_pixels(registry, tmp_path, "2021-07-01", [6])
        replica.catch_up(place)
        assert registry.mask(CAMERA, "2021-07-02").answer.mask_id == 2


def test_an_answer_of_a_replica_that_lags_says_so_and_is_never_older_than_what_was_told(
    replica: Replica, place: str, tmp_path: Path
) -> None:
    with (
        Registry(place) as elsewhere,
        Registry(place, read_database=replica.address(place)) as here,
    ):
        before = here.mask(CAMERA, NIGHT).answer
        replica.pause()
        elsewhere.revoke(import_pixels(elsewhere, tmp_path, "2021-07-01", [6]), reason="streaks")
        newer = elsewhere.mask(CAMERA, "2021-07-02", allow_revoked=True).answer

        lagging = here.mask(CAMERA, "2021-07-02").answer
        assert (lagging.mask_id, lagging.tx) == (1, before.tx)  # as it was, and it says of when
        assert here.replay(newer.receipt).answer.mask_id == newer.mask_id
        assert here.mask(CAMERA, "2021-07-02", allow_revoked=True).answer.tx == newer.tx

    with Registry(place, read_database=replica.address(place)) as here:
        assert here.show(2)["mask_id"] == 2
        assert here.mask_array(2).sum() == 1
        with pytest.raises(UnknownId):
            here.show(99)
    with Registry(place, read_database=replica.address(place)) as here:
        written = here.create_release("2021A")
        assert here.mask(CAMERA, NIGHT).answer.tx > written.at_tx - 1
        assert [release.name for release in here.releases()] == ["2021A"]


def test_a_service_answers_nobody_older_than_what_he_has_nor_long_behind_the_primary(
    replica: Replica, place: str
) -> None:
    url = f"/v1/cameras/{CAMERA}/mask?date={NIGHT}"
    settings = ServerSettings(database=place, read_database=replica.address(place))
    with TestClient(create_app(settings)) as client, Registry(place) as elsewhere:
        assert client.get(url).json()["tx"] == 2
        replica.pause()
        registry_id, tx = elsewhere.create_release("2021A") and elsewhere.state()
        has = {"If-None-Match": f'W/"{registry_id}-{tx}"'}  # as another host has told it
        assert client.get(url, headers=has).status_code == 304
        assert f"{registry_id}-{tx}" in client.get("/v1/masks", headers=has).headers["etag"]
    with TestClient(create_app(settings)) as client:
        for _ in range(100):  # until it has looked at the primary, which it does once a second
            if (seen := client.get(url).json()["tx"]) == tx:
                break
            time.sleep(0.1)
        assert seen == tx


def test_while_the_replica_is_down_the_primary_answers_and_one_warning_says_so(
    replica: Replica, place: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotpix_registry.catalogue.replicas.RETRY_S", 0.0)
    with Registry(place, read_database=replica.address(place)) as registry:
        assert registry.mask(CAMERA, NIGHT).answer.mask_id == 1
        replica.stop()
        for _ in range(3):
            assert registry.mask(CAMERA, NIGHT).answer.mask_id == 1
            assert [mask["mask_id"] for mask in registry.masks()] == [1]
        with Registry(place, read_database=replica.address(place)) as late:
            assert late.mask(CAMERA, NIGHT).answer.mask_id == 1
        replica.start()
        replica.catch_up(place)
        assert registry.mask(CAMERA, NIGHT).answer.mask_id == 1
        assert reads(replica, place) > 0
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [("is not read from" in message, "is read from again" in message) for message in told] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_while_the_primary_is_away_the_replica_answers(
    postgresql: PostgreSQL, replica: Replica, place: str
) -> None:
    with Registry(place, read_database=replica.address(place)) as registry:
        answer = registry.mask(CAMERA, NIGHT).answer
        replica.pause()  # since what closes the primary would be streamed as well
        with postgresql.closed(place):
            with reading(registry._source):  # so that the next needs a connection that is new
                assert [mask["mask_id"] for mask in registry.masks()] == [1]
            assert registry.mask(CAMERA, NIGHT).answer == answer
            assert registry.mask_array(1).sum() == 2
            with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
                registry.create_release("2021A")
        replica.catch_up(place)
        registry.create_release("2021A")


def test_what_is_no_replica_is_refused(
    postgresql: PostgreSQL, replica: Replica, place: str, tmp_path: Path
) -> None:
    other = postgresql.create()
    with Registry(other):
        pass
    with pytest.raises(UsageError, match="is no replica: it holds another registry"):
        Registry(place, read_database=other)
    with postgresql.copy(place) as restored:
        with Registry(restored) as life:
            life.create_release("mine")
        with Registry(place) as life:
            life.create_release("theirs")
        with pytest.raises(UsageError, match="is no replica: its transaction 3 is another one"):
            Registry(place, read_database=restored)
    with pytest.raises(UsageError, match="Only a PostgreSQL registry"):
        Registry(place, read_database=str(tmp_path / "mirror.sqlite"))


def test_a_replica_that_has_no_registry_yet_is_waited_for(
    postgresql: PostgreSQL, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Registry(place, read_database=postgresql.create()) as registry:
        assert registry.mask(CAMERA, NIGHT).answer.mask_id == 1
    assert [record.message.partition(" is ")[2] for record in caplog.records] == [
        "not read from for now (it has no registry yet); the primary is."
    ]


def test_settings_name_the_replica_of_the_database_that_they_name(
    replica: Replica, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPIX_DATABASE_READ_URL", replica.address(place))
    with Registry(str(tmp_path / "mine.sqlite")) as registry:
        assert registry.masks() == []
    monkeypatch.setenv("HOTPIX_DATABASE_URL", place)
    with Registry() as registry:
        assert registry.mask(CAMERA, NIGHT).answer.mask_id == 1
        assert reads(replica, place) > 0
