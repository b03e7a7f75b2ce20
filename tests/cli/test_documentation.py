"""What the README promises is what the program does."""

from __future__ import annotations

import re

import pytest

from hotpix_registry import errors
from tests.cli.conftest import CHECKOUT
from tests.cli.test_help import COMMANDS

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def exit_codes() -> dict[int, str]:
    """The rows under `| exit code | meaning |`."""
    _, found, after = README.partition("| exit code | meaning |")
    assert found, "README.md has no table headed `| exit code | meaning |`"
    rows = re.match(r"\s*\|[-: |]+\|\n((?:\|.*\|\n?)*)", after)
    assert rows is not None
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]
    return {int(code): meaning for code, meaning, *_ in cells}


def test_the_exit_codes_are_those_of_the_errors() -> None:
    used = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.HotpixError)
    }
    documented = exit_codes()
    assert set(documented) >= used | {0}
    assert set(documented) <= {*range(9), 130}
    assert all(documented.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named(name: str) -> None:
    group, _, command = name.partition(" ")
    if command:
        # `cameras [show NAME | apply FILE | …]` names its commands too
        assert re.search(rf"{group}\b[^\n]*\b{command}\b", README), name
    else:
        assert re.search(rf"`?hotpix-registry {group}\b|`{group}\b", README), name


PROMISES = README.partition("## What we promise")[2].partition("\n## ")[0]


def test_every_promise_names_tests_that_there_are() -> None:
    promises = PROMISES.split("\n- ")[1:]
    assert len(promises) > 10
    for promise in promises:
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", promise)
        assert named, promise
        for path, name in named:
            assert f"def {name}(" in (CHECKOUT / path).read_text(encoding="utf-8"), name
