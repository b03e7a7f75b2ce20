"""Answers that a client keeps: how many, and which go first."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hotpix_registry.client import kept

ASKED = [f"{number:064x}".replace("0", "a", 2) for number in range(kept.MOST_KEPT // 256 + 40)]
"""keys that share a folder"""


def answers(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.json"))


def test_so_many_answers_are_kept_and_those_go_that_were_not_given_for_longest(tmp_path: Path) -> None:
    full = kept.MOST_KEPT // 256
    for number, key in enumerate(ASKED[:full]):
        kept.keep(tmp_path, key, {"number": number})
        (path,) = tmp_path.rglob(f"{key}.json")
        os.utime(path, (time.time() - 1e6 + number,) * 2)  # each was last given a second after the one before
    assert answers(tmp_path) == full
    assert kept.find(tmp_path, ASKED[0]) is not None  # now it was given a moment ago
    for key in ASKED[full:]:
        kept.keep(tmp_path, key, {"number": -1})
        assert answers(tmp_path) <= full
    assert kept.find(tmp_path, ASKED[0]) is not None
    assert kept.find(tmp_path, ASKED[1]) is None
    assert kept.find(tmp_path, ASKED[full - 1]) is not None
    assert all(kept.find(tmp_path, key) is not None for key in ASKED[full:])


def test_one_folder_does_not_empty_another(tmp_path: Path) -> None:
    kept.keep(tmp_path, "b" * 64, {"number": 1})
    (path,) = tmp_path.rglob("*.json")
    os.utime(path, (1, 1))
    for key in ASKED:
        kept.keep(tmp_path, key, {"number": -1})
    assert kept.find(tmp_path, "b" * 64) is not None


def test_what_cannot_be_swept_stands_in_nobodys_way(tmp_path: Path) -> None:
    folder = tmp_path / "answers" / "aa"
    for number in range(kept.MOST_KEPT // 256 + 1):
        (folder / f"{number}").mkdir(parents=True)
    kept.keep(tmp_path, ASKED[0], {"number": 1})
    assert kept.find(tmp_path, ASKED[0]) is not None
