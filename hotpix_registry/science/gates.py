"""Quality gates: what a mask must pass before it may serve without a person's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ, USUAL_BOUNDS, GateBounds, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate found, and what it wanted."""

    name: str
    passed: bool
    found: str
    wanted: str


def judge(
    dq: NDArray[np.uint16],
    report: Mapping[str, Any],
    *,
    rule: Rule = Rule.EVIDENCE,
    previous_dq: NDArray[np.uint16] | None = None,
    pixels: int | None = None,
    bounds: GateBounds = USUAL_BOUNDS,
) -> list[GateResult]:
    """Pass or refuse a detection; a gate that cannot be judged is left out.

    Parameters
    ----------
    dq, previous_dq : (ny, nx) uint16
        Data quality of this detection, and of the previous mask of the series made by the same rule
        from the same exposures.
    pixels : int, optional
        Of the frame, where `dq` and `previous_dq` (n,) hold those pixels alone that either flags.
    report : mapping
        `Detection.report`.
    rule : Rule
        The recipe's; z-scores are judged only where they decide which pixels are masked.
    """
    bad = (dq & DQ.BAD.value) != 0
    flagged = int(bad.sum()) / (pixels or bad.size)
    results = [
        GateResult(
            name="flagged fraction",
            passed=flagged <= bounds.max_flagged_fraction,
            found=f"{flagged:.3%}",
            wanted=f"at most {bounds.max_flagged_fraction:.3%}",
        )
    ]
    groups: Sequence[Mapping[str, Any]] = report.get("groups", ())
    if groups:
        fewest = min(groups, key=lambda group: group["exposures"])
        results.append(
            GateResult(
                name="frames per exposure",
                passed=fewest["exposures"] >= bounds.min_frames,
                found=f"{fewest['exposures']} of {fewest['exptime_s']:g} s",
                wanted=f"at least {bounds.min_frames}",
            )
        )
    z_sd = report.get("z_sd")
    if z_sd is not None and rule in (Rule.EVIDENCE, Rule.EVIDENCE_AND_LIMIT):
        low, high = bounds.z_sd
        results.append(
            GateResult(
                name="z-score spread",
                passed=low <= z_sd <= high,
                found=f"{z_sd:.3f}",
                wanted=f"{low:g} to {high:g}",
            )
        )
    offsets = [group["temperature_k"] for group in groups if group.get("temperature_k") is not None]
    offsets += [
        frame["temperature_k"]
        for group in groups
        for frame in group.get("frames", ())
        if frame.get("temperature_k") is not None and frame.get("used", True)
    ]
    if offsets:
        spread = max(offsets) - min(offsets)
        results.append(
            GateResult(
                name="temperature spread",
                passed=spread <= bounds.max_temperature_spread_k,
                found=f"{spread:.2f} K",
                wanted=f"at most {bounds.max_temperature_spread_k:g} K",
            )
        )
    if previous_dq is not None:
        results += _against(bad, (previous_dq & DQ.BAD.value) != 0, bounds)
    return results


def _against(bad: NDArray[np.bool_], before: NDArray[np.bool_], bounds: GateBounds) -> list[GateResult]:
    if bad.shape != before.shape:
        found = f"{bad.shape[1]} x {bad.shape[0]}"
        wanted = f"{before.shape[1]} x {before.shape[0]}, as the previous mask"
        return [GateResult(name="shape", passed=False, found=found, wanted=wanted)]
    overlap = jaccard(bad, before)
    now, then = int(bad.sum()), int(before.sum())
    ratio = now / then if then else (1.0 if now == 0 else float("inf"))
    low, high = bounds.count_ratio
    return [
        GateResult(
            name="overlap with the previous mask",
            passed=overlap >= bounds.min_jaccard,
            found=f"{overlap:.3f}",
            wanted=f"at least {bounds.min_jaccard:g}",
        ),
        GateResult(
            name="count against the previous mask",
            passed=low <= ratio <= high,
            found=f"{now} against {then}",
            wanted=f"{low:g} to {high:g} times",
        ),
    ]


def jaccard(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Pixels in both over pixels in either; 1 for two empty masks."""
    either = int(np.sum(a | b))
    return int(np.sum(a & b)) / either if either else 1.0
