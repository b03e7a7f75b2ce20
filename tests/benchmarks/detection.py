"""How many bad pixels are found, and how many good ones are lost, on cameras with known truth.

    python -m tests.benchmarks.detection [--size 1024] [--seeds 5] [--json FILE]

Four tables: ours beside the rules of others on the reference camera; ours by kind of pixel; ours
under disturbances; ours and fixed cuts from even and from odd frames, real ones too where they are at
hand. Every number also goes to benchmark-detection.json. "Found" and "pure" are as in the reference: of
the pixels that subtracting a dark cannot repair; "aside" leaves the doubtful ones out of the purity.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.errors import HotpixError
from hotpix_registry.science.detection import Detection, detect
from hotpix_registry.science.inputs import ExposureGroup
from hotpix_registry.simulate import REFERENCE_TEMP_C, Population, SimulatedCamera
from tests.benchmarks import halves
from tests.benchmarks.peers import RULES, Darks, DarkStack

Numbers = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One way of taking darks with one kind of camera, and what is believed of it."""

    name: str
    rule: Rule = Rule.EVIDENCE
    traits: Mapping[str, Any] = field(default_factory=dict)
    darks: Mapping[float, int] = field(default_factory=lambda: {90.0: 10, 1000.0: 20})
    n_biases: int = 0
    short_warmer_c: float = 0.0
    jitter_c: float = 0.0
    gain_factor: float = 1.0
    read_noise_factor: float = 1.0

    def camera(self, size: int, seed: int) -> SimulatedCamera:
        return SimulatedCamera.create((size, size), seed, **self.traits)

    def take(self, camera: SimulatedCamera) -> tuple[list[ExposureGroup], ExposureGroup | None]:
        """Take the darks; those of the shortest of several exposures in another epoch, perhaps warmer."""
        groups = []
        for exptime_s, n_frames in self.darks.items():
            apart = len(self.darks) > 1 and exptime_s == min(self.darks)
            groups.append(
                camera.group(
                    exptime_s,
                    n_frames,
                    temperature_c=REFERENCE_TEMP_C + (self.short_warmer_c if apart else 0),
                    jitter_c=self.jitter_c,
                    epoch=int(apart),
                )
            )
        return groups, camera.group(0, self.n_biases) if self.n_biases else None


OURS = (
    Scenario(name="ours, evidence"),
    Scenario(name="ours, evidence+limit", rule=Rule.EVIDENCE_AND_LIMIT),
    Scenario(name="ours, evidence, with 20 biases", n_biases=20),
    Scenario(name="ours, evidence, biases and 300 s", n_biases=20, darks={90.0: 10, 300.0: 10, 1000.0: 20}),
)

_UNREAD = {"pedestal_adu": 0, "overscan_columns": 0}
DISTURBANCES = (
    Scenario(name="reference"),
    *(Scenario(name=f"{n} × 90 s, {n} × 1000 s", darks={90.0: n, 1000.0: n}) for n in (1, 2, 3, 5, 30)),
    Scenario(name="1 × 90 s, 20 × 1000 s", darks={90.0: 1, 1000.0: 20}),
    Scenario(name="gain 25 % too high", gain_factor=1.25),
    Scenario(name="gain 25 % too low", gain_factor=0.75),
    Scenario(name="read noise 20 % too low", read_noise_factor=0.8),
    Scenario(name="90 s set 1 °C warmer", short_warmer_c=1.0),
    Scenario(name="90 s set 5 °C warmer", short_warmer_c=5.0),
    Scenario(name="0.2 °C jitter between frames", jitter_c=0.2),
    Scenario(name="amplifier glow, 2 e-/s", traits={"glow_e_per_s": 2.0}),
    Scenario(name="14-bit steps", traits={"adc_bits": 14}),
    Scenario(name="12-bit steps", traits={"adc_bits": 12}),
    Scenario(name="no overscan", traits={"overscan_columns": 0}),
    Scenario(name="clamped black level", traits=_UNREAD),
    Scenario(name="fixed pattern 5 ADU", traits={"fixed_pattern_adu": 5.0}),
    Scenario(name="fixed pattern 5 ADU, 20 biases", traits={"fixed_pattern_adu": 5.0}, n_biases=20),
    Scenario(name="onset 1000 e-", traits={"onset_e": 1000.0}),
    Scenario(name="onset 16000 e-", traits={"onset_e": 16_000.0}),
    Scenario(name="all linear", traits={"onset_e": None}),
    Scenario(name="all linear, above the limit", traits={"onset_e": None}, rule=Rule.EVIDENCE_AND_LIMIT),
    Scenario(name="20 × 1000 s alone, cut-off", rule=Rule.CUTOFF, darks={1000.0: 20}),
    Scenario(
        name="the same under glow, 2 e-/s",
        rule=Rule.CUTOFF,
        darks={1000.0: 20},
        traits={"glow_e_per_s": 2.0},
    ),
)


def score(mask: NDArray[np.bool_], camera: SimulatedCamera, scenario: Scenario) -> Numbers:
    """Compare a mask (ny, nx) with the truth."""
    truth, exposures_s = camera.truth, list(scenario.darks)
    bad = truth.uncorrectable(exposures_s, scenario.n_biases > 0, across_epochs=len(exposures_s) > 1)
    doubtful = truth.doubtful(exposures_s, scenario.n_biases > 0)
    hits, flagged = _count(mask & bad), _count(mask)
    return {
        "found": hits / (_count(bad) or 1),
        "pure": hits / (flagged or 1),
        "aside": hits / (_count(mask & ~doubtful) or 1),
        "false_normal": float(_count(mask & truth.normal)),
        "flagged_fraction": flagged / mask.size,
    }


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def found_by_kind(mask: NDArray[np.bool_], camera: SimulatedCamera, scenario: Scenario) -> Numbers:
    """Return the share found of each kind of uncorrectable pixel."""
    truth, exposures_s = camera.truth, list(scenario.darks)
    departure = truth.nonlinearity(exposures_s)
    strength = np.zeros(mask.shape)
    strength.reshape(-1)[truth.telegraph_index] = truth.telegraph_strength(exposures_s)
    kinds = {
        "non-linear 5 to 20 %": (departure > 0.05) & (departure <= 0.2),
        "non-linear > 20 %": departure > 0.2,
        "telegraph 1 to 3 σ": (strength >= 1) & (strength < 3),
        "telegraph > 3 σ": strength >= 3,
        **{
            kind.name.lower(): truth.population == kind
            for kind in (Population.OFFSET, Population.NOISY, Population.STUCK, Population.CHANGED)
        },
    }
    return {name: float(mask[kind].mean()) for name, kind in kinds.items() if kind.any()}


def run_ours(scenario: Scenario, camera: SimulatedCamera) -> tuple[Detection, float]:
    """Detect under what is believed of the camera; return the detection and its time in s."""
    groups, biases = scenario.take(camera)
    truth = camera.detector
    believed = dataclasses.replace(
        truth,
        gain_e_per_adu=truth.gain_e_per_adu * scenario.gain_factor,
        read_noise_e=(truth.read_noise_e or 0) * scenario.read_noise_factor,
    )
    start = time.perf_counter()
    detection = detect(groups, believed, Recipe(rule=scenario.rule), biases=biases)
    return detection, time.perf_counter() - start


def compare_with_peers(size: int, seeds: Sequence[int]) -> dict[str, list[Numbers]]:
    reference = OURS[0]
    results: dict[str, list[Numbers]] = {name: [] for name in RULES}
    for seed in seeds:
        camera = reference.camera(size, seed)
        (short, long), _ = reference.take(camera)
        stacks = [DarkStack(group, camera.detector) for group in (short, long, camera.group(0, 20))]
        darks = Darks(short=stacks[0], long=stacks[1], bias=stacks[2], detector=camera.detector)
        for name, rule in RULES.items():
            results[name].append(score(rule(darks), camera, reference))
    return results


def measure_ours(scenario: Scenario, size: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Run a scenario on every seed; a refusal is a result like any other."""
    runs: list[Numbers] = []
    kinds: list[Numbers] = []
    for seed in seeds:
        camera = scenario.camera(size, seed)
        try:
            detection, seconds = run_ours(scenario, camera)
        except HotpixError as refusal:
            return {"refused": str(refusal)}
        mask = (detection.dq & DQ.BAD.value) != 0
        pair_s = min(scenario.darks), max(scenario.darks)
        runs.append(
            score(mask, camera, scenario)
            | {
                "limit_e_per_s": detection.limit.e_per_s,
                "true_limit_e_per_s": camera.truth.limit_e_per_s(*pair_s),
                "seconds": seconds,
            }
        )
        kinds.append(found_by_kind(mask, camera, scenario))
    return {"runs": runs, "kinds": kinds}


def _range(runs: Sequence[Numbers], key: str, form: str, missing: str = "none") -> str:
    values = [value for run in runs if (value := run.get(key)) is not None]
    if len(values) < len(runs):
        return f"some {missing}" if values else missing
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _print_header(columns: Mapping[str, tuple[str, str]]) -> None:
    print(f"| | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|", flush=True)


def _print_row(
    name: str, result: Mapping[str, Any], columns: Mapping[str, tuple[str, str]], missing: str = "none"
) -> None:
    if "refused" in result:
        cells = [f"refused: {result['refused']}"] + [""] * (len(columns) - 1)
    else:
        cells = [_range(result["runs"], key, form, missing) for key, form in columns.values()]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _print_kinds(results: Mapping[str, Any]) -> None:
    for name, result in results.items():
        kinds = result.get("kinds", [])
        found = (f"{kind} {_range(kinds, kind, '.0%')}" for kind in (kinds[0] if kinds else ()))
        print(f"{name}: {', '.join(found)}")
    print()


_SCORES = {
    "found": ("found", ".1%"),
    "pure": ("pure", ".1%"),
    "aside": ("aside", ".1%"),
    "false among normal": ("false_normal", ".0f"),
}
_DETAILS = {
    **_SCORES,
    "flagged": ("flagged_fraction", ".3%"),
    "limit": ("limit_e_per_s", ".2f"),
    "true limit": ("true_limit_e_per_s", ".2f"),
    "seconds": ("seconds", ".1f"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="pixels along each side")
    parser.add_argument("--seeds", type=int, default=5, help="number of cameras, seeds 1, 2, 3…")
    parser.add_argument(
        "--tables", default="peers,ours,disturbances,halves", help="which of the tables to make"
    )
    parser.add_argument("--only", default="", help="only disturbances whose name contains this")
    parser.add_argument(
        "--json", type=Path, default=Path("benchmark-detection.json"), help="where every number is written"
    )
    arguments = parser.parse_args()
    seeds = range(1, arguments.seeds + 1)
    tables = arguments.tables.split(",")
    results: dict[str, Any] = {"size": arguments.size, "seeds": list(seeds)}

    print(f"{arguments.size} × {arguments.size}, 10 × 90 s and 20 × 1000 s, {arguments.seeds} seeds\n")
    if "peers" in tables:
        results["peers"] = compare_with_peers(arguments.size, seeds)
        _print_header(_SCORES)
        for name, runs in results["peers"].items():
            _print_row(name, {"runs": runs}, _SCORES)
        print()
    for table, scenarios in (("ours", OURS), ("disturbances", DISTURBANCES)):
        if table not in tables:
            continue
        results[table] = {}
        _print_header(_DETAILS)
        for scenario in scenarios:
            if arguments.only in scenario.name:
                result = measure_ours(scenario, arguments.size, seeds)
                results[table][scenario.name] = result
                _print_row(scenario.name, result, _DETAILS)
        print()
        if table == "ours":
            _print_kinds(results[table])
    if "halves" in tables:
        everyone = [*halves.real_darks(), *halves.simulated_darks(arguments.size, seeds)]
        results["halves"] = halves.compare_halves(everyone)
        _print_header(halves.COLUMNS)
        for name, runs in results["halves"].items():
            _print_row(name, {"runs": runs}, halves.COLUMNS, missing="")
        if len(everyone) == 2 * len(seeds):
            print(f"\nThe real darks ({halves.REAL_DARKS}) are not at hand.")
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
