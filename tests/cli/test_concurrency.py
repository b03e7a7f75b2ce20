"""Several at once, and processes that die: the registry answers as before or as after."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest

from hotpix_registry.cameras import CameraProfile
from hotpix_registry.domain import Recipe, Rule
from tests.cli.conftest import Done, Hotpix
from tests.plain_masks import add_camera, add_mask
from tests.small_camera import write_campaign, write_frame
from tests.torture.crowd import check_intervals

BUILD = ("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4")


def test_four_processes_do_the_same_at_once_and_it_is_done_once(hotpix: Hotpix, database: str) -> None:
    hotpix = hotpix.on(database)
    write_campaign(hotpix.cwd / "darks")
    write_frame(hotpix.cwd / "darks" / "light.fits", header={"IMAGETYP": "Light"})
    ingests = hotpix.at_once([("ingest", "darks", "--format", "json")] * 4)
    reports = [done.ended_with(0).json for done in ingests]
    assert sum(report["accepted"] for report in reports) == 11
    assert {report["accepted"] + report["known"] for report in reports} == {11}
    frames = hotpix.frames()
    assert len({frame.sha256 for frame in frames}) == len(frames) == 11
    assert {frame.twin_of for frame in frames} == {None}
    builds = hotpix.at_once([(*BUILD, "--format", "json")] * 4)
    results = [result for done in builds for result in done.ended_with(0).json]
    assert {(result["mask_id"], result["version"]) for result in results} == {(1, 1)}
    assert sum(result["new"] for result in results) == 1
    with hotpix.opened() as registry:
        assert [len(mask["valid"]) for mask in registry.masks()] == [1]


def all_at_once(hotpix: Hotpix, commands: list[tuple[str, ...]]) -> list[Done]:
    done = hotpix.at_once(commands)
    assert not [one for one in done if "locked" in one.err or "Traceback" in one.err], done
    return done


def test_eight_processes_build_and_certify_at_once(hotpix: Hotpix, database: str) -> None:
    hotpix = hotpix.on(database)
    write_campaign(hotpix.cwd / "darks")
    hotpix.ingest("darks")
    with hotpix.opened() as registry:
        registry.build("smallcam-48", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    builds = [(*BUILD[:-1], str(limit)) for limit in (5, 6, 7)]
    certificates = [
        ("certify", "1", "--valid-from", f"2021-0{n}-01", "--valid-to", f"2021-0{n + 4}-01", "--supersede")
        for n in (1, 2, 3, 4, 5)
    ]
    for done in all_at_once(hotpix, [*builds, *certificates]):
        done.ended_with(0)
    with hotpix.opened() as registry:
        assert len(registry.masks()) == 4
        assert [act["tx"] for act in registry.log()] == list(range(1, 11))
        check_intervals(registry)
    hotpix("db", "check").ended_with(0)


def test_of_eight_who_looked_at_the_same_moment_one_is_first_and_the_others_are_told(
    hotpix: Hotpix, database: str
) -> None:
    hotpix = hotpix.on(database)
    with hotpix.opened() as registry:
        camera = add_camera(registry, CameraProfile(name="aspen", longitude_deg_east=0.0))
        add_mask(registry, camera, ("2018-08-22", "2018-08-22"), [1_534_968_000_000_000])
        looked = registry.mask("aspen", "2018-08-22").answer.tx
    commands = [("certify", "1", "--valid-to", f"2019-08-0{n}", "--expect", str(looked)) for n in range(1, 9)]
    done = all_at_once(hotpix, commands)
    first, *others = sorted(done, key=lambda one: one.code)
    first.ended_with(0)
    for other in others:
        other.refused(1, f"has moved since transaction {looked}", f"(transaction {looked + 1})")
    with hotpix.opened() as registry:
        assert registry.log()[-1]["tx"] == looked + 1
        check_intervals(registry)


INTERRUPTED = "hotpix-registry: Interrupted; nothing is left half-written.\n"


def test_an_interrupted_command_ends_in_one_sentence(hotpix: Hotpix) -> None:
    """Ctrl-C in the middle of the work."""
    # a shell starts what it runs in the background deaf to it, the tests included
    hotpix = replace(hotpix, beforehand=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    write_campaign(hotpix.cwd / "darks", darks={30: 100}, biases=0)
    for _ in range(10):  # on a busy machine the work may be done before the signal comes
        for left in hotpix.cwd.glob("registry.sqlite*"):
            left.unlink()
        with hotpix.start("ingest", "darks") as process:
            while not (hotpix.cwd / "registry.sqlite").exists() and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        if process.returncode != 0:
            assert (process.returncode, err.decode()) == (130, INTERRUPTED)
            return
    raise AssertionError("ten ingests were over before they could be interrupted")


def interrupted_when(hotpix: Hotpix, happens: str) -> tuple[int, str]:
    """Exit code and standard error of an ingest that hears Ctrl-C when something happens in it."""
    code = f"""
import atexit, signal, sys
from hotpix_registry.__main__ import main

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

{happens}
sys.argv = ["hotpix-registry", "ingest", "darks"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=hotpix.cwd,
        env=hotpix.environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    return done.returncode, done.stderr


ON = "sys.addaudithook(lambda event, about: {} and {})"
NOW = "signal.raise_signal(signal.SIGINT)"


@pytest.mark.parametrize(
    "happens",
    [
        ON.format('event == "import" and about[0] == "typer"', NOW),
        ON.format('event == "import" and about[0] == "sqlalchemy"', NOW),
        ON.format('event == "sqlite3.connect"', NOW),
        ON.format('event == "open" and str(about[0]).endswith("dark_30s_02.fits")', NOW),
        ON.format('event == "open" and str(about[0]).endswith("dark_30s_02.fits")', "Finalized()"),
    ],
    ids=["first import", "late import", "database", "thread", "finalizer"],
)
def test_ctrl_c_at_any_instant_is_one_sentence(hotpix: Hotpix, happens: str) -> None:
    write_campaign(hotpix.cwd / "darks", darks={30: 3}, biases=0)
    code, err = interrupted_when(hotpix, happens)
    # what a finalizer is told it forgets, and the work goes on until somebody notices
    told = [line for line in err.splitlines(keepends=True) if not line.startswith("Note: ")]
    assert (code, "".join(told)) == (130, INTERRUPTED)
    assert [path.name for path in hotpix.cwd.iterdir() if path.name.endswith(".tmp")] == []
    hotpix("ingest", "darks").ended_with(0)
    assert len(hotpix.frames()) == 3


def test_ctrl_c_when_the_work_is_done_changes_nothing(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks", darks={30: 3}, biases=0)
    code, err = interrupted_when(hotpix, "atexit.register(signal.raise_signal, signal.SIGINT)")
    assert (code, "Traceback" in err, "Interrupted" in err) == (0, False, False)
