"""Help that helps, whatever else is broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import typer
from typer.core import TyperGroup

from hotpix_registry.cli import app
from tests.cli.conftest import Hotpix


def walk(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from walk(child, (*path, name))


COMMANDS = {" ".join(path): command for path, command in walk(typer.main.get_command(app)) if path}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_shows_an_example(name: str) -> None:
    command = COMMANDS[name]
    assert getattr(command, "help", None)
    assert f"hotpix-registry {name}" in (getattr(command, "epilog", None) or "")


def test_help_works_in_both_spellings_under_a_broken_address(hotpix: Hotpix) -> None:
    broken = replace(hotpix.on("oracle://nowhere"), from_scratch=True)
    short = broken("ingest", "-h").ended_with(0)
    assert short.out == broken("ingest", "--help").ended_with(0).out
    assert "hotpix-registry ingest -r /data/darks" in short.out
    assert "ingest" in broken("--help").ended_with(0).out
    assert broken("--version").ended_with(0).out.count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("masks", "--no-such-option"), "--no-such-option"),
        (("no-such-command",), "no-such-command"),
        (("mask", "--camera", "x"), "--date"),
        (("show", "one"), "ID"),
        (("ingest", "--type", "galaxy", "x"), "galaxy"),
        (("masks", "--format", "xml"), "xml"),
    ],
)
def test_what_is_no_command_is_a_usage_error(hotpix: Hotpix, arguments: tuple[str, ...], words: str) -> None:
    assert hotpix(*arguments).ended_with(2, words).out == ""


def test_a_terminal_without_our_letters_is_no_crash(stocked: Hotpix) -> None:
    poor = replace(stocked.with_settings(PYTHONIOENCODING="ascii"), from_scratch=True)
    assert "smallcam-48 at -10 " in poor("masks").ended_with(0).out


def test_an_interrupted_pipe_is_no_crash(stocked: Hotpix) -> None:
    with stocked.start("frames", "--format", "json") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err
