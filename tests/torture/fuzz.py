"""Readers fed with hostile input: `python -m tests.torture.fuzz TARGET --inputs N --minutes M --seed S`.

Where atheris is installed (the extra `fuzz`; it has wheels for Linux) the inputs are guided by the code
that they reach, in a process of its own with bounded memory; elsewhere they are seeds at random changed.
Anything that a reader raises but a HotpixError, a hang, and memory beyond the bound are faults.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hotpix_registry.errors import HotpixError
from tests.torture.table import Row, render
from tests.torture.targets import TARGETS
from tests.torture.targets.target import Target

MEMORY_MB = 1024
"""what a reader may take beyond what the process has when it begins"""
HANG_S = 20
_ROUND = 100


@dataclass(slots=True)
class Tally:
    """How a reader fared: inputs tried, and how often each fault showed."""

    tried: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, bytes] = field(default_factory=dict)
    note: str = ""

    def add(self, fault: str, data: bytes) -> None:
        self.faults[fault] += 1
        self.examples.setdefault(fault, data)

    def row(self, target: Target) -> Row:
        lost = self.faults.total()
        note = "; ".join([self.note, *(f"{times} x {fault}" for fault, times in self.faults.most_common())])
        return Row(f"hostile input: {target.what}", self.tried, self.tried - lost, lost, note.strip("; "))


def run(
    names: Sequence[str] = tuple(TARGETS),
    *,
    inputs: int = 1_000_000,
    minutes: float = 20.0,
    seed: int = 1,
    keep: Path | None = None,
    guided: bool | None = None,
) -> list[Row]:
    """Feed each reader with so many inputs, or for so long, whichever ends first.

    Parameters
    ----------
    keep
        folder for the input that showed each fault first
    guided
        by coverage or at random; None: by coverage where atheris is installed
    """
    if guided is None:
        guided = importlib.util.find_spec("atheris") is not None
    feed = feed_guided if guided else feed_random
    rows = []
    for name in names:
        tally = feed(TARGETS[name], inputs=inputs, minutes=minutes, seed=seed)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for number, (fault, data) in enumerate(tally.examples.items()):
                (keep / f"{name}-{seed}-{number}").write_bytes(data)
                (keep / f"{name}-{seed}-{number}.txt").write_text(fault, encoding="utf-8")
        rows.append(tally.row(TARGETS[name]))
    return rows


def fault_of(target: Target, data: bytes, folder: Path) -> str:
    """What went wrong with an input, '' if nothing did: the exception and where it was raised."""
    try:
        target.feed(data, folder)
    except HotpixError as error:
        return "" if error.message.strip() else f"{type(error).__name__} without a sentence"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "hotpix_registry" in frame.filename] or frames
        places = (f"{Path(frame.filename).name}:{frame.lineno}" for frame in (ours[-1], frames[-1]))
        where = " → ".join(dict.fromkeys(places))
        # without its message, whose numbers would make a fault of their own of each input
        return f"{type(error).__name__} at {where}"
    return ""


def feed_random(target: Target, *, inputs: int, minutes: float, seed: int) -> Tally:
    """Seeds, and seeds changed at random; the same for the same seed as long as time does not end it."""
    rng = random.Random(seed)
    seeds = target.seeds()
    tally = Tally(note="at random")
    ends = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder, strict_warnings():
        while tally.tried < inputs and (tally.tried % _ROUND or time.monotonic() < ends):
            data = seeds[tally.tried % len(seeds)]
            for _ in range(min(tally.tried // len(seeds), rng.randrange(1, 5))):
                data = target.mutate(data, rng)[: target.longest]
            tally.tried += 1
            if fault := fault_of(target, data, Path(folder)):
                tally.add(fault, data)
    return tally


def strict_warnings() -> warnings.catch_warnings[None]:
    """A number that overflows unseen is a fault; what astropy warns of is for its user."""
    caught: warnings.catch_warnings[None] = warnings.catch_warnings(action="error", category=RuntimeWarning)
    return caught


def feed_guided(target: Target, *, inputs: int, minutes: float, seed: int) -> Tally:
    """Inputs guided by coverage, in a process of its own; after a crash or a hang another goes on."""
    tally = Tally(note="by coverage")
    ends = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(target.seeds()):
            (corpus / f"seed-{number}").write_bytes(data)
        words = ['"' + re.sub(r"..", r"\\x\g<0>", word[:64].hex()) + '"' for word in target.words if word]
        (folder / "words").write_text("\n".join(["# words", *words, ""]), encoding="ascii")
        while tally.tried < inputs and (left_s := ends - time.monotonic()) > 1:
            before = tally.tried
            _one_process(target, folder, tally, inputs - tally.tried, left_s, seed)
            seed += 1
            if tally.tried == before:
                tally.note += ", ended by a process that did not begin"
                break
    return tally


def _one_process(target: Target, folder: Path, tally: Tally, inputs: int, left_s: float, seed: int) -> None:
    found = folder / "faults"
    found.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "tests.torture.guided", target.name, str(folder)),
        *(f"-runs={inputs}", f"-max_total_time={max(1, int(left_s))}", f"-seed={seed}"),
        *(
            f"-max_len={target.longest}",
            f"-timeout={HANG_S}",
            "-report_slow_units=99",
            "-rss_limit_mb=0",
            "-print_final_stats=1",
        ),
        *(f"-artifact_prefix={folder}/lost-", f"-dict={folder}/words", str(folder / "corpus")),
    ]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    log = done.stderr.decode(errors="replace")
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    last = re.findall(r"^#(\d+)\t", log, re.MULTILINE)
    tally.tried += int(executed[1]) if executed else max(map(int, last), default=0)
    if found.exists():
        for line in found.read_text(encoding="utf-8").splitlines():
            fault = json.loads(line)
            tally.add(fault["fault"], bytes.fromhex(fault["input"]))
    lost = sorted(folder.glob("lost-*"))
    for path in lost:
        what = "hang" if path.name.startswith("lost-timeout") else "crash of the process"
        tally.add(what, path.read_bytes())
        path.unlink()
    if done.returncode and not lost:
        tally.add(f"process ended with {done.returncode}: {' '.join(log[-300:].split())}", b"")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all of them")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=20.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that showed a fault")
    parser.add_argument("--at-random", action="store_true", help="without coverage")
    given = parser.parse_args()
    for name in given.targets:
        if name not in TARGETS:
            parser.error(f"{name} is none of {', '.join(TARGETS)}")
    rows = run(
        given.targets or tuple(TARGETS),
        inputs=given.inputs,
        minutes=given.minutes,
        seed=given.seed,
        keep=given.keep,
        guided=False if given.at_random else None,
    )
    print(render(rows))
    sys.exit(any(row.lost for row in rows))


if __name__ == "__main__":
    main()
