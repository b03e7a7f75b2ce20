"""Whether the mask from even frames is the mask from odd frames: our rules beside fixed cuts.

Simulated cameras, and the real darks of an STL-1001 and an ST-7 where they lie beside the checkout. Any
level of dark current that passes where few pixels lie repeats itself, whatever the mask is worth. So
like is compared with like: a fixed cut is set to flag as many pixels as our rule, once on the dark
current and once on what our rule judges by, the difference of two dark currents; and where the truth is
known, it is counted how many of the bad pixels both halves found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.science.detection import detect
from hotpix_registry.science.gates import jaccard
from hotpix_registry.science.inputs import ArrayRows, DarkFrame, Detector, ExposureGroup
from hotpix_registry.simulate import SimulatedCamera
from tests.benchmarks.peers import DarkStack

REAL_DARKS = Path(__file__).parents[3] / "shared" / "data" / "darks"
_STL_1001 = Detector(gain_e_per_adu=2.06)
_ST_7 = Detector(gain_e_per_adu=2.55)

FIXED_E_PER_S = (1.0, 4.0, 10.0, 20.0)

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Numbers = dict[str, float | None]

COLUMNS: Mapping[str, tuple[str, str]] = {
    "flagged": ("flagged", ".0f"),
    "halves agree (Jaccard)": ("jaccard", ".3f"),
    "cut on dark current, same number": ("same_number_dark_current", ".3f"),
    "cut on difference, same number": ("same_number_difference", ".3f"),
    "bad found by both halves": ("found_by_both", ".1%"),
    "by both cuts on dark current": ("found_by_both_dark_current", ".1%"),
    "by both cuts on difference": ("found_by_both_difference", ".1%"),
}
"""title → (key, format) of the numbers of `compare_halves`"""


@dataclass(frozen=True, kw_only=True)
class Darks:
    """Darks to be halved; sets of a single frame are in both halves, as are the biases."""

    name: str
    groups: Sequence[ExposureGroup]
    detector: Detector
    biases: ExposureGroup | None = None
    rules: Sequence[Rule] = (Rule.EVIDENCE_AND_LIMIT, Rule.EVIDENCE)
    bad: Mask | None = None
    """what subtracting a dark cannot repair, where that is known"""

    def half(self, which: int) -> list[ExposureGroup]:
        return [
            dataclasses.replace(group, frames=group.frames[which::2]) if len(group.frames) > 1 else group
            for group in self.groups
        ]


def real_darks(folder: Path = REAL_DARKS) -> list[Darks]:
    """Return what can be halved of the real darks; nothing where they are not at hand."""
    if not folder.is_dir():
        return []
    stl, st7 = folder / "stl1001_2017", folder / "st7_2019"
    sixty = _read(60.0, [*stl.glob("darks-expos1-Neg5-*"), *stl.glob("darks-expos60s-Neg5-*")])
    others = [_read(t, stl.glob(f"darks-expos{t:g}s-Neg5-*")) for t in (10.0, 30.0, 300.0)]
    biases = _read(0.0, stl.glob("biases-Neg5-*"))
    five = dataclasses.replace(sixty, frames=sixty.frames[:5])
    default = (Rule.EVIDENCE_AND_LIMIT,)
    return [
        Darks(
            name="STL-1001, 6 × 60 s halved; single 10, 30, 300 s and biases in both",
            groups=[sixty, *others],
            detector=_STL_1001,
            biases=biases,
            rules=default,
        ),
        Darks(
            name="STL-1001, 5 × 60 s halved; single 10, 30, 300 s and biases in both",
            groups=[five, *others],
            detector=_STL_1001,
            biases=biases,
            rules=default,
        ),
        Darks(
            name="STL-1001, 6 × 60 s halved, nothing in both",
            groups=[sixty],
            detector=_STL_1001,
            rules=(Rule.CUTOFF,),
        ),
        Darks(
            name="ST-7, 5 × 120, 300, 900 s halved, nothing in both",
            groups=[_read(t, st7.glob(f"*D{t:g}s*")) for t in (120.0, 300.0, 900.0)],
            detector=_ST_7,
        ),
    ]


def simulated_darks(size: int, seeds: Sequence[int]) -> Iterator[Darks]:
    """Take twice five and twice ten frames of each exposure with cameras of known truth."""
    for n in (5, 10):
        for seed in seeds:
            camera = SimulatedCamera.create((size, size), seed)
            yield Darks(
                name=f"simulated, {2 * n} × 90 and 1000 s halved, nothing in both",
                groups=[camera.group(t, 2 * n) for t in (90.0, 1000.0)],
                detector=camera.detector,
                bad=camera.truth.uncorrectable([90.0, 1000.0], with_bias=False, across_epochs=False),
            )


def compare_halves(everyone: Iterable[Darks]) -> dict[str, list[Numbers]]:
    """Return what each rule's halves have in common; darks of one name are runs of one row."""
    results: dict[str, list[Numbers]] = {}
    for darks in everyone:
        for rule, numbers in _compare(darks):
            results.setdefault(f"{darks.name}: {rule}", []).append(numbers)
    return results


def _compare(darks: Darks) -> Iterator[tuple[str, Numbers]]:
    halves = [darks.half(which) for which in (0, 1)]
    rates = [_dark_current(half, darks) for half in halves]
    differences = [_difference(half, darks) for half in halves] if len(darks.groups) > 1 else None
    for rule in darks.rules:
        found = [detect(half, darks.detector, Recipe(rule=rule), biases=darks.biases) for half in halves]
        ours = [(each.dq & DQ.BAD.value) != 0 for each in found]
        numbers = _agreement(ours, darks.bad)
        for name, planes in (("dark_current", rates), ("difference", differences)):
            cut = None if planes is None else _agreement(_cut(planes, ours), darks.bad)
            numbers[f"same_number_{name}"] = None if cut is None else cut["jaccard"]
            numbers[f"found_by_both_{name}"] = None if cut is None else cut["found_by_both"]
        yield f"our {rule}", numbers
    for level in FIXED_E_PER_S:
        yield f"dark current > {level:g} e-/s", _agreement([rate > level for rate in rates], darks.bad)


def _agreement(masks: Sequence[Mask], bad: Mask | None) -> Numbers:
    even, odd = masks
    return {
        "flagged": float(even.sum() + odd.sum()) / 2,
        "jaccard": jaccard(even, odd),
        "found_by_both": None if bad is None else float((even & odd)[bad].mean()),
    }


def _read(exptime_s: float, paths: Iterable[Path]) -> ExposureGroup:
    frames = []
    for path in sorted(paths):
        pixels = fits.getdata(path, memmap=False).astype(np.uint16)
        frames.append(DarkFrame(rows=ArrayRows(pixels), name=path.name))
    return ExposureGroup(exptime_s=exptime_s, frames=tuple(frames))


def _dark_current(half: Sequence[ExposureGroup], darks: Darks) -> Plane:
    """Dark current of the shortest exposure that was halved [e-/s], as the guide cuts it."""
    halved = [group for group in half if len(group.frames) > 1] or list(half)
    return _excess(min(halved, key=lambda group: group.exptime_s), darks)


def _difference(half: Sequence[ExposureGroup], darks: Darks) -> Plane:
    """Difference of dark currents between the same exposure and the longest one, without sign."""
    longest = max(half, key=lambda group: group.exptime_s)
    return np.abs(_dark_current(half, darks) - _excess(longest, darks))


def _excess(group: ExposureGroup, darks: Darks) -> Plane:
    charge = DarkStack(group, darks.detector).master
    if darks.biases is not None:
        charge = charge - DarkStack(darks.biases, darks.detector).master
    return (charge - np.median(charge)) / np.float32(group.exptime_s)


def _cut(planes: Sequence[Plane], like: Sequence[Mask]) -> list[Mask]:
    """Cut both planes at the one level above which they hold as many pixels as `like` together."""
    values = np.concatenate([plane.ravel() for plane in planes])
    rank = values.size - 1 - sum(int(mask.sum()) for mask in like)
    level = np.partition(values, rank)[rank]
    return [plane > level for plane in planes]
