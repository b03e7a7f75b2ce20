"""The facts of a report: numbers that are stored with a mask, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.cameras import CameraProfile
from hotpix_registry.domain import DQ, DQ_DESCRIPTIONS, Rule

Facts = dict[str, Any]
Numbers = Mapping[str, NDArray[Any]]
Plane = NDArray[np.uint16]

_COPIED = (
    *("mask_id", "version", "camera", "series", "status", "valid", "first_night", "last_night"),
    *("exposures_tested_s", "rule", "flagged", "pixels", "sha256", "build_key", "algorithm_version"),
    *("recipe", "software", "built", "actor", "host", "reason", "profile_digest"),
)
_TEST_BEHIND = {
    "DARK_NONLINEAR": "difference",
    "UNSTABLE": "in_time",
    "PEDESTAL": "pedestal",
    "STUCK": "stuck",
}
_CELLS_ACROSS = 48
_BLOCKS = 8


def gather(
    details: Mapping[str, Any],
    numbers: Numbers,
    dq: Plane,
    other: Mapping[str, Any] | None,
    other_dq: Plane | None,
) -> Facts:
    """All that a report tells, ready for JSON; what is not known is None or empty.

    Imported masks know neither limit nor z-scores, and builds of older versions may know less than
    today's.
    """
    report = details["report"]
    facts: Facts = {name: details[name] for name in _COPIED}
    facts |= {
        "flagged_fraction": details["flagged"] / details["pixels"],
        "flags": _flags(details, dq),
        "gates": list(report.get("gates", ())),
        "warnings": list(details["warnings"]),
        "limit": _limit(report, details, numbers),
        "thresholds": _thresholds(numbers, dq.size),
        "expected_false_flags": _expected_false_flags(details, dq),
        "bias_method": report.get("bias_method"),
        "bulk_e_per_s": report.get("bulk_e_per_s"),
        "noise": _noise(report.get("noise") or {}, details),
        "groups": [_group(group) for group in _groups(report)],
        "z": _z_scores(report, numbers),
        "line": report.get("line"),
        "map": _map(dq),
        "inputs": _inputs(details["inputs"], report),
        "masks": list(report.get("masks", ())),
        "left_out": [
            {"name": frame["name"], "reason": frame.get("reason")}
            for group in _groups(report)
            for frame in group.get("frames", ())
            if not frame.get("used", True)
        ],
        "comparison": None if other is None or other_dq is None else _compare(details, dq, other, other_dq),
    }
    return facts | {"verdict": _verdict(facts)}


def _groups(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Groups of frames, the biases first."""
    biases = report.get("biases")
    return [*([biases] if biases else []), *report.get("groups", ())]


# --- the verdict ----------------------------------------------------------------------


def _verdict(facts: Facts) -> dict[str, Any]:
    """Whether to trust the mask: a failed gate forbids it, a warning asks for a look."""
    failed = [gate for gate in facts["gates"] if not gate["passed"]]
    reasons = [
        f"The gate '{gate['name']}' failed: it found {gate['found']} and wanted {gate['wanted']}."
        for gate in failed
    ]
    doubts = list(facts["warnings"])
    if facts["status"] == "revoked":
        reasons.append("It was revoked.")
    if facts["rule"] == Rule.IMPORT:
        doubts.append(
            "It was imported: its pixels were decided elsewhere, and nothing here can confirm them."
        )
    elif not facts["gates"]:
        doubts.append("No quality gate was applied to it.")
    if facts["status"] == "candidate" and not failed:
        doubts.append("It is a candidate: it waits for a person to certify it.")
    if reasons:
        word, sentence = "do not use", "It did not pass its quality gates."
        if facts["status"] == "revoked":
            sentence = "It has been declared unusable."
        elif facts["status"] == "certified":
            sentence += " A person certified it all the same."
    elif doubts:
        plural = "is one thing" if len(doubts) == 1 else f"are {len(doubts)} things"
        passed = "Every gate passed, but there" if facts["gates"] else "There"
        word, sentence = "look at", f"{passed} {plural} to judge before you rely on it."
    else:
        word = "trust"
        n = len(facts["gates"])
        gates = "The one quality gate" if n == 1 else f"All {n} quality gates"
        sentence = f"{gates} passed, and the build had nothing to warn of."
    return {"word": word, "sentence": sentence, "reasons": reasons + doubts}


# --- flags and thresholds --------------------------------------------------------------


def _flags(details: Mapping[str, Any], dq: Plane) -> list[Facts]:
    tests = details["report"].get("tests", {})
    bad = (dq & DQ.BAD.value) != 0
    return [
        {
            "flag": flag.name,
            "value": flag.value,
            "pixels": details["counts"].get(flag.name, 0),
            "masked": int(np.count_nonzero(bad & ((dq & flag.value) != 0))),
            "tested": None if test is None else test == "tested",
            "meaning": DQ_DESCRIPTIONS[flag],
        }
        for flag in DQ
        for test in [tests.get(_TEST_BEHIND.get(str(flag.name), ""))]
    ]


def _limit(report: Mapping[str, Any], details: Mapping[str, Any], numbers: Numbers) -> Facts:
    """The limit with its interval, and how many pixels lie above each of the three."""
    stored = report.get("limit") or {}
    names = ("e_per_s", "low_e_per_s", "high_e_per_s", "charge_e", "exposures_s", "tolerance", "source")
    limit: Facts = {name: stored.get(name) for name in names}
    limit["reason"] = stored.get("reason") or report.get("limit_reason")
    by_cutoff = limit["e_per_s"] is None or details["rule"] == Rule.CUTOFF
    limit["cutoff_e_per_s"] = details["recipe"].get("cutoff_e_per_s") if by_cutoff else None
    limit["cutoff_sigma"] = details["recipe"].get("cutoff_sigma") if by_cutoff else None
    for name in ("e_per_s", "low_e_per_s", "high_e_per_s"):
        limit["pixels_above_" + name.removesuffix("e_per_s") + "limit"] = _pixels_above(numbers, limit[name])
    median = numbers.get("departure_fit", np.zeros(0))
    limit["departure_range"] = [float(median[0]), float(median[-1])] if median.size else None
    return limit


def _curves(numbers: Numbers) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Thresholds, and how many pixels lie above each in the shorter and in the longer exposure."""
    if "hist_edges" not in numbers:
        return None
    short, long = (np.append(np.cumsum(numbers[name][::-1])[::-1], 0) for name in ("hist_short", "hist_long"))
    return numbers["hist_edges"], numbers.get("threshold_counts", short), long


def _pixels_above(numbers: Numbers, rate_e_per_s: float | None) -> int | None:
    """Pixels above a dark current in the shorter exposure, read off the curve between its points."""
    curves = _curves(numbers)
    if curves is None or rate_e_per_s is None or rate_e_per_s <= 0:
        return None
    edges, short, _ = curves
    return round(float(np.interp(math.log(rate_e_per_s), np.log(edges), short)))


def _thresholds(numbers: Numbers, n_pixels: int) -> list[Facts]:
    """Thresholds at powers of two with their counts, from where a tenth of the pixels lies above."""
    curves = _curves(numbers)
    if curves is None:
        return []
    edges, short, long = curves
    single = numbers["short_s"] == numbers["long_s"]
    powers = np.abs(np.log2(edges) - np.round(np.log2(edges))) < 1e-9
    shown = powers & (np.maximum(short, long) > 0) & (np.maximum(short, long) < n_pixels / 10)
    return [
        {
            "above_e_per_s": float(edges[i]),
            "pixels_short": None if single else int(short[i]),
            "pixels_long": int(long[i]),
        }
        for i in np.flatnonzero(shown)
    ]


def _expected_false_flags(details: Mapping[str, Any], dq: Plane) -> float | None:
    """Innocent pixels to expect among those that the tests condemned, by the recipe's two rates."""
    recipe = details["recipe"]
    if "false_discovery_rate" not in recipe or not details["report"].get("tests"):
        return None
    tested = (DQ.DARK_NONLINEAR | DQ.UNSTABLE).value
    n_tested = int(np.count_nonzero(((dq & DQ.BAD.value) != 0) & ((dq & tested) != 0)))
    return float(recipe["bulk_false_flags"] + recipe["false_discovery_rate"] * n_tested) if n_tested else None


# --- what the darks say of themselves ---------------------------------------------------


def _noise(noise: Mapping[str, Any], details: Mapping[str, Any]) -> list[Facts]:
    """Gain and read noise: the profile's, those found in the darks, and those used."""
    sections = None
    if details.get("profile"):
        sections = CameraProfile.from_dict(details["profile"]).sections_on(details["first_night"])
    found = []
    for name, sigma in (
        ("gain_e_per_adu", "measured_gain_sigma"),
        ("read_noise_e", "measured_read_noise_sigma"),
    ):
        profile, measured = getattr(sections, name, None), noise.get(f"measured_{name}")
        expected = profile or (noise.get(name) if name == "gain_e_per_adu" else None)
        found.append(
            {
                "name": name,
                "profile": profile,
                "measured": measured,
                "sigma": noise.get(sigma),
                "used": noise.get(name),
                "difference": measured / expected - 1 if measured and expected else None,
            }
        )
    return found if noise else []


def _group(group: Mapping[str, Any]) -> Facts:
    names = ("exptime_s", "exposures", "frames_used", "frames_rejected", "offset_adu")
    ratios = ("rate_ratio", "rate_ratio_sigma", "temperature_k", "rate_factors_applied")
    used = [frame for frame in group.get("frames", ()) if frame.get("used", True)]
    factors = [frame["rate_factor"] for frame in used if frame.get("rate_factor") is not None]
    kelvins = [frame["temperature_k"] for frame in used if frame.get("temperature_k") is not None]
    return {name: group.get(name) for name in (*names, *ratios)} | {
        "frame_rate_range": [min(factors), max(factors)] if factors else None,
        "frame_spread_k": max(kelvins) - min(kelvins) if kelvins else None,
    }


def _z_scores(report: Mapping[str, Any], numbers: Numbers) -> Facts:
    counts = numbers.get("z_counts", np.zeros(0, np.int64))
    n, beyond = int(counts.sum()), []
    if n:
        # a bin counts as beyond when all of it is
        edges = numbers["z_edges"]
        inner = np.minimum(np.abs(edges[:-1]), np.abs(edges[1:]))
        for sigma in (2, 3, 4, 5):
            found = int(counts[inner >= sigma - 1e-9].sum())
            expected = n * math.erfc(sigma / math.sqrt(2))
            beyond.append({"sigma": sigma, "found": found, "expected": expected})
    return {"sd": report.get("z_sd"), "pixels": n, "beyond": beyond}


def _map(dq: Plane) -> Facts:
    """Masked pixels counted in cells of a drawing, and in the fullest of 8 × 8 blocks."""
    ny, nx = dq.shape
    width = -(-nx // _CELLS_ACROSS)
    y, x = np.nonzero(dq & DQ.BAD.value)
    # letters on a screen are twice as high as wide
    cells = np.zeros((-(-ny // (2 * width)), -(-nx // width)), np.int64)
    np.add.at(cells, (y // (2 * width), x // width), 1)
    high, wide = -(-ny // _BLOCKS), -(-nx // _BLOCKS)
    blocks = np.zeros((-(-ny // high), -(-nx // wide)), np.int64)
    np.add.at(blocks, (y // high, x // wide), 1)
    row, column = (int(i) for i in np.unravel_index(np.argmax(blocks), blocks.shape))
    x0, y0 = column * wide, row * high
    x1, y1 = min(nx, x0 + wide), min(ny, y0 + high)
    return {
        "cell": [width, 2 * width],
        "counts": cells.tolist(),
        "fullest": {
            "x": [x0, x1 - 1],
            "y": [y0, y1 - 1],
            "found": int(blocks[row, column]),
            "expected": y.size * (x1 - x0) * (y1 - y0) / dq.size,
        },
    }


def _inputs(inputs: Iterable[Mapping[str, Any]], report: Mapping[str, Any]) -> list[Facts]:
    """Every input with what the build made of it; a frame may have moved since, its name less often."""
    frames = [frame for group in _groups(report) for frame in group.get("frames", ())]
    by_path = {frame["name"]: frame for frame in frames}
    by_name = {PurePath(frame["name"]).name: frame for frame in frames}
    unique = len(by_name) == len(frames)
    told = []
    for entry in inputs:
        frame = by_path.get(entry["path"]) or (by_name.get(PurePath(entry["path"]).name) if unique else None)
        found = frame or {}
        told.append(
            {
                **entry,
                "used": found.get("used"),
                "left_out": found.get("reason"),
                "rate_factor": found.get("rate_factor"),
                "pedestal_adu": found.get("pedestal_adu"),
            }
        )
    return told


# --- comparison -------------------------------------------------------------------------


def _compare(details: Mapping[str, Any], dq: Plane, other: Mapping[str, Any], other_dq: Plane) -> Facts:
    """Pixels that are new, vanished and common, flag by flag; None where the shapes differ."""
    nights = [date.fromisoformat(mask["first_night"]) for mask in (details, other)]
    told: Facts = {
        name: other[name] for name in ("mask_id", "version", "series", "first_night", "rule", "status")
    }
    told |= {
        "same_series": other["series"] == details["series"],
        "same_recipe": other["recipe"] == details["recipe"],
        "same_exposures": other["exposures_tested_s"] == details["exposures_tested_s"],
        "days_apart": (nights[0] - nights[1]).days,
        "flags": None,
        "jaccard": None,
    }
    if dq.shape != other_dq.shape:
        return told
    flags = []
    for flag in DQ:
        now, then = (dq & flag.value) != 0, (other_dq & flag.value) != 0
        flags.append(
            {
                "flag": flag.name,
                "new": int(np.count_nonzero(now & ~then)),
                "vanished": int(np.count_nonzero(then & ~now)),
                "common": int(np.count_nonzero(now & then)),
            }
        )
    either = int(np.count_nonzero((dq | other_dq) & DQ.BAD.value))
    both = int(np.count_nonzero(dq & other_dq & DQ.BAD.value))
    return told | {"flags": flags, "jaccard": both / either if either else 1.0}
