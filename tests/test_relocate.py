"""An archive moves disks: its frames are found again by their bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hotpix_registry.catalogue import schema
from hotpix_registry.catalogue.queries.common import insert_id
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import FrameChanged, UsageError
from hotpix_registry.registry import Registry
from tests.object_store import Store
from tests.small_camera import write_campaign
from tests.test_portability import sql, tallies


@pytest.fixture
def archived(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with eleven frames in `disk1/2021`, whose archive is now `disk2`."""
    write_campaign(tmp_path / "disk1" / "2021")
    registry.ingest(tmp_path / "disk1", recursive=True)
    (tmp_path / "disk1").rename(tmp_path / "disk2")
    return registry


def test_frames_are_found_at_their_new_place_and_can_be_built(archived: Registry, tmp_path: Path) -> None:
    recipe = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
    with pytest.raises(FrameChanged):
        archived.build("smallcam-48", recipe=recipe)
    report = archived.relocate(tmp_path / "disk1", tmp_path / "disk2")
    assert len(report.moved) == 11
    assert report.unmatched == []
    assert {Path(frame.name).parent for frame in archived.frames()} == {tmp_path / "disk2" / "2021"}
    assert len(archived.build("smallcam-48", recipe=recipe)) == 1
    assert archived.verify().findings == []
    assert archived.ingest(tmp_path / "disk2", recursive=True).known == 11


def test_only_the_same_bytes_are_believed(archived: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "disk2" / "2021"
    (folder / "bias_01.fits").unlink()
    (folder / "bias_02.fits").write_bytes(b"short")
    changed = bytearray((folder / "bias_03.fits").read_bytes())
    changed[-1] ^= 1
    (folder / "bias_03.fits").write_bytes(changed)
    report = archived.relocate(tmp_path / "disk1", tmp_path / "disk2")
    assert len(report.moved) == 8
    assert [why for _, _, why in report.unmatched] == [
        "it is not there",
        "it has 5 bytes instead of 11520",
        "its bytes are others",
    ]
    left = [frame.name for frame in archived.frames() if "disk1" in frame.name]
    assert sorted(Path(name).name for name in left) == ["bias_01.fits", "bias_02.fits", "bias_03.fits"]


def test_a_dry_run_writes_nothing(archived: Registry, database: str, tmp_path: Path) -> None:
    before = tallies(database)
    report = archived.relocate(tmp_path / "disk1", tmp_path / "disk2", dry_run=True)
    assert len(report.moved) == 11
    assert tallies(database) == before


def test_a_folder_that_begins_alike_is_another_folder(archived: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No frame lies under"):
        archived.relocate(tmp_path / "disk", tmp_path / "disk2")
    with pytest.raises(UsageError, match="is no folder"):
        archived.relocate(tmp_path / "disk1", tmp_path / "disk3")


def test_frames_that_are_known_at_the_new_place_already_are_no_trouble(
    archived: Registry, tmp_path: Path
) -> None:
    archived.ingest(tmp_path / "disk2", recursive=True)
    assert len(archived.relocate(tmp_path / "disk1", tmp_path / "disk2").moved) == 11
    assert all(len(frame.paths) == 1 for frame in archived.frames())


def test_another_systems_paths_are_found_too(archived: Registry, database: str, tmp_path: Path) -> None:
    with sql(database) as connection:
        there = {"path": "D:\\darks\\2021\\bias_01.fits", "size_bytes": 1, "mtime_ns": 1}
        insert_id(connection, schema.locations, frame_id=1, opened_tx=1, **there)
    report = archived.relocate("D:\\darks\\", tmp_path / "disk2")
    assert report.moved == [("D:\\darks\\2021\\bias_01.fits", f"{tmp_path}/disk2/2021/bias_01.fits")]


def test_more_frames_than_fit_in_one_batch(registry: Registry, database: str, tmp_path: Path) -> None:
    write_campaign(tmp_path / "disk1", darks={30.0: 230}, biases=0)
    registry.ingest(tmp_path / "disk1")
    shutil.move(tmp_path / "disk1", tmp_path / "disk2")
    assert len(registry.relocate(tmp_path / "disk1", tmp_path / "disk2").moved) == 230
    assert all("disk2" in frame.name for frame in registry.frames())


def test_frames_move_to_a_bucket_and_back(registry: Registry, store: Store, tmp_path: Path) -> None:
    write_campaign(tmp_path / "disk" / "2021 03", darks={30.0: 2}, biases=1)
    registry.ingest(tmp_path / "disk", recursive=True)
    url = store.put_folder(tmp_path / "disk", f"{tmp_path.name}/disk")
    store.delete(f"{url}2021 03/bias_01.fits")
    report = registry.relocate(tmp_path / "disk", url)
    assert len(report.moved) == 2
    assert [reason for _, _, reason in report.unmatched] == ["it is not there"]
    assert registry.ingest(url, recursive=True).known == 2
    assert len(registry.relocate(url, tmp_path / "disk").moved) == 2
    assert {Path(frame.name).parent for frame in registry.frames()} == {tmp_path / "disk" / "2021 03"}
