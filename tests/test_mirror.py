"""A mirror is its source as it stood at one of its transactions, whatever happens on the way."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from hotpix_registry import Client
from hotpix_registry.catalogue import copying, schema
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue.changes import Page
from hotpix_registry.catalogue.engine import parse_url
from hotpix_registry.domain import Defect, Recipe, Rule, Scope
from hotpix_registry.errors import (
    Conflict,
    HotpixError,
    IntegrityError,
    NotAdmitted,
    SchemaError,
    ServerUnreachable,
    UnknownId,
    UsageError,
)
from hotpix_registry.registry import Registry, freshness, mirror, portability
from hotpix_registry.registry.facade.opened import act as act_of_user
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.client.conftest import speaking
from tests.lines import Line
from tests.mirrors import is_as_its_source_was, looking_at, newest, rows
from tests.serving import serving
from tests.small_camera import write_campaign, write_frame
from tests.story import CAMERA, import_pixels
from tests.test_portability import damage, mark_of, tallies
from tests.told import Story
from tests.web.conftest import bearing

LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
NIGHTS = ("2020-12-24", "2021-03-04", "2021-06-04", "2022-03-05", "2024-01-01")


def sync(source: str | Path, copy: Path, **how: Any) -> mirror.Synced:
    return mirror.sync(str(source), parse_url(str(copy)), **how)


def answers(registry: Registry) -> list[Any]:
    told: list[Any] = []
    for night in NIGHTS:
        try:
            told.append(registry.mask(CAMERA, night, allow_revoked=True).answer.as_dict())
        except HotpixError as error:
            told.append(str(error))
    return told


def life(registry: Registry, folder: Path) -> Iterator[str]:
    """Every kind of act, one after the other."""
    registry.ingest(write_campaign(folder / "2021"))
    yield "ingest"
    registry.build(CAMERA, recipe=LIMIT)
    yield "build"
    registry.ingest(write_campaign(folder / "2022", start=datetime(2022, 3, 4, 22)))
    registry.build(CAMERA, nights=("2022-01-01", "2022-12-31"), recipe=LIMIT)
    yield "build again"
    registry.certify(2)
    yield "certify"
    third = import_pixels(registry, folder, "2021-06-01", [5, 70])
    yield "import"
    fourth = registry.edit_mask(third, mask=[(9, 9)], reason="seen in flats").mask_id
    yield "edit"
    registry.revoke(fourth, reason="streaks")
    yield "revoke"
    registry.lift_revocation(fourth, reason="there were none")
    yield "lift"
    registry.decertify(fourth, reason="too early")
    yield "decertify"
    registry.certify(fourth, valid_from="2021-07-01", valid_to="2021-10-01", supersede=True)
    yield "certify for some dates"
    registry.create_release("2021A", note="the first")
    yield "release"
    registry.add_event(CAMERA, "2021-12-01", "warmup", trim=True, note="power cut")
    (event,) = registry.events(CAMERA)
    yield "event"
    registry.remove_event(CAMERA, event.id, reason="there was none")
    yield "remove an event"
    registry.exclude(["1", "2"], reason="a light leak")
    registry.include(["1"], reason="it was none")
    yield "exclude and include"
    registry.fix(["3"], {"exptime_s": 60.0}, reason="the shutter stuck")
    yield "fix"
    registry.confirm_camera(CAMERA)
    registry.alias_camera(CAMERA, "little")
    yield "alias"
    registry.rename_camera(CAMERA, "small")
    registry.rename_camera("small", CAMERA)
    yield "rename"
    other = {"INSTRUME": "Othercam 9", "SERIAL": "17"}
    registry.ingest(write_campaign(folder / "other", start=datetime(2022, 6, 4, 22), header=other))
    registry.merge_cameras("othercam-9", CAMERA)
    yield "merge"
    registry.split_camera(CAMERA, "late", nights=("2022-06-01", "2022-06-30"))
    yield "split"
    (defect,) = registry.add_defects(
        CAMERA, [Defect(x0=1, y0=2, width=3, height=4, reason="hot column")], reason="flats"
    )
    yield "defects"
    registry.remove_defects(CAMERA, [defect], reason="it went away")
    yield "remove defects"
    shutil.move(folder / "2021", folder / "moved")
    registry.relocate(folder / "2021", folder / "moved")
    yield "relocate"
    registry.create_token("dome", [Scope.READ])
    registry.queue_build(CAMERA, {}, most_waiting=1)
    yield "token and job"
    with Registry(str(folder / "theirs.sqlite")) as theirs:
        theirs.ingest(write_campaign(folder / "theirs", start=datetime(2023, 3, 4, 22)))
        theirs.build(CAMERA, recipe=LIMIT)
    registry.merge(folder / "theirs.sqlite", certify=True)
    yield "import a registry"


def test_after_every_act_a_mirror_has_the_rows_and_the_answers_of_its_source(
    registry: Registry, database: str, tmp_path: Path
) -> None:
    copy = tmp_path / "mirror.sqlite"
    assert sync(database, copy).transactions == 0
    seen = 0
    for act in life(registry, tmp_path):
        seen += sync(database, copy).transactions
        assert tallies(copy) == tallies(database), act
        with Registry(str(copy)) as mirrored:
            assert answers(mirrored) == answers(registry), act
    assert seen == newest(copy) == newest(database)
    assert is_as_its_source_was(copy, database)
    assert sync(database, copy).bytes == 0
    with looking_at(copy) as connection:
        assert [copying.rows_where(connection, table) for table in schema.OF_THE_SERVICE] == [[], [], []]
    with serving(database, jobs_at_once=0) as url:  # a job would be a transaction more
        sync(url, tmp_path / "other.sqlite")
        assert sync(url, copy).transactions == 0
    assert tallies(tmp_path / "other.sqlite") == tallies(database)


@pytest.fixture
def source(told: Callable[[Story], Path], database: str) -> str:
    """A registry with three masks, of which the second is revoked."""
    told(tell)
    return database


over_a_line = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""A server's pages are the same bytes, whatever its database."""


@pytest.fixture
def big_source(told: Callable[[Story], Path], database: str) -> str:
    """The same with masks each of which takes several pages over a bad line."""
    told(tell_much)
    return database


def tell_much(registry: Registry, folder: Path) -> None:
    tell(registry, folder, (700, 900))


def tell(registry: Registry, folder: Path, shape: tuple[int, int] = (48, 64)) -> None:
    registry.ingest([write_frame(folder / "dark.fits", shape=shape)])
    for seed, night in enumerate(("2021-03-04", "2021-06-01", "2022-01-01")):
        np.save(folder / "theirs.npy", np.random.default_rng(seed).random(shape) < 0.5)
        mask = registry.import_mask(folder / "theirs.npy", CAMERA, valid_from=night, temperature_c=-10.0)
        registry.certify(mask.mask_id, valid_from=night, supersede=True, force=True, reason="it is so")
        registry.exclude(["1"], reason="dew")
        registry.include(["1"], reason="it dried")
    registry.revoke(2, reason="streaks")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "mirror.sqlite"


@over_a_line
def test_a_line_that_breaks_again_and_again_gives_the_whole_in_one_sync(big_source: str, copy: Path) -> None:
    with serving(big_source) as url, Line(url) as line:
        line.cut_each(100_000)
        assert sync(line.url, copy).masks == 3
    assert tallies(copy) == tallies(big_source)


@over_a_line
def test_over_a_line_that_goes_down_each_sync_goes_on_from_the_last(big_source: str, copy: Path) -> None:
    states = []
    with serving(big_source) as url:
        for _ in range(50):
            with Line(url) as line:
                line.go_down_after(150_000)
                try:
                    sync(line.url, copy)
                    break
                except ServerUnreachable:
                    states.append(newest(copy))
                    assert is_as_its_source_was(copy, big_source)
    assert tallies(copy) == tallies(big_source)
    assert states == sorted(states)
    assert len(set(states)) > 2
    assert not copy.with_name("mirror.sqlite.incoming").exists()


@over_a_line
def test_a_byte_that_changed_on_the_way_is_never_written(big_source: str, copy: Path) -> None:
    draw = Random(1)
    with serving(big_source) as url:
        for at in range(2_000, 400_000, 80_000):
            with Line(url) as line:
                line.flip(at, draw)
                try:
                    sync(line.url, copy)
                except (IntegrityError, ServerUnreachable):
                    continue
                finally:
                    if copy.exists():
                        assert is_as_its_source_was(copy, big_source)
        sync(url, copy)
    assert tallies(copy) == tallies(big_source)


@over_a_line
def test_what_waits_beside_a_mirror_and_is_changed_is_dropped(big_source: str, copy: Path) -> None:
    with serving(big_source) as url:
        with Line(url) as line, pytest.raises(ServerUnreachable):
            line.go_down_after(150_000)
            sync(line.url, copy)
        (part, *_) = sorted(copy.with_name("mirror.sqlite.incoming").iterdir())
        part.write_bytes(part.read_bytes()[:-9])
        sync(url, copy)
    assert tallies(copy) == tallies(big_source)


def test_two_syncs_at_once_do_no_harm(registry: Registry, database: str, copy: Path, tmp_path: Path) -> None:
    sync(database, copy)
    tell(registry, tmp_path)

    def follow() -> None:
        with suppress(HotpixError):  # what one of them kept, the other may have dropped
            sync(database, copy, most_bytes=2_000)

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sync(database, copy)
    assert tallies(copy) == tallies(database)


ACTS = st.sampled_from(
    [
        "exclude",
        "include",
        "fix",
        "import",
        "edit",
        "revoke",
        "lift",
        "decertify",
        "certify",
        "event",
        "no event",
        "release",
        "rename",
        "defect",
        "no defect",
        "sync",
        "sync",
    ]
)


def act(registry: Registry, folder: Path, name: str, number: int) -> None:
    """An act that may be refused."""
    camera, newest_id = registry.cameras()[0].name, max((m["mask_id"] for m in registry.masks()), default=1)
    match name:
        case "exclude":
            registry.exclude(["1"], reason="dew")
        case "include":
            registry.include(["1"], reason="it dried")
        case "fix":
            registry.fix(["1"], {"exptime_s": 10.0 + number}, reason="the shutter")
        case "import":
            pixels = np.zeros((48, 64), bool)
            pixels.reshape(-1)[number] = True
            np.save(folder / "theirs.npy", pixels)
            registry.import_mask(
                folder / "theirs.npy", camera, valid_from=f"2021-0{1 + number % 9}-01", temperature_c=-10.0
            )
        case "edit":
            registry.edit_mask(newest_id, mask=[(number, 9)], reason="seen")
        case "revoke":
            registry.revoke(newest_id, reason="streaks")
        case "lift":
            registry.lift_revocation(newest_id, reason="none")
        case "decertify":
            registry.decertify(newest_id, reason="early")
        case "certify":
            registry.certify(newest_id, valid_from="2021-02-01", supersede=True)
        case "event":
            registry.add_event(camera, f"2021-1{number % 3}-01", "warmup", trim=True)
        case "no event":
            registry.remove_event(camera, registry.events(camera)[0].id, reason="none")
        case "release":
            registry.create_release(f"r{number}")
        case "rename":
            registry.rename_camera(camera, f"small-{number}")
        case "defect":
            registry.add_defects(
                camera, [Defect(x0=number, y0=0, width=1, height=1, reason="x")], reason="flats"
            )
        case "no defect":
            registry.remove_defects(camera, [d.defect_id for d in registry.defects(camera)][:1], reason="x")


@given(story=st.lists(ACTS, min_size=5, max_size=25), page_bytes=st.sampled_from([500, 5_000, 1_000_000]))
@settings(
    max_examples=3,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_done_and_whenever_it_is_synced_a_mirror_is_a_fresh_copy(
    registry: Registry, database: str, tmp_path: Path, story: list[str], page_bytes: int
) -> None:
    if not registry.cameras():
        registry.ingest([write_frame(tmp_path / "dark.fits")])
    copy, fresh = tmp_path / f"{page_bytes}.sqlite", tmp_path / "fresh.sqlite"
    for number, name in enumerate([*story, "sync"]):
        if name == "sync":
            sync(database, copy, most_bytes=page_bytes)
            registry.export(fresh, replace=True)
            assert tallies(copy) == tallies(fresh)
            continue
        try:
            act(registry, tmp_path, name, number)
        except (HotpixError, IndexError):
            continue


# --- what is no source, and what is no mirror ------------------------------------------------


def test_a_registry_of_another_name_is_refused(source: str, copy: Path, tmp_path: Path) -> None:
    sync(source, copy)
    before = tallies(copy)
    with Registry(str(tmp_path / "another.sqlite")) as another:
        another.ingest([write_frame(tmp_path / "dark2.fits")])
    with pytest.raises(Conflict, match="and this is a mirror of"):
        sync(tmp_path / "another.sqlite", copy)
    assert tallies(copy) == before


def test_a_source_that_went_back_to_an_older_state_is_refused(
    source: str, copy: Path, registry: Registry, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.sqlite"
    registry.backup(backup)
    registry.create_release("lost")
    sync(source, copy)
    with pytest.raises(Conflict, match="an older state of it was restored"):
        sync(backup, copy)
    with Registry(str(backup)) as restored:
        restored.create_release("found")
        restored.create_release("more")
    with pytest.raises(Conflict, match="their histories went different ways"):
        sync(backup, copy)
    assert tallies(copy) == tallies(source)


def test_a_damaged_mask_at_the_source_is_not_taken(source: str, copy: Path) -> None:
    damage(source, 2)
    with pytest.raises(IntegrityError, match="mask 2 at the source are damaged"):
        sync(source, copy)
    assert [row["id"] for row in rows(copy)["masks"]] in ([], [1])
    with Registry(str(copy)) as mirrored:
        assert mirrored.verify().findings == []


def test_only_a_mirror_is_synced_into(source: str, tmp_path: Path, postgresql_url: str) -> None:
    own = tmp_path / "own.sqlite"
    with Registry(str(own)) as registry:
        registry.ingest([write_frame(tmp_path / "dark3.fits")])
    with pytest.raises(UsageError, match="is no mirror"):
        sync(source, own)
    with pytest.raises(UsageError, match="A mirror is an SQLite file"):
        mirror.sync(source, parse_url(postgresql_url))
    with pytest.raises(UsageError, match="is no mirror"):
        mirror.detach(parse_url(str(own)), act_of_user())


def test_a_part_of_a_registry_and_a_mirror_of_itself_are_refused(
    source: str, copy: Path, registry: Registry, tmp_path: Path
) -> None:
    registry.export(tmp_path / "part.sqlite", camera=CAMERA)
    with pytest.raises(UsageError, match="is a part of a registry"):
        sync(tmp_path / "part.sqlite", copy)
    assert not copy.exists()
    sync(source, copy)
    with pytest.raises(UsageError, match="is the mirror itself"):
        sync(copy, copy)
    with pytest.raises(SchemaError, match="no registry"):
        sync(tmp_path / "nowhere.sqlite", copy)


def test_what_is_no_page_of_changes_is_one_sentence(source: str, copy: Path) -> None:
    sync(source, copy)
    with Registry(source) as registry:
        (page,) = [Page.from_bytes(registry.changes(newest(source)))]
    before = tallies(copy)
    for says in (
        b"",
        b"<html>captive portal</html>",
        b"[" * 100_000,
        page.as_bytes()[:-20],
        replace(page, newest="many").as_bytes(),
        replace(page, registries=[[]]).as_bytes(),
        replace(page, until=9**20, records=[{"table": "tokens", "row": {}}]).as_bytes(),
        replace(page, until=9**20, records=[{"table": "masks", "row": [1]}]).as_bytes(),
        replace(page, until=9**20, records=[{"table": "frames", "closed": [1]}]).as_bytes(),
        replace(page, until=9**20, records=[{"table": "cameras", "row": {"id": 10**30}}]).as_bytes(),
    ):
        with speaking() as script:
            script.say(200, says)
            with pytest.raises((IntegrityError, Conflict)):
                sync(script.url, copy)
        assert tallies(copy) == before
    with speaking() as script:
        script.say(200, replace(page, schema="20991231_0001").as_bytes())
        with pytest.raises(SchemaError, match="Install the same version"):
            sync(script.url, copy)
    assert is_as_its_source_was(copy, source)


def test_where_a_source_is_lost_its_mirror_goes_on_as_it(source: str, copy: Path, tmp_path: Path) -> None:
    sync(source, copy)
    portability.move_in(copy, parse_url(str(tmp_path / "new.sqlite")))
    assert tallies(tmp_path / "new.sqlite") == tallies(source)
    with Registry(source) as lost, Registry(str(tmp_path / "new.sqlite")) as found:
        found.exclude(["1"], reason="dew")
        assert found.state() == (lost.state()[0], lost.state()[1] + 1)


def test_a_mirror_of_a_mirror_is_one_of_the_source(source: str, copy: Path, tmp_path: Path) -> None:
    sync(source, copy)
    sync(copy, tmp_path / "second.sqlite")
    assert tallies(tmp_path / "second.sqlite") == tallies(source)
    assert mark_of(tmp_path / "second.sqlite") == databases.MIRROR


# --- how a mirror is used --------------------------------------------------------------------


def test_a_mirror_refuses_every_act_of_its_own(source: str, copy: Path, tmp_path: Path) -> None:
    sync(source, copy)
    before = tallies(copy)
    with Registry(str(copy)) as mirrored:
        for refused in (
            lambda: mirrored.exclude(["1"], reason="dew"),
            lambda: mirrored.build(CAMERA),
            lambda: mirrored.ingest([write_frame(tmp_path / "new.fits")]),
            lambda: mirrored.create_release("own"),
        ):
            with pytest.raises(Conflict, match="is a mirror, which takes no writes of its own"):
                refused()
        with pytest.raises(UsageError, match="is a mirror, which is not repaired"):
            damage_and_fix(copy, mirrored)
    assert tallies(copy)["transactions"] == before["transactions"]


def damage_and_fix(copy: Path, mirrored: Registry) -> None:
    path = mirrored.mask_path(1)
    path.chmod(0o644)
    path.write_bytes(b"something else")
    mirrored.verify(fix=True)


def test_a_detached_mirror_goes_on_under_a_name_of_its_own(source: str, copy: Path) -> None:
    sync(source, copy)
    with Registry(source) as registry:
        receipt = registry.mask(CAMERA, "2021-03-04").answer.receipt
        registry_id = registry.state()[0]
    own_id = mirror.detach(parse_url(str(copy)), act_of_user())
    with Registry(str(copy)) as own:
        own.exclude(["1"], reason="dew")
        assert own.state()[0] == own_id != registry_id
        assert own.replay(receipt).answer.receipt == receipt
    with pytest.raises(UsageError, match="is no mirror"):
        sync(source, copy)


def test_tokens_of_a_mirror_are_its_own_and_only_read(source: str, copy: Path) -> None:
    sync(source, copy)
    before = tallies(copy)
    with Registry(str(copy)) as mirrored:
        assert mirrored.tokens() == []
        with pytest.raises(UsageError, match="whose tokens may read and nothing else"):
            mirrored.create_token("dome", [Scope.READ, Scope.BUILD])
        with pytest.raises(UnknownId, match="no token dome"):
            mirrored.revoke_token("dome", reason="left")
        settings = ServerSettings(database=str(copy), read_needs_token=True)
        with TestClient(create_app(settings)) as client:
            secret = mirrored.create_token("dome", [Scope.READ]).secret
            other = mirrored.create_token("guest", [Scope.READ]).secret
            assert client.get("/v1/masks").status_code == 401
            assert client.get("/v1/masks", headers=bearing(secret)).status_code == 200
            mirrored.revoke_token("guest", reason="left")
            assert client.get("/v1/masks", headers=bearing(other)).status_code == 401
            refused = client.post("/v1/releases", headers=bearing(secret), json={"name": "x"})
            assert refused.json()["code"] == "forbidden"
    assert tallies(copy) == before
    assert sync(source, copy).transactions == 0
    mirror.detach(parse_url(str(copy)), act_of_user())
    with Registry(str(copy)) as own:
        assert own.admit(secret, Scope.READ).name == "dome"
        assert [token.name for token in own.tokens()] == ["dome"]
        assert own.verify().findings == []
    assert not list(copy.parent.glob("*.tokens*"))


def test_each_answer_of_a_mirrors_service_says_how_old_its_copy_is(source: str, copy: Path) -> None:
    sync(source, copy)
    known = freshness.read(copy)
    assert known is not None
    lists = ("/v1/masks", "/v1/frames", "/v1/cameras", f"/v1/cameras/{CAMERA}/mask?date=2021-03-04")
    pages = ("/", "/masks/1", "/jobs")
    when = f"mirror of {known.source}, brought up to date {known.at[:10]} {known.at[11:16]} UTC"
    with TestClient(create_app(ServerSettings(database=str(copy)))) as client:
        for path in (*lists, *pages):
            got = client.get(path)
            assert got.headers["x-hotpix-synced"] == known.at, path
            assert "x-hotpix-warning" not in got.headers
            assert (when in got.text) == (path in pages)
        tag = client.get("/masks/1").headers["etag"]
        assert client.get("/masks/1", headers={"If-None-Match": tag}).status_code == 304
        freshness.write(copy, replace(known, at_us=known.at_us - 7_300_000_000))
        for path in (*lists, *pages):
            warning = client.get(path).headers["x-hotpix-warning"]
            assert warning.startswith(f"This mirror of {known.source} was last brought up to date at ")
            assert path in lists or warning[:40] in client.get(path).text
        assert client.get("/masks/1", headers={"If-None-Match": tag}).status_code == 200
    with TestClient(create_app(ServerSettings(database=source))) as client:
        assert "x-hotpix-synced" not in client.get("/v1/masks").headers


def test_a_mirrors_age_is_looked_up_once_for_each_request(
    source: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(source, copy, warn_after_h=0)
    paths = (f"/v1/cameras/{CAMERA}/mask?date=2021-03-04", "/v1/masks", "/", "/jobs")
    read: list[str] = []
    read_bytes = Path.read_bytes

    def counted(self: Path) -> bytes:
        read.append(self.suffix)
        return read_bytes(self)

    with TestClient(create_app(ServerSettings(database=str(copy)))) as client:
        monkeypatch.setattr(Path, "read_bytes", counted)
        for requests, path in enumerate(2 * paths, 1):
            assert "x-hotpix-warning" in client.get(path).headers
            assert read.count(".synced") == requests, path


def test_the_age_of_a_mirror_is_in_its_answers(source: str, copy: Path) -> None:
    sync(source, copy)
    with Registry(source) as registry, Registry(str(copy)) as mirrored:
        assert mirrored.lag() is None
        fresh = mirrored.mask(CAMERA, "2021-03-04").answer
        assert fresh == registry.mask(CAMERA, "2021-03-04").answer
        sync(source, copy, warn_after_h=0)
        lag = mirrored.lag()
        assert lag is not None
        assert "was last brought up to date at 2" in lag
        assert mirrored.mask(CAMERA, "2021-03-04").answer.warnings == (*fresh.warnings, lag)
        assert sync(source, copy).transactions == 0
        assert mirrored.lag() is not None  # as before
        freshness.forget(copy)
        assert mirrored.lag() == (
            "This is a mirror, and it is not known when it was last brought up to date."
        )
        assert registry.lag() is None


def test_a_client_of_a_server_on_a_mirror_is_told_of_its_age(source: str, copy: Path) -> None:
    sync(source, copy)
    with serving(str(copy)) as url, Client(url) as client, Registry(source) as registry:
        found = client.mask(CAMERA, "2021-03-04")
        there = registry.mask(CAMERA, "2021-03-04")
        assert found.answer == there.answer
        assert np.array_equal(found.array, there.array)
        sync(source, copy, warn_after_h=0)
        assert "This mirror of" in client.mask(CAMERA, "2021-03-04").answer.warnings[-1]
        sync(source, copy, warn_after_h=1)
        assert client.mask(CAMERA, "2021-03-04").answer == there.answer


def test_a_server_whose_reading_needs_a_token_is_followed_with_one(
    source: str, copy: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = registry.create_token("dome", [Scope.READ]).secret
    with serving(source, read_needs_token=True) as url:
        with pytest.raises(NotAdmitted):
            sync(url, copy)
        monkeypatch.setenv("HOTPIX_SERVER_TOKEN", secret)
        sync(url, copy)
    assert tallies(copy) == tallies(source)
    assert secret.encode() not in copy.read_bytes()
