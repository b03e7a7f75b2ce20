"""The story that the README tells, run from the README's own words."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Done, Hotpix
from tests.documentation import section

STORY = section("A story")


def commands() -> list[tuple[list[str], str]]:
    """Each command of the story, and the error that the README shows for it."""
    lines = [
        line for block in re.findall(r"```console\n(.*?)```", STORY, re.S) for line in block.splitlines()
    ]
    told: list[tuple[list[str], str]] = []
    for line in lines:
        if line.startswith("$ "):
            told.append((shlex.split(line[2:])[1:], ""))
        else:
            told[-1] = (told[-1][0], line)
    return told


def test_the_story_of_the_readme_is_true(hotpix: Hotpix) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", STORY, re.S)
    subprocess.run([sys.executable, "-c", script], cwd=hotpix.cwd, env=hotpix.environment, check=True)
    done: list[Done] = []
    receipt = ""
    for words, error in commands():
        if "--receipt" in words:
            words = ["mask", "--receipt", receipt]
        done.append(hotpix(*words))
        if error:
            begin = error.partition("…")[0]
            assert begin in done[-1].err, done[-1]
        else:
            done[-1].ended_with(0)
        if "json" in words:
            receipt = done[-1].json["receipt"]
    served = [one for one in done if one.command[0] == "mask" and one.code == 0]
    first, after_warm_up, revoked, replayed, released = served
    assert replayed.out == released.out == first.json["path"] + "\n"
    assert after_warm_up.out == revoked.out != replayed.out
    assert "This mask is revoked" in revoked.err
    assert [one.code for one in done if one.code] == [1, 4]
    assert Path(replayed.out.strip()).is_file()
