"""A mirror as its user meets it: one command over and over, and pipelines that ask it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cli.conftest import Hotpix
from tests.serving import serving
from tests.story import CAMERA

LOOK_UP = ("mask", "--camera", CAMERA, "--date", "2021-03-04", "--format", "json")


@pytest.fixture
def mirrored(stocked: Hotpix) -> Hotpix:
    """The command line on a mirror of the stocked registry, which is `stocked.database`."""
    there = stocked.on(stocked.cwd / "dome.sqlite")
    there("sync", str(stocked.database)).ended_with(0)
    return there


def test_a_sync_says_what_was_new_and_the_next_that_nothing_is(stocked: Hotpix) -> None:
    dome = stocked.on(stocked.cwd / "dome.sqlite")
    first = dome("sync", str(stocked.database)).ended_with(
        0, "2 transactions, 1 mask, 11 frames new", " bytes."
    )
    assert first.out == ""
    dome("sync", str(stocked.database)).ended_with(0, "up to transaction 2, as", "nothing new.")
    stocked("frames", "exclude", "1", "--reason", "dew")
    told = dome("sync", str(stocked.database), "--format", "json").ended_with(0).json
    assert (told["tx"], told["transactions"], told["masks"], told["frames"]) == (3, 1, 0, 0)
    assert told["bytes"] > 0
    assert dome(*LOOK_UP).json == stocked(*LOOK_UP).json
    dome("verify").ended_with(0, "is as it was written")
    dome("db", "check").ended_with(0)


def test_a_pipeline_goes_on_when_the_line_is_down(stocked: Hotpix) -> None:
    dome = stocked.on(stocked.cwd / "dome.sqlite")
    with serving(str(stocked.database)) as url:
        dome("sync", url).ended_with(0, "1 mask")
    dome("sync", url).refused(7, "cannot be reached")
    assert dome(*LOOK_UP).ended_with(0).json == stocked(*LOOK_UP).json


def test_a_mirror_that_is_too_old_warns_in_each_command(mirrored: Hotpix, stocked: Hotpix) -> None:
    mirrored("masks").ended_with(0)
    assert "Warning" not in mirrored("cameras").err
    mirrored("sync", str(stocked.database), "--warn-after", "0").ended_with(0)
    (warning,) = set(mirrored(*LOOK_UP).ended_with(0).json["warnings"]) - set(
        stocked(*LOOK_UP).json["warnings"]
    )
    assert "was last brought up to date at" in warning
    for command in (("masks",), ("cameras",), ("frames",), ("show", "1")):
        assert mirrored(*command).ended_with(0).err.count(warning) == 1
    asked = mirrored("mask", "--camera", CAMERA, "--date", "2021-03-04").ended_with(0)
    assert asked.err.count(warning) == 1
    assert asked.out.endswith(".fits\n")
    with serving(str(mirrored.database)) as url:
        far = replace(mirrored, database=None, settings={"HOTPIX_SERVER_URL": url})
        for command in (("masks",), ("frames",), LOOK_UP):
            assert far(*command).ended_with(0).err.count(f"Warning: {warning}") == 1


def test_a_mirror_refuses_to_be_written_to_until_it_is_detached(mirrored: Hotpix) -> None:
    for command in (
        ("frames", "exclude", "1", "--reason", "dew"),
        ("ingest", "."),
        ("build", "--camera", CAMERA),
        ("revoke", "1", "--reason", "streaks"),
    ):
        mirrored(*command).refused(1, "is a mirror, which takes no writes of its own", "sync --detach")
    mirrored("token", "create", "dome", "--scope", "admin").refused(2, "may read and nothing else")
    mirrored("token", "create", "dome", "--scope", "read").ended_with(0, "Token dome may read")
    mirrored("sync", "--detach").ended_with(0, "is a registry of its own from now on")
    assert "dome" in mirrored("token", "list").out
    mirrored("frames", "exclude", "1", "--reason", "dew").ended_with(0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("sync",), 2, "What is to be mirrored is not said"),
        (("sync", "nowhere.sqlite"), 6, "There is no registry at"),
        (("sync", "http://127.0.0.1:1"), 7, "cannot be reached"),
        (("sync", "http://"), 2, "is no address of a server"),
        (("sync", "ftp://archive"), 2, "are not supported"),
        (("sync", "dome.sqlite"), 2, "is the mirror itself"),
        (("sync", "dome.sqlite", "--detach"), 2, "--detach goes with --database alone"),
        (("sync", "registry.sqlite", "--database", "postgresql://me@host/name"), 2, "is an SQLite file"),
        (("sync", "dome.sqlite", "--database", "registry.sqlite"), 2, "is no mirror"),
        (("sync", "--detach", "--database", "registry.sqlite"), 2, "is no mirror"),
        (("verify", "--fix", "--database", "dome.sqlite"), 0, "as it was written"),
    ],
)
def test_what_cannot_be_mirrored_is_one_sentence(
    mirrored: Hotpix, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = mirrored(*arguments)
    if code:
        done.refused(code, words)
    else:
        done.ended_with(0, words)


def test_the_url_of_a_source_keeps_its_password(mirrored: Hotpix) -> None:
    done = mirrored("sync", "postgresql://me:secret@127.0.0.1:1/name").refused(7, "cannot be reached")
    assert "secret" not in done.err
