"""What the documentation promises is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hotpix_registry import errors
from tests.cli.conftest import CHECKOUT
from tests.cli.test_help import COMMANDS
from tests.documentation import PAGES, README, anchors, links, section


def exit_codes() -> dict[int, str]:
    """Each exit code with its meaning."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", section("Exit codes"), re.M)
    return {int(code): meaning for code, meaning in rows}


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
        assert re.search(rf"{group}\b[^\n]*\b{command}\b", PAGES[README]), name
    else:
        assert re.search(rf"`?hotpix-registry {group}\b|`{group}\b", PAGES[README]), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_the_readme_leads_to_every_page() -> None:
    assert {target for target, _ in links(README)} >= PAGES.keys() - {README}


def test_every_promise_names_tests_that_there_are() -> None:
    promises = section("What we promise").split("\n- ")[1:]
    assert len(promises) > 10
    for promise in promises:
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", promise)
        assert named, promise
        for path, name in named:
            assert f"def {name}(" in (CHECKOUT / path).read_text(encoding="utf-8"), name
