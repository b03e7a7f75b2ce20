"""One registry taken into another: what is new comes in once, what is known stays."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotpix_registry.catalogue import schema
from hotpix_registry.catalogue.engine import parse_url
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import IntegrityError, SchemaError, UsageError
from hotpix_registry.registry import Registry, portability
from tests.small_camera import pixels, write_campaign, write_frame
from tests.test_portability import damage, mark_of, registry_ids, sql, tallies

LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `darks/` and a registry of them: masks 1 and 2, of 2021 and 2022, are certified."""
    folder = tmp_path_factory.mktemp("there")
    write_campaign(folder / "darks" / "2021")
    write_campaign(folder / "darks" / "2022", start=datetime(2022, 3, 4, 22))
    with Registry(str(folder / "there.sqlite")) as registry:
        registry.ingest(folder / "darks", recursive=True)
        registry.build("smallcam-48", nights=("2021-01-01", "2021-12-31"), recipe=LIMIT)
        registry.build("smallcam-48", nights=("2022-01-01", "2022-12-31"), recipe=LIMIT)
        registry.exclude(["3"], reason="a light leak")
        registry.alias_camera("smallcam-48", "little")
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made / "there.sqlite", tmp_path / "there.sqlite"))


def test_a_registry_moves_into_an_empty_database_and_goes_on_there(
    there: Path, made: Path, empty_database: str
) -> None:
    moved = portability.move_in(there, parse_url(empty_database))
    assert moved is not None
    assert tallies(empty_database) == tallies(there)
    with Registry(empty_database) as here, Registry(str(there)) as old:
        assert here.mask("little", "2021-03-04").answer == old.mask("little", "2021-03-04").answer
        # ids count on where they stood
        here.ingest(write_campaign(made / "darks" / "2023", start=datetime(2023, 3, 4, 22)))
        assert [f.frame_id for f in here.frames(nights=("2023-01-01", "2023-12-31"))] == list(range(23, 34))
    ((name, _, tx),) = registry_ids(there)
    assert registry_ids(empty_database) == [(name, 0, tx + 1)]
    assert portability.move_in(there, parse_url(empty_database)) is None


def test_a_registry_goes_from_postgresql_to_a_file_and_back(
    there: Path, postgresql_url: str, tmp_path: Path
) -> None:
    portability.move_in(there, parse_url(postgresql_url))
    with Registry(postgresql_url) as served:
        served.backup(tmp_path / "back.sqlite")
    assert tallies(tmp_path / "back.sqlite") == tallies(there)
    assert registry_ids(tmp_path / "back.sqlite") == registry_ids(there)


def test_an_export_that_moves_in_is_marked_no_more(there: Path, empty_database: str, tmp_path: Path) -> None:
    with Registry(str(there)) as old:
        old.export(tmp_path / "whole.sqlite")
        old.export(tmp_path / "part.sqlite", camera="smallcam-48")
    portability.move_in(tmp_path / "whole.sqlite", parse_url(empty_database))
    assert registry_ids(empty_database) == registry_ids(there)
    portability.move_in(tmp_path / "part.sqlite", parse_url(str(tmp_path / "new" / "part.sqlite")))
    assert mark_of(tmp_path / "new" / "part.sqlite") == 0
    with Registry(str(tmp_path / "new" / "part.sqlite")) as part:
        part.exclude(["5"], reason="dew")
        # a part that goes on as if it were the whole would give receipts that the whole cannot replay
        assert part.mask("smallcam-48", "2021-03-04").answer.registry_id != registry_ids(there)[0][0]


def test_a_damaged_registry_does_not_move_in(there: Path, empty_database: str) -> None:
    damage(str(there), 1)
    with pytest.raises(IntegrityError, match="mask 1"):
        portability.move_in(there, parse_url(empty_database))
    with pytest.raises(SchemaError, match="no registry"):
        Registry(empty_database, create=False)


def test_what_is_new_comes_in_as_candidates_with_where_it_came_from(
    there: Path, registry: Registry, database: str
) -> None:
    report = registry.merge(there)
    assert report.new == {"cameras": 1, "frames": 22, "locations": 22, "masks": 2}
    assert report.differing == []
    assert [row["status"] for row in registry.masks()] == ["candidate", "candidate"]
    with Registry(str(there)) as old:
        for mask_id in (1, 2):
            assert registry.mask_file(mask_id) == old.mask_file(mask_id)
        here, told = registry.show(1), old.show(1)
        assert [f.facts for f in registry.frames()] == [f.facts for f in old.frames()]
    assert [i["sha256"] for i in here["inputs"]] == [i["sha256"] for i in told["inputs"]]
    assert here["report"]["imported_from"]["mask_id"] == 1
    assert here["profile_digest"] == told["profile_digest"]
    ((name, _, _),) = registry_ids(there)
    with sql(database) as connection:
        (reason,) = connection.execute(sa.select(schema.transactions.c.reason)).scalars()
    assert reason == f"from registry {name}: mask 1 (version 1), 2 (version 2)"
    assert [f.excluded for f in registry.frames() if f.excluded] == ["a light leak"]
    assert registry.camera("little").name == "smallcam-48"


def test_the_second_time_nothing_is_new(there: Path, registry: Registry, database: str) -> None:
    registry.merge(there, certify=True)
    before = tallies(database)
    report = registry.merge(there, certify=True)
    assert not +report.new
    assert report.known == {"cameras": 1, "frames": 22, "masks": 2}
    assert tallies(database) == before


def test_certified_there_is_certified_here_when_that_is_asked_for(there: Path, registry: Registry) -> None:
    registry.merge(there)
    report = registry.merge(there, certify=True)
    assert report.certified == [1, 2]
    with Registry(str(there)) as old:
        assert [row["valid"] for row in registry.masks()] == [row["valid"] for row in old.masks()]


def test_a_mask_that_was_revoked_there_gets_no_dates_here(there: Path, registry: Registry) -> None:
    with sql(str(there)) as connection:
        connection.execute(schema.revocations.insert().values(mask_id=1, reason="bad", opened_tx=3))
    assert registry.merge(there, certify=True).certified == [2]


def test_what_is_here_stays_as_it_is(there: Path, made: Path, registry: Registry) -> None:
    registry.ingest(made / "darks" / "2021")
    (own,) = registry.build("smallcam-48", recipe=LIMIT)
    registry.confirm_camera("smallcam-48")
    with Registry(str(there)) as old:
        old.add_defects("smallcam-48", [], reason="none")
    report = registry.merge(there)
    assert report.new == {"frames": 11, "locations": 11, "masks": 1}
    assert report.known == {"cameras": 1, "frames": 11, "masks": 1}
    assert report.differing == ["The profile of camera smallcam-48 differs; ours stays."]
    assert not registry.camera("smallcam-48").profile.provisional
    assert [(row["version"], row["status"]) for row in registry.masks()] == [
        (1, "certified"),
        (2, "candidate"),
    ]
    assert own.mask_id == 1


def test_the_same_exposure_in_other_bytes_is_used_once(
    there: Path, made: Path, registry: Registry, tmp_path: Path
) -> None:
    write_campaign(tmp_path / "again", header={"OBSERVER": "ann"})
    registry.ingest(tmp_path / "again")
    registry.merge(there)
    frames = registry.frames(nights=("2021-01-01", "2021-12-31"))
    assert len(frames) == 22
    # of the three biases pixels alone could tell, which an import does not read
    assert sorted(f.twin_of or 0 for f in frames if f.frame_id > 11) == [0, 0, 0, *range(4, 12)]


def test_biases_of_one_second_in_two_registries_stay_two(registry: Registry, tmp_path: Path) -> None:
    moment = "2021-03-04T22:00:00"
    with Registry(str(tmp_path / "there.sqlite")) as there:
        for number, opened in enumerate((registry, there, there)):
            name = f"bias-{number}.fits"
            write_frame(tmp_path / name, exptime_s=0, start=moment, data=pixels(0, number))
            opened.ingest(tmp_path / name)
    report = registry.merge(tmp_path / "there.sqlite")
    assert report.new["frames"] == 2
    assert [frame.twin_of for frame in registry.frames()] == [None, None, None]


def test_a_damaged_mask_there_lets_nothing_in(there: Path, registry: Registry, database: str) -> None:
    damage(str(there), 2)
    before = tallies(database)
    with pytest.raises(IntegrityError, match="damaged"):
        registry.merge(there)
    assert tallies(database) == before


@pytest.mark.parametrize("stored", [b"{\xff", b"{", b'{"a": \x00}'])
@pytest.mark.parametrize(("table", "column"), [("readings", "facts"), ("profiles", "body")])
def test_a_row_there_that_is_no_text_or_no_json_is_one_sentence(
    there: Path, registry: Registry, database: str, table: str, column: str, stored: bytes
) -> None:
    with sql(str(there)) as connection:
        of_table = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
        for name in connection.exec_driver_sql(of_table, (table,)).scalars().all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(f"UPDATE {table} SET {column} = CAST(? AS TEXT)", (stored,))
    before = tallies(database)
    with pytest.raises(IntegrityError, match="damaged"):
        registry.merge(there)
    assert tallies(database) == before


@pytest.mark.parametrize("table", ["frames", "alembic_version"])
def test_a_file_that_computes_its_rows_is_no_registry(there: Path, registry: Registry, table: str) -> None:
    with sql(str(there)) as connection:
        for name in connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).scalars():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO stored")
        endless = (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT stored.* FROM n, stored"
        )
        connection.exec_driver_sql(f"CREATE VIEW {table} AS {endless}")
    with pytest.raises(SchemaError, match=f"is no registry: its {table} is no table"):
        registry.merge(there)


def test_a_registry_is_not_merged_with_itself(there: Path) -> None:
    with Registry(str(there)) as registry, pytest.raises(UsageError, match="the registry itself"):
        registry.merge(there)


def test_a_file_that_is_not_there_is_one_sentence(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no registry at"):
        registry.merge(tmp_path / "gone.sqlite")
