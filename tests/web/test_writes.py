"""Writing over HTTP: frames in, masks certified and revoked, epoch events, releases."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.object_store import BUCKET, Store
from tests.small_camera import write_frame
from tests.story import CAMERA, import_pixels, register_camera
from tests.web.conftest import bearing


@pytest.fixture
def service(registry: Registry, database: str, tmp_path: Path) -> Iterator[TestClient]:
    """Asks as anna, who may do everything, from an address of its own."""
    (tmp_path / "darks").mkdir()
    settings = ServerSettings(
        database=database,
        frames_roots=(str(tmp_path / "darks"),),
        uploads=str(tmp_path / "uploads"),
        most_body_bytes=10_000,
        most_upload_bytes=100_000,
    )
    headers = bearing(registry.create_token("anna", ["admin"]).secret) | {"User-Agent": "dome/1"}
    with TestClient(create_app(settings), headers=headers, client=("192.0.2.7", 1)) as client:
        yield client


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def send(service: TestClient, content: bytes, name: str = "dark.fits", **more: Any) -> Any:
    return service.post("/v1/frames/upload", params={"name": name, **more}, content=content)


# --- frames -----------------------------------------------------------------------------


def test_frames_are_taken_by_path_from_the_folders_that_the_operator_allows(
    registry: Registry, service: TestClient, tmp_path: Path
) -> None:
    write_frame(tmp_path / "darks" / "night" / "a.fits")
    write_frame(tmp_path / "darks" / "night" / "b.fits", start="2021-03-04T22:05:00")
    got = service.post("/v1/frames", json={"paths": [f"{tmp_path}/darks/night/[ab].fits"], "dry_run": True})
    assert (got.status_code, got.json()["accepted"], got.json()["dry_run"]) == (200, 2, True)
    got = service.post("/v1/frames", json={"paths": [f"{tmp_path}/darks"], "recursive": True})
    assert got.json() == {
        "accepted": 2,
        "known": 0,
        "skipped": 0,
        "rejected": [],
        "skipped_by_type": {},
        "notices": got.json()["notices"],
        "dry_run": False,
    }
    act = registry.log()[-1]
    assert (act["action"], act["actor"], act["host"]) == ("ingest", "anna via token", "192.0.2.7")
    assert act["software"].startswith("hotpix-registry ")
    assert act["software"].endswith(", asked by dome/1")


def test_the_service_fetches_nothing_from_elsewhere(service: TestClient) -> None:
    for url in (
        "http://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/dark.fits",
        f"s3://{BUCKET}/darks/",
        "file:///etc/passwd",
        "gs://bucket/dark.fits",
        "HTTP://localhost:8471/v1/frames",
    ):
        got = service.post("/v1/frames", json={"paths": [url], "recursive": True})
        assert (got.status_code, got.json()["code"]) == (403, "forbidden"), url


def test_objects_are_taken_below_the_prefix_that_the_operator_allows(
    registry: Registry, database: str, store: Store, tmp_path: Path
) -> None:
    path = write_frame(tmp_path / "dark.fits")
    url = store.put(path, f"{tmp_path.name}/darks/dark.fits")
    other = store.put(path, f"{tmp_path.name}/darks-of-others/dark.fits")
    settings = ServerSettings(database=database, frames_roots=(url.removesuffix("/dark.fits"),))
    headers = bearing(registry.create_token("anna", ["ingest"]).secret)
    with TestClient(create_app(settings), headers=headers) as client:
        for asked in (url, url.replace("dark.fits", "*.fits")):
            got = client.post("/v1/frames", json={"paths": [asked], "dry_run": True})
            assert (got.status_code, got.json()["accepted"]) == (200, 1)
        for asked in (other, f"s3://{BUCKET}/*/darks/*", f"s3://{BUCKET}/", str(path)):
            assert client.post("/v1/frames", json={"paths": [asked]}).status_code == 403


def test_what_lies_elsewhere_is_refused_whether_it_is_there_or_not(
    registry: Registry, service: TestClient, tmp_path: Path
) -> None:
    write_frame(tmp_path / "secret" / "a.fits")
    (tmp_path / "darks" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "darks" / "here").mkdir()
    (tmp_path / "darks" / "here" / "a.fits").symlink_to(tmp_path / "secret" / "a.fits")
    (tmp_path / "list").write_text(f"{tmp_path}/secret/a.fits\n")
    for path in (
        f"{tmp_path}/secret/a.fits",
        f"{tmp_path}/secret/nothing.fits",
        f"{tmp_path}/secret",
        f"{tmp_path}/darks/../secret/a.fits",
        f"{tmp_path}/darks/*/../../secret/a.fits",
        f"{tmp_path}/darks/folder",
        f"{tmp_path}/darks/folder/a.fits",
        f"{tmp_path}/darks/here",
        f"{tmp_path}/darks/*/a.fits",
        f"{tmp_path}/darksome",
        f"@{tmp_path}/list",
        "-",
        "a.fits",
        "/",
    ):
        got = service.post("/v1/frames", json={"paths": [path], "recursive": True})
        assert (got.status_code, got.json()["code"]) == (403, "forbidden"), (path, got.text)
    assert registry.frames() == []
    missing = service.post("/v1/frames", json={"paths": [f"{tmp_path}/darks/nothing.fits"]})
    assert (missing.status_code, missing.json()["code"]) == (422, "usage")
    assert service.post("/v1/frames", json={"paths": ["/a\0b"]}).status_code == 422


def test_a_frame_that_is_sent_is_kept_under_its_digest(
    registry: Registry, service: TestClient, tmp_path: Path
) -> None:
    content = write_frame(tmp_path / "a.fits").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    for accepted in (1, 0):
        got = send(service, content, "Dark 1.FIT", sha256=sha256)
        assert got.status_code == 200, got.text
        assert (got.json()["accepted"], got.json()["known"]) == (accepted, 1 - accepted)
        assert got.json()["sha256"] == sha256
        assert kept(tmp_path / "uploads") == [tmp_path / "uploads" / sha256[:2] / f"{sha256}.fit"]
    (frame,) = registry.frames()
    assert (frame.sha256, frame.paths) == (sha256, (str(kept(tmp_path / "uploads")[0]),))
    assert "sent as Dark 1.FIT" in [act["reason"] for act in registry.log()]


def test_of_what_is_refused_nothing_is_left(registry: Registry, service: TestClient, tmp_path: Path) -> None:
    dark = write_frame(tmp_path / "a.fits").read_bytes()
    undated = write_frame(tmp_path / "b.fits", header={"DATE-OBS": None}).read_bytes()
    light = write_frame(tmp_path / "c.fits", header={"IMAGETYP": "Light Frame"}).read_bytes()
    for content, more, status, words in (
        (b"", {}, 422, "Nothing was sent."),
        (b"These are my notes.", {}, 422, "."),
        (dark[:-3000], {}, 422, "."),
        (undated, {}, 422, "date of observation"),
        (dark, {"sha256": "0" * 64}, 422, "What arrived has the sha256"),
        (dark, {"name": "../a.fits"}, 422, "is no name of a FITS file"),
        (dark, {"name": "a.exe"}, 422, "is no name of a FITS file"),
        (dark + bytes(100_000), {}, 413, "more than 100000 bytes"),
    ):
        got = send(service, content, **more)
        assert got.status_code == status, got.text
        assert words in got.json()["detail"]
        assert str(tmp_path) not in got.text
    unannounced = service.post("/v1/frames/upload?name=a.fits", content=iter([dark, bytes(100_000)]))
    assert unannounced.status_code == 413
    assert send(service, light).json()["skipped"] == 1
    assert kept(tmp_path / "uploads") == []
    assert registry.frames() == []
    too_long = service.post("/v1/frames", json={"paths": ["/x" * 6000]})
    assert (too_long.status_code, too_long.json()["code"]) == (413, "too-large")


def test_a_disk_that_takes_no_more_is_told_and_its_place_kept_for_the_log(
    registry: Registry, service: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(reason: str, place: Path) -> None:
        caplog.clear()
        got = send(service, content)
        told = got.json()
        assert (got.status_code, told["code"], told["exit_code"]) == (507, "storage", 1)
        assert told["detail"] == f"The server's disk cannot be written: {reason}."
        assert "freed some space" in told["next_step"]
        assert str(tmp_path) not in got.text
        assert f"{place}" in caplog.text
        assert f" cannot be written: {reason}." in caplog.text

    content = write_frame(tmp_path / "a.fits").read_bytes()
    (tmp_path / "uploads").write_text("in the way")
    refused("not a directory", tmp_path / "uploads" / "quarantine")
    (tmp_path / "uploads").unlink()
    with files_of_at_most(len(content) - 1):
        refused("file too large", tmp_path / "uploads" / "quarantine")
    assert kept(tmp_path / "uploads") == []
    in_the_way = tmp_path / "uploads" / hashlib.sha256(content).hexdigest()[:2]
    in_the_way.write_text("in the way")
    refused("file exists", in_the_way)
    assert kept(tmp_path / "uploads") == [in_the_way]
    assert registry.frames() == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_registry_whose_disk_is_full_is_told_without_its_path(
    registry: Registry, service: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_camera(registry, tmp_path)
    with files_of_at_most(4096):
        got = service.post("/v1/releases", json={"name": "2026B"})
    assert (got.status_code, got.json()["code"]) == (507, "storage")
    assert got.json()["detail"].startswith("The server's disk cannot be written: d")
    assert str(tmp_path) not in got.text
    assert str(tmp_path / "registry.sqlite") in caplog.text
    assert registry.releases() == []


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """What a full disk looks like to this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_killed_service_had_begun_to_receive_is_swept(
    registry: Registry, service: TestClient, database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "uploads" / "quarantine"
    folder.mkdir(parents=True)
    for name in ("old", "new"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / "old", (1, 1))
    with TestClient(create_app(ServerSettings(database=database, uploads=str(tmp_path / "uploads")))):
        assert [path.name for path in kept(folder)] == ["new"]


# --- masks ------------------------------------------------------------------------------


@pytest.fixture
def mask_id(registry: Registry, tmp_path: Path) -> int:
    register_camera(registry, tmp_path)
    return import_pixels(registry, tmp_path, "2021-03-04", [5, 70])


def test_a_mask_is_revoked_decertified_and_certified_as_on_the_command_line(
    registry: Registry, service: TestClient, mask_id: int
) -> None:
    url = f"/v1/masks/{mask_id}"
    got = service.post(f"{url}/revoke", json={"reason": "light leak"}).json()
    assert (got["mask_id"], got["revoked"], got["dates"][0]["to"]) == (mask_id, True, None)
    again = service.post(f"{url}/revoke", json={"reason": "light leak"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert "by anna via token: light leak" in again.json()["detail"]
    refused = service.post(f"{url}/certify", json={})
    assert (refused.status_code, refused.json()["code"]) == (410, "revoked-mask")
    assert service.post(f"{url}/revoke", json={"reason": "not so", "undo": True}).json()["revoked"] is False
    (taken,) = service.post(f"{url}/decertify", json={"reason": "wrong gain"}).json()["changes"]
    assert (taken["before"], taken["after"]) == (mask_id, None)
    (given,) = service.post(f"{url}/certify", json={"valid_from": "2021-03-05"}).json()["changes"]
    assert (given["before"], given["after"], given["valid_to"]) == (None, mask_id, None)
    assert {act["actor"] for act in registry.log()[-4:]} == {"anna via token"}


def test_the_second_of_two_people_is_told_who_was_faster(
    registry: Registry, service: TestClient, mask_id: int
) -> None:
    looked_at = service.get("/readyz").json()["tx"]
    first = {"reason": "streaks", "expect": looked_at}
    assert service.post(f"/v1/masks/{mask_id}/revoke", json=first).status_code == 200
    for act, body in (
        ("certify", {}),
        ("decertify", {"reason": "x"}),
        ("revoke", {"reason": "x"}),
        ("revoke", {"reason": "x", "undo": True}),
    ):
        second = service.post(f"/v1/masks/{mask_id}/{act}", json=body | {"expect": looked_at})
        assert (second.status_code, second.json()["code"]) == (409, "conflict"), second.text
        assert f"anna via token on 192.0.2.7 revoked mask {mask_id}" in second.json()["detail"]


def test_events_and_releases_are_noted(registry: Registry, service: TestClient, mask_id: int) -> None:
    url = f"/v1/cameras/{CAMERA}/events"
    refused = service.post(url, json={"date": "2021-04-01", "kind": "anneal"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    made = service.post(url, json={"date": "2021-04-01", "kind": "anneal", "trim": True, "note": "yearly"})
    assert (made.status_code, made.json()["kind"]) == (201, "anneal")
    assert made.json()["changes"][0]["before"] == mask_id
    assert [event.note for event in registry.events(CAMERA)] == ["yearly"]
    frozen = service.post("/v1/releases", json={"name": "2026B", "note": "third"})
    assert (frozen.status_code, frozen.json()["name"]) == (201, "2026B")
    assert registry.releases()[0].at_tx == frozen.json()["tx"]
    assert service.post("/v1/releases", json={"name": "2026B"}).status_code == 422


def test_a_body_with_a_mistake_writes_nothing(registry: Registry, service: TestClient, mask_id: int) -> None:
    before = registry.state()
    for path, body in (
        ("/v1/masks/1/certify", {"superseed": True}),
        ("/v1/masks/1/certify", {"force": True}),
        ("/v1/masks/1/certify", {"expect": 0}),
        ("/v1/masks/1/certify", {"expect": 10**6}),
        ("/v1/masks/1/revoke", {}),
        ("/v1/masks/1/revoke", {"reason": ""}),
        (f"/v1/cameras/{CAMERA}/events", {"date": "2021-04-01", "kind": "party"}),
        (f"/v1/cameras/{CAMERA}/events", {"date": "never", "kind": "swap"}),
        ("/v1/releases", {"name": "a b"}),
        ("/v1/frames", {"paths": []}),
        ("/v1/frames", {"paths": ["/x"], "type": "galaxy"}),
    ):
        got = service.post(path, json=body)
        assert (got.status_code, got.json()["code"]) == (422, "usage"), (path, body, got.text)
        assert registry.state() == before, (path, body)
