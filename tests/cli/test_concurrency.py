"""Several at once, and processes that die: the registry answers as before or as after."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Hotpix
from tests.small_camera import write_campaign, write_frame

BUILD = ("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4")


def at_once(hotpix: Hotpix, *arguments: str, processes: int = 4) -> list[Done]:
    started = [hotpix.start(*arguments) for _ in range(processes)]
    done = []
    for process in started:
        out, err = process.communicate(timeout=120)
        done.append(Done(arguments, process.returncode, out.decode(), err.decode()))
    return done


def test_four_processes_do_the_same_at_once_and_it_is_done_once(hotpix: Hotpix, database: str) -> None:
    hotpix = hotpix.on(database)
    write_campaign(hotpix.cwd / "darks")
    write_frame(hotpix.cwd / "darks" / "light.fits", header={"IMAGETYP": "Light"})
    ingests = at_once(hotpix, "ingest", "darks", "--format", "json")
    reports = [done.ended_with(0).json for done in ingests]
    assert sum(report["accepted"] for report in reports) == 11
    assert {report["accepted"] + report["known"] for report in reports} == {11}
    frames = hotpix.frames()
    assert len({frame.sha256 for frame in frames}) == len(frames) == 11
    assert {frame.twin_of for frame in frames} == {None}
    builds = at_once(hotpix, *BUILD, "--format", "json")
    results = [result for done in builds for result in done.ended_with(0).json]
    assert {(result["mask_id"], result["version"]) for result in results} == {(1, 1)}
    assert sum(result["new"] for result in results) == 1
    with hotpix.opened() as registry:
        assert [len(mask["valid"]) for mask in registry.masks()] == [1]


def killed_after(hotpix: Hotpix, delay_s: float, *arguments: str) -> int:
    with hotpix.start(*arguments) as process:
        time.sleep(delay_s)
        process.kill()
        process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("seed", range(3))
def test_an_ingest_that_is_killed_leaves_a_registry_that_the_next_one_finishes(
    hotpix: Hotpix, seed: int
) -> None:
    write_campaign(hotpix.cwd / "darks", darks={30: 30, 120: 30}, biases=20)
    draw = random.Random(seed)
    seen = 0
    for _ in range(2):
        killed_after(hotpix, draw.uniform(0.4, 1.6), "ingest", "darks")
        held = len(hotpix.frames())
        assert held >= seen
        seen = held
    hotpix.ingest("darks")
    frames = hotpix.frames()
    assert len({frame.sha256 for frame in frames}) == len(frames) == 80
    hotpix("db", "check").ended_with(0)


@pytest.mark.parametrize("seed", range(2))
def test_a_build_that_is_killed_leaves_what_was_and_the_next_one_finishes(
    stock: Path, hotpix: Hotpix, seed: int
) -> None:
    shutil.copytree(stock / "darks", hotpix.cwd / "darks")
    hotpix.ingest("darks")
    draw = random.Random(seed)
    for _ in range(2):
        killed_after(hotpix, draw.uniform(0.6, 2.2), *BUILD)
        with hotpix.opened() as registry:
            masks = registry.masks()
            assert len(masks) <= 1
            assert all(registry.mask_file(mask["mask_id"]) for mask in masks)
            # a version and its interval come together or not at all
            assert all(mask["valid"] for mask in masks)
    hotpix(*BUILD).ended_with(0)
    with hotpix.opened() as registry:
        assert [mask["version"] for mask in registry.masks()] == [1]


def test_an_interrupted_command_ends_without_a_traceback(hotpix: Hotpix) -> None:
    """Ctrl-C in the middle of the work."""
    import signal

    write_campaign(hotpix.cwd / "darks", darks={30: 100}, biases=0)
    with hotpix.start("ingest", "darks") as process:
        while not (hotpix.cwd / "registry.sqlite").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in err, err.decode()
