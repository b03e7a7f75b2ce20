"""Rolling out a recipe on the command line: what is printed, and what is refused."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Hotpix

ASKED = ("current", "limit=10", "--camera", "smallcam-48")
WHY = ("--reason", "one limit for all")


def test_a_recipe_is_compared_rolled_out_and_taken_back(stocked: Hotpix) -> None:
    found = stocked("recipe", "diff", *ASKED).ended_with(0, "--expect 3 --reason …` makes it so.")
    assert "mask 2 instead of mask 1" in found.out
    assert found.out.endswith(
        "All together: 1 campaign (1 changed), 6 pixels masked before and 4 after (0 new, 2 vanished), "
        "1 interval of dates.\n"
    )
    told = stocked("recipe", "diff", *ASKED, "--format", "json").ended_with(0).json
    assert (told["tx"], told["built"], told["total"]["vanished"]) == (3, 0, 2)
    assert (told["campaigns"][0]["before"], told["campaigns"][0]["jaccard"]) == (1, 0.6667)
    stocked("recipe", "rollout", *ASKED, "--expect", "2", *WHY).refused(1, "has moved since transaction 2")
    stocked("recipe", "rollout", *ASKED, "--expect", "3", *WHY).ended_with(
        0, "recipe rollback 4", "--as-of 3"
    )
    stocked("recipe", "rollout", *ASKED, *WHY).ended_with(0, "nothing was written")
    back = stocked("recipe", "rollback", "4", *WHY).ended_with(0)
    assert "mask 1 instead of mask 2" in back.out


def test_numbers_are_changed_in_a_file(stocked: Hotpix) -> None:
    numbers = stocked("recipe", "show", "evidence").ended_with(0).out
    mine = stocked.cwd / "mine.toml"
    mine.write_text(numbers.replace("tolerance = 0.05", "tolerance = 0.1"))
    assert stocked("recipe", "show", mine, "--format", "json").json["tolerance"] == 0.1
    told = stocked("recipe", "diff", "current", mine, "--all", "--format", "json").ended_with(0).json
    assert told["new"]["numbers"]["tolerance"] == 0.1
    assert stocked("show", "2", "--format", "json").json["recipe"]["tolerance"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("diff", "current", "limit=10"), "Give --camera NAME, or --all."),
        (("diff", "current", "limit=10", "--all", "--camera", "smallcam-48"), "Which cameras are meant"),
        (("diff", "current", "evidense", "--all"), "Did you mean evidence?"),
        (("diff", "limit=10", "current", "--all"), "Name another recipe as the new one."),
        (("diff", "none", "none", "--all"), "Both recipes are none."),
        (("diff", "current", "none", "--camera", "smalcam"), "There is no camera smalcam."),
        (("rollout", *ASKED, "--reason", " "), "A rollout needs a reason."),
        (("rollback", "1", *WHY), "Transaction 1 is no rollout."),
        (("show", "current"), "'current' means more than one recipe."),
    ],
)
def test_what_cannot_be_meant_is_refused(stocked: Hotpix, arguments: tuple[str, ...], words: str) -> None:
    stocked("recipe", *arguments).refused(2, words)
