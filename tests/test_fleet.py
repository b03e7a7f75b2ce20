"""Whatever lacks a mask is built in parallel: as a serial build does, once each, whoever dies meanwhile."""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue.claims import claims
from hotpix_registry.domain import ALGORITHM_VERSION, Recipe, Rule
from hotpix_registry.errors import FrameChanged, SchedulerUnreachable, UnfitWorkers, UsageError, WorkerLost
from hotpix_registry.registry import Registry, fleet, rollout
from hotpix_registry.registry.facade.opened import act
from hotpix_registry.registry.recipes import named_recipe
from hotpix_registry.registry.tallies import FleetReport
from hotpix_registry.work import Work, dask_workers, local_processes
from tests.cli.conftest import FORKS, Hotpix
from tests.databases import PostgreSQL
from tests.fleets import (
    CHECKOUT,
    Here,
    State,
    build_one_by_one,
    dask_worker,
    state,
    wait_until,
    write_cameras,
)

N_MASKS = 6
LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)


@pytest.fixture(scope="module")
def darks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three campaigns of each of two cameras; never to be changed."""
    return write_cameras(tmp_path_factory.mktemp("darks"), cameras=2, campaigns=3, biases=1)


@pytest.fixture(scope="module")
def serial(darks: Path, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    """What building camera after camera leaves."""
    path = tmp_path_factory.mktemp("serial") / "registry.sqlite"
    with Registry(str(path)) as registry:
        registry.ingest(darks, recursive=True)
        made = build_one_by_one(registry)
    assert len(made) == N_MASKS
    return made


@pytest.fixture
def ingested(registry: Registry, darks: Path) -> Registry:
    registry.ingest(darks, recursive=True)
    return registry


@pytest.fixture
def hotpix(tmp_path: Path) -> Hotpix:
    """The command line on an SQLite registry that does not exist yet."""
    return Hotpix(tmp_path, str(tmp_path / "registry.sqlite"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, which are processes, of a dask scheduler."""
    with new_cluster(2) as cluster:
        yield cluster


def new_cluster(workers: int, **given: Any) -> Any:
    from distributed import LocalCluster

    given |= {"host": "127.0.0.1", "dashboard_address": ":0", "silence_logs": 50}
    return LocalCluster(n_workers=workers, threads_per_worker=1, **given)


def build_with(registry: Registry, work: Work, **wanted: Any) -> FleetReport:
    return fleet.build_all(
        registry._engine, act(), registry.cameras(), fleet.Wanted(**wanted), work, progress=None
    )


# --- the same as a serial build --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_in_whatever_order_tasks_end_the_masks_and_dates_are_those_of_a_serial_build(
    ingested: Registry, serial: State, seed: int
) -> None:
    work = Here(random.Random(seed).randrange)
    report = build_with(ingested, work)
    assert state(ingested) == serial
    assert (report.built, report.failed, report.done) == (N_MASKS, 0, N_MASKS)
    assert work.most <= work.places()
    again = build_with(ingested, work)
    assert (again.built, again.done) == (0, N_MASKS)


def test_pixels_are_followed_through_the_campaigns_in_the_order_of_time(
    registry: Registry, darks: Path, tmp_path: Path
) -> None:
    recipe = Recipe(rule=Rule.PERSIST)
    with Registry(str(tmp_path / "serial.sqlite")) as other:
        other.ingest(darks / "camera0", recursive=True)
        expected = build_one_by_one(other, recipe=recipe)
    registry.ingest(darks / "camera0", recursive=True)
    build_with(registry, Here(lambda waiting: waiting - 1), recipe=recipe)
    assert state(registry) == expected
    assert {mask["rule"] for mask in registry.masks()} == {"evidence", "persist"}


def test_a_mask_that_follows_pixels_is_missing_only_where_evidence_up_to_it_is_new(
    registry: Registry, darks: Path
) -> None:
    recipe = Recipe(rule=Rule.PERSIST)

    def counted() -> tuple[int, int]:
        told = registry.survey_builds(recipe=recipe).as_dict()
        return told["known"], told["to_build"]

    for number in (0, 2):
        registry.ingest(darks / "camera0" / f"campaign{number}")
    assert counted() == (0, 2)
    registry.build("camera-0", recipe=Recipe(rule=Rule.EVIDENCE))
    assert counted() == (0, 2)
    assert build_with(registry, Here(), recipe=recipe).built == 2
    assert counted() == (2, 0)
    registry.ingest(darks / "camera0" / "campaign1")
    assert counted() == (1, 2)
    assert build_with(registry, Here(), recipe=recipe).built == 2
    assert counted() == (3, 0)


def test_local_processes_build_what_a_serial_build_does(hotpix: Hotpix, darks: Path, serial: State) -> None:
    hotpix.ingest(str(darks), recursive=True)
    dry = hotpix("build", "--all", "--dry-run", "--format", "json").ended_with(0).json
    assert (dry["campaigns"], dry["to_build"], dry["built"]) == (N_MASKS, N_MASKS, 0)
    done = hotpix("build", "--all", "--jobs", "2").ended_with(0, "Built 6 masks in")
    assert done.out.splitlines()[1].split() == ["camera-0", "3", "0", "3", "2", "0", "0", "0"]
    with hotpix.opened() as registry:
        assert state(registry) == serial
    again = hotpix("build", "--all", "--format", "json").ended_with(0, "nothing to build").json
    assert (again["known"], again["built"], again["to_build"]) == (N_MASKS, 0, 0)


def test_cameras_and_nights_narrow_it_down(hotpix: Hotpix, darks: Path) -> None:
    hotpix.ingest(str(darks), recursive=True)
    asked = ("build", "--all", "--dry-run", "--format", "json")
    assert hotpix(*asked, "--camera", "camera-1").json["campaigns"] == 3
    assert hotpix(*asked, "--since", "2021-02-01").json["campaigns"] == 4
    assert hotpix(*asked, "--nights", "2021-01-04").json["campaigns"] == 2
    hotpix(*asked, "--nights", "2021-01-04", "--since", "2021-01-04").refused(2, "say the same")
    assert hotpix(*asked, "--recipe", "limit=4").json["campaigns"] == 6
    hotpix(*asked, "--recipe", "limit=4", "--rule", "limit").refused(2, "--recipe")
    hotpix(*asked, "--recipe", "current").refused(2, "current is not built")
    hotpix("build", "--jobs", "2", "--camera", "camera-1").refused(2, "--all")
    hotpix("build").refused(2, "--camera")


def test_what_waits_for_a_rollout_is_built_and_not_certified(ingested: Registry) -> None:
    report = build_with(ingested, Here(), recipe=Recipe(rule=Rule.PERSIST), certify=False)
    assert report.built == report.candidates == N_MASKS
    assert {mask["status"] for mask in ingested.masks()} == {"candidate"}


# --- recipes ---------------------------------------------------------------------------------------


def test_recipes_are_compared_by_workers_as_one_by_one(
    ingested: Registry, darks: Path, tmp_path: Path
) -> None:
    def prepare(registry: Registry) -> None:
        build_one_by_one(registry, recipe=LIMIT)
        registry.edit_mask(1, mask=[(7, 7)], reason="seen in flats")

    rows, work = ingested.cameras(), Here(random.Random(1).randrange)

    def make(wanted: fleet.Wanted) -> FleetReport:
        return fleet.build_all(ingested._engine, act(), rows, wanted, work, None)

    prepare(ingested)
    with Registry(str(tmp_path / "serial.sqlite")) as other:
        other.ingest(darks, recursive=True)
        prepare(other)
        for old, built in (("current", 5), ("evidence", 7)):
            expected = other.compare_recipes(old, "limit=10")
            found = rollout.compare(
                ingested._engine, rows, named_recipe(old), named_recipe("limit=10"), make=make
            )
            assert state(ingested) == state(other)
            assert (found.built, found.by_camera()) == (built, expected.by_camera())
            assert expected.built == built
            assert [(one.outcome, one.pixels) for one in found.campaigns] == [
                (one.outcome, one.pixels) for one in expected.campaigns
            ]


def test_what_processes_built_is_rolled_out_but_for_what_cannot_be_built(hotpix: Hotpix, darks: Path) -> None:
    shutil.copytree(darks, hotpix.cwd / "darks")
    hotpix.ingest("darks", recursive=True)
    with hotpix.opened() as registry:
        build_one_by_one(registry, recipe=LIMIT)
    (hotpix.cwd / "darks" / "camera0" / "campaign1" / "dark_30s_01.fits").unlink()
    asked, why = ("current", "limit=10", "--all"), ("--reason", "one limit for all")
    told = hotpix("recipe", "diff", *asked, "--jobs", "2", "--format", "json").ended_with(0).json
    assert (told["built"], told["total"]["changed"], told["total"]["not_built"]) == (5, 5, 1)
    assert "dark_30s_01.fits has vanished" in told["campaigns"][1]["why"]
    hotpix("recipe", "rollout", *asked, *why).refused(1, "1 of 6 campaigns cannot be")
    hotpix("recipe", "rollout", *asked, *why, "--partial").ended_with(8, "--as-of")
    with hotpix.opened() as registry:
        certified = [mask["mask_id"] for mask in registry.masks() if mask["status"] == "certified"]
    assert [mask_id > N_MASKS for mask_id in certified] == [False] + [True] * 5
    both = ("--jobs", "2", "--scheduler", "tcp://head:8786")
    hotpix("recipe", "diff", *asked, *both).refused(2, "Give one of the two.")


# --- what goes wrong -------------------------------------------------------------------------------


def test_what_cannot_be_built_stops_nothing_else_and_is_told_with_its_reason(
    hotpix: Hotpix, darks: Path
) -> None:
    shutil.copytree(darks, hotpix.cwd / "darks")
    hotpix.ingest("darks", recursive=True)
    (hotpix.cwd / "darks" / "camera0" / "campaign1" / "dark_30s_01.fits").unlink()
    done = hotpix("build", "--all", "--jobs", "1", "--format", "json")
    done.ended_with(8, "1 campaign of 6 could not be built")
    (failed,) = done.json["cameras"][0]["failed"]
    assert (failed["code"], failed["first_night"]) == ("frame-changed", "2021-02-03")
    assert "dark_30s_01.fits has vanished" in failed["reason"]
    with hotpix.opened() as registry:
        registry.revoke(1, reason="streaks")
    left = hotpix("build", "--all", "--dry-run")
    assert "mask 1, left alone: This very build is mask 1, which" in left.err
    assert left.out.splitlines()[1].split() == ["camera-0", "3", "1", "0", "0", "1", "0", "1"]


def test_a_bug_is_told_as_one_with_its_traceback_and_stops_nothing_else(
    ingested: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Here):
        def submit(self, key: str, task: Any, argument: Any) -> None:
            first = argument.campaign.first_night == "2021-01-04"
            super().submit(key, (lambda _: 1 // 0) if first else task, argument)

    with caplog.at_level(logging.ERROR):
        report = build_with(ingested, Faulty())
    assert (report.built, report.failed, report.bugs) == (4, 2, 2)
    assert "ZeroDivisionError" in report.cameras[0].failed[0].reason
    assert "1 // 0" in caplog.text


def test_a_task_that_ends_its_process_three_times_is_given_up_and_the_others_are_done() -> None:
    ended: dict[str, Any] = {}
    with local_processes(1) as work:
        for key, task, argument in (("a", os._exit, 9), ("b", abs, -1), ("c", abs, -2)):
            work.submit(key, task, argument)
        while len(ended) < 3:
            if (one := work.next(10)) is not None:
                ended[one.key] = one.error or one.value
    assert isinstance(ended["a"], WorkerLost)
    assert (ended["b"], ended["c"]) == (1, 2)


def test_a_worker_that_does_not_see_what_is_here_is_named_at_once(ingested: Registry) -> None:
    class Elsewhere(Here):
        far = True

        def submit(self, key: str, task: Any, argument: Any) -> None:
            super().submit(key, lambda _: ("node7", FrameChanged("a.fits has vanished.")), argument)

    with pytest.raises(UnfitWorkers, match=r"On the worker node7: a.fits has vanished. On this machine"):
        build_with(ingested, Elsewhere())
    assert ingested.masks() == []


def test_a_worker_of_another_algorithm_makes_no_mask_whenever_it_joins(tmp_path: Path) -> None:
    code = tmp_path / "other"
    shutil.copytree(CHECKOUT / "hotpix_registry", code / "hotpix_registry")
    domain = code / "hotpix_registry" / "domain.py"
    other = domain.read_text().replace(f'VERSION = "{ALGORITHM_VERSION}"', 'VERSION = "another"')
    domain.write_text(other)
    told = f"has algorithm another; the command has algorithm {ALGORITHM_VERSION}"
    with (
        new_cluster(0) as cluster,
        dask_workers(cluster.scheduler_address) as work,
        dask_worker(cluster.scheduler_address, tmp_path, code=code),
    ):
        work.submit("ab", abs, -7)
        ended = work.next(60)
        assert ended is not None
        assert isinstance(ended.error, UnfitWorkers)
        assert f"A worker on {socket.gethostname()} {told}" in ended.error.message
        with pytest.raises(UnfitWorkers, match=told), dask_workers(cluster.scheduler_address):
            raise AssertionError


@pytest.mark.parametrize("address", ["cluster", "tcp://cluster", "http://cluster:8786"])
def test_what_is_no_address_of_a_scheduler_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="tcp://HOST:8786"), dask_workers(address):
        raise AssertionError


def dask_configured(values: dict[str, Any]) -> Any:
    """dask's configuration with other values of `distributed.comm`."""
    from dask import config

    import_module("distributed")  # its defaults come first
    return config.set({f"distributed.comm.{name}": value for name, value in values.items()})


def test_an_encrypted_scheduler_without_certificates_is_refused(hotpix: Hotpix, darks: Path) -> None:
    hotpix.ingest(str(darks / "camera0" / "campaign0"))
    elsewhere = ("--scheduler", "tls://127.0.0.1:8786")
    why = "tls://127.0.0.1:8786 is encrypted, and dask's configuration names no certificates. Set ca-file, "
    hotpix("build", "--all", *elsewhere).refused(2, why)
    hotpix("ingest", darks, *elsewhere).refused(2, why)
    hotpix("recipe", "diff", "limit=4", "evidence", "--all", *elsewhere).refused(2, why)


@pytest.mark.parametrize(
    ("configured", "address", "why"),
    [
        ({"require-encryption": True}, "tcp://127.0.0.1:8786", "is not encrypted, and dask's configuration"),
        (
            {"tls.ca-file": "missing.pem", "tls.client.cert": "missing.pem"},
            "tls://127.0.0.1:8786",
            "TLS cannot be used: .*No such file or directory. Check distributed.comm.tls",
        ),
        ({"tls.min-version": 1.0}, "tls://127.0.0.1:8786", "TLS cannot be used: .*min-version=1.0 is"),
    ],
)
def test_an_address_that_does_not_fit_the_configuration_of_dask_is_refused(
    configured: dict[str, Any], address: str, why: str
) -> None:
    with dask_configured(configured), pytest.raises(UsageError, match=why), dask_workers(address):
        raise AssertionError


def test_an_encrypted_scheduler_is_reached_with_the_certificates_of_the_configuration() -> None:
    from distributed import Security

    made = Security.temporary()
    client = {"tls.client.cert": made.tls_client_cert, "tls.client.key": made.tls_client_key}
    with (
        new_cluster(0, security=made) as cluster,
        dask_configured({"tls.ca-file": made.tls_ca_file} | client),
        dask_workers(cluster.scheduler_address) as work,
    ):
        assert cluster.scheduler_address.startswith("tls://")
        assert work.places() == 1


# --- claims ----------------------------------------------------------------------------------------

HOLD = """
import sys
from hotpix_registry.catalogue import engine
from hotpix_registry.catalogue.claims import claims
with claims(engine.connect(engine.parse_url(sys.argv[1]))) as held:
    print(held.take("ab" * 32), flush=True)
    sys.stdin.read()
"""


def test_a_claim_is_one_process_and_goes_with_it(database: str) -> None:
    engine = databases.connect(databases.parse_url(database))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, database], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with claims(engine) as held, holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert not held.take("ab" * 32)
        assert held.take("cd" * 32)
        holder.kill()
        wait_until(lambda: held.take("ab" * 32))
        held.give_back("ab" * 32)
    engine.dispose()


def test_what_another_process_has_claimed_is_left_to_it_and_taken_up_when_that_dies(
    ingested: Registry, serial: State
) -> None:
    """The second campaign of a series is claimed: the third waits for it, as in a serial build."""
    keys = {row[1]: row[5] for row in serial if row[0].startswith("camera-0")}
    code = HOLD.replace('"ab" * 32', "sys.argv[2]")
    holder = subprocess.Popen(
        [sys.executable, "-c", code, _address(ingested), keys["2021-02-03"]],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    seen: list[tuple[int, int]] = []

    def watch(report: FleetReport) -> None:
        seen.append((report.built, report.elsewhere))
        if seen[-1] == (4, 1):
            holder.kill()

    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        fleet.build_all(ingested._engine, act(), ingested.cameras(), fleet.Wanted(), Here(), progress=watch)
    assert (5, 1) not in seen
    assert state(ingested) == serial


def _address(registry: Registry) -> str:
    return registry._engine.url.render_as_string(hide_password=False).removeprefix("sqlite:///")


# --- dask, and what dies meanwhile -----------------------------------------------------------------


def test_a_worker_that_is_killed_at_work_loses_nothing(
    ingested: Registry, serial: State, cluster: Any, tmp_path: Path
) -> None:
    with dask_worker(cluster.scheduler_address, tmp_path) as worker:
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 3)
        report = ingested.build_all(
            scheduler=cluster.scheduler_address,
            progress=lambda report: worker.kill() if report.built else None,
        )
    assert (report.built, report.failed) == (N_MASKS, 0)
    assert state(ingested) == serial


def test_a_result_that_its_worker_took_with_it_is_computed_anew(tmp_path: Path) -> None:
    with new_cluster(0) as cluster:
        address = cluster.scheduler_address
        with dask_worker(address, tmp_path) as first:
            wait_until(lambda: bool(cluster.scheduler_info["workers"]))
            with dask_workers(address) as work:
                work.submit("ab", abs, -7)
                wait_until(lambda: {task.state for task in cluster.scheduler.tasks.values()} == {"memory"})
                first.kill()
                wait_until(lambda: not cluster.scheduler_info["workers"])
                with dask_worker(address, tmp_path):
                    ended = work.next(30)
    assert ended is not None
    assert (ended.key, ended.value, ended.error) == ("ab", 7, None)


def test_a_coordinator_that_is_killed_is_run_again_and_goes_on(
    ingested: Registry, serial: State, cluster: Any, tmp_path: Path
) -> None:
    hotpix = Hotpix(tmp_path, _address(ingested), {"HOTPIX_CACHE_DIR": str(tmp_path / "cache")})
    process = hotpix.start("build", "--all", "--scheduler", cluster.scheduler_address)
    wait_until(lambda: bool(ingested.masks()))
    process.kill()
    process.communicate()
    before = len(ingested.masks())
    done = hotpix("build", "--all", "--scheduler", cluster.scheduler_address, "--format", "json")
    assert (done.ended_with(0).json["known"], done.json["built"]) == (before, N_MASKS - before)
    assert state(ingested) == serial


def test_two_coordinators_at_once_build_each_mask_once(
    ingested: Registry, serial: State, cluster: Any, tmp_path: Path
) -> None:
    """One has local processes, the other dask."""
    hotpix = Hotpix(tmp_path, _address(ingested), {"HOTPIX_CACHE_DIR": str(tmp_path / "cache")})
    ways = (("--jobs", "1"), ("--scheduler", cluster.scheduler_address))
    processes = [FORKS.Process(target=_build_all, args=(hotpix, way, tmp_path / way[0])) for way in ways]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    built = [int((tmp_path / way[0]).read_text()) for way in ways]
    assert sum(built) == N_MASKS, built
    assert state(ingested) == serial


def _build_all(hotpix: Hotpix, way: tuple[str, ...], told: Path) -> None:
    done = hotpix("build", "--all", *way, "--format", "json")
    assert done.code in (0, 8), done.err  # 8: candidates alone were left for it
    told.write_text(str(done.json["built"]))


def test_a_database_that_is_restarted_meanwhile_loses_nothing(
    darks: Path, serial: State, postgresql: PostgreSQL
) -> None:
    with postgresql.new_registry() as url, Registry(url) as registry:
        registry.ingest(darks, recursive=True)
        restarted: list[int] = []

        def restart(report: FleetReport) -> None:
            if report.built >= 2 and not restarted:
                restarted.append(report.built)
                postgresql.kill_and_restart()

        report = fleet.build_all(
            registry._engine, act(), registry.cameras(), fleet.Wanted(), Here(), progress=restart
        )
        assert restarted
        assert report.done == N_MASKS
        assert state(registry) == serial


# --- ingest ----------------------------------------------------------------------------------------


def test_workers_read_and_hash_files_as_this_process_does(
    registry: Registry, darks: Path, cluster: Any, tmp_path: Path
) -> None:
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE  =")
    given = [str(darks), str(tmp_path / "broken.fits")]
    with Registry(str(tmp_path / "here.sqlite")) as other:
        expected = other.ingest(given, recursive=True).as_dict()
        frames = [(f.frame_id, f.sha256, f.paths, f.night, f.facts) for f in other.frames()]
    report = registry.ingest(given, recursive=True, scheduler=cluster.scheduler_address)
    assert report.as_dict() == expected
    assert [(f.frame_id, f.sha256, f.paths, f.night, f.facts) for f in registry.frames()] == frames
    again = registry.ingest(given, recursive=True, scheduler=cluster.scheduler_address)
    assert (again.accepted, again.known, len(again.rejected)) == (0, len(frames), 1)


def test_a_scheduler_that_ends_is_told_in_a_sentence() -> None:
    with new_cluster(0) as short_lived, dask_workers(short_lived.scheduler_address) as work:
        work.submit("a", abs, -1)
        short_lived.close()
        with pytest.raises(SchedulerUnreachable, match="is gone"):
            while True:
                work.next(0.2)
