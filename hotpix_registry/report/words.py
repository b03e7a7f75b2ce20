"""What a report says: its facts as sentences and tables, in plain English with their meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from hotpix_registry.domain import Rule

Facts = Mapping[str, Any]

_RULES: Mapping[str, str] = {
    Rule.EVIDENCE_AND_LIMIT: "what the noise model condemns, and everything above the consistency limit",
    Rule.EVIDENCE: "what the noise model condemns",
    Rule.LIMIT: "everything above the consistency limit, as the astropy guide does",
    Rule.CUTOFF: "everything above a cut-off in dark current",
    Rule.PERSIST: "what earlier masks of the series condemned and has not healed",
    Rule.IMPORT: "what the imported file says",
    Rule.EDIT: "what a person marked",
    Rule.NONE: "nothing, on purpose",
}
_DENSITY = " .:+*#@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    """columns that are set to the right"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading with all that belongs below it; `pictures` are names of `plots.pictures`."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[str, ...] = ()
    drawing: tuple[str, ...] = ()
    """lines of letters that stand in for a picture where there are only letters"""
    folded: bool = False
    """whether a page shows it only when asked"""


def headline(facts: Facts) -> tuple[str, ...]:
    """Which mask it is, and the lines below its name."""
    nights = facts["first_night"]
    if facts["last_night"] != nights:
        nights += f" to {facts['last_night']}"
    valid = [f"{_day(v['from'])} to {_day(v['to'])}" for v in facts["valid"]]
    made = "Imported for" if facts["rule"] == Rule.IMPORT else "From darks of"
    return (
        f"Mask {facts['mask_id']}, version {facts['version']} of {facts['series']}",
        f"{made} {nights}. Status: {facts['status']}; valid: {'; '.join(valid) or 'for no date'}.",
    )


def sections(facts: Facts) -> list[Section]:
    """The report from the most to the least asked for; what is not known is left out."""
    chapters = [
        _masked(facts),
        _gates(facts),
        _comparison(facts),
        _limit(facts),
        _noise(facts),
        _temperature(facts),
        _z_scores(facts),
        _map(facts),
        _inputs(facts),
        _provenance(facts),
    ]
    return [chapter for chapter in chapters if chapter is not None]


# --- the mask -------------------------------------------------------------------------


def _masked(facts: Facts) -> Section:
    fraction = facts["flagged_fraction"]
    share = f"{fraction:.3%}" + (f", one in {1 / fraction:,.0f}" if 0 < fraction < 0.5 else "")
    paragraphs = [
        f"{facts['flagged']:,} of {facts['pixels']:,} pixels are masked ({share}). "
        f"Rule '{facts['rule']}' masks {_RULES.get(facts['rule'], 'what its recipe says')}."
    ]
    if not facts["groups"] and facts["limit"]["reason"]:
        paragraphs.append(facts["limit"]["reason"])
    elif facts["rule"] in (Rule.LIMIT, Rule.EVIDENCE_AND_LIMIT) and facts["limit"]["e_per_s"] is None:
        paragraphs.append("No limit was found, so here what the noise model condemns is all that is masked.")
    if facts["expected_false_flags"] is not None:
        expected = facts["expected_false_flags"]
        are = "is" if round(expected) == 1 else "are"
        paragraphs.append(
            f"About {expected:.0f} of the masked pixels {are} expected to be innocent, by the error rates "
            "that the recipe asked for."
        )
    tested_s = facts["exposures_tested_s"]
    if tested_s:
        span = (
            f"{tested_s[0]:g} s" if tested_s[0] == tested_s[1] else f"{tested_s[0]:g} s to {tested_s[1]:g} s"
        )
        paragraphs.append(f"Tested with exposures of {span}; for science frames outside it is extrapolated.")
    untested = [f["flag"] for f in facts["flags"] if f["tested"] is False and not f["pixels"]]
    if untested:
        paragraphs.append(
            f"Not tested: {', '.join(untested)}. That no pixel carries such a flag says nothing here."
        )
    rows = tuple(
        (
            flag["flag"],
            "not tested" if flag["tested"] is False and not flag["pixels"] else f"{flag['pixels']:,}",
            f"{flag['masked']:,}",
            flag["meaning"],
        )
        for flag in facts["flags"]
    )
    table = Table(headings=("flag", "pixels", "masked", "meaning"), rows=rows, numeric=frozenset({1, 2}))
    paragraphs.append("A pixel may carry several flags; 'masked' counts those that are BAD as well.")
    return Section(title="What is masked", paragraphs=tuple(paragraphs), tables=(table,))


def _gates(facts: Facts) -> Section | None:
    if not facts["gates"]:
        return None
    rows = tuple(
        (gate["name"], "passed" if gate["passed"] else "FAILED", gate["found"], gate["wanted"])
        for gate in facts["gates"]
    )
    warned = f"The build gave {_count(len(facts['warnings']), 'warning')}"
    return Section(
        title="Quality gates",
        paragraphs=(f"{warned}; the verdict above repeats them." if facts["warnings"] else "No warnings.",),
        tables=(Table(headings=("gate", "result", "found", "wanted"), rows=rows),),
    )


def _comparison(facts: Facts) -> Section:
    title = "Compared with another version"
    told = facts["comparison"]
    if told is None:
        return Section(title=title, paragraphs=("This is the first version of its series.",))
    title = f"Compared with mask {told['mask_id']}"
    whose = "the same series" if told["same_series"] else told["series"]
    days = told["days_apart"]
    apart = (
        "the same night" if days == 0 else f"{_count(abs(days), 'day')} {'earlier' if days > 0 else 'later'}"
    )
    paragraphs = [
        f"Mask {told['mask_id']} is version {told['version']} of {whose}, from {told['first_night']} "
        f"({apart}), by rule '{told['rule']}'; it is {told['status']}."
    ]
    made_otherwise = [
        what
        for what, same in (("recipes", "same_recipe"), ("exposure times", "same_exposures"))
        if not told[same]
    ]
    if made_otherwise:
        paragraphs.append(
            f"Their {' and '.join(made_otherwise)} differ: not all of the change is the camera's."
        )
    if told["flags"] is None:
        paragraphs.append("Their pixels cannot be compared: the two have different shapes.")
        return Section(title=title, paragraphs=tuple(paragraphs))
    bad = told["flags"][0]
    jaccard = told["jaccard"]
    verdict = (
        "they are much the same mask"
        if jaccard >= 0.7
        else "part of them is stable, part comes and goes"
        if jaccard >= 0.3
        else "they are different masks"
    )
    paragraphs.append(
        f"{bad['common']:,} pixels are masked in both, {bad['new']:,} are new, {bad['vanished']:,} vanished. "
        f"The overlap (in both over in either) is {jaccard:.3f}: {verdict}."
    )
    rows = tuple((f["flag"], *(f"{f[k]:,}" for k in ("new", "vanished", "common"))) for f in told["flags"])
    table = Table(headings=("flag", "new", "vanished", "common"), rows=rows, numeric=frozenset({1, 2, 3}))
    return Section(title=title, paragraphs=tuple(paragraphs), tables=(table,))


# --- limit and cut-off ------------------------------------------------------------------


def _limit(facts: Facts) -> Section | None:
    thresholds = facts["thresholds"]
    if not facts["groups"]:
        return None
    tables: tuple[Table, ...] = ()
    single = all(line["pixels_short"] is None for line in thresholds)
    if thresholds:
        names = ("pixels_long",) if single else ("pixels_short", "pixels_long")
        heads = ("pixels",) if single else ("shorter exposure", "longer exposure")
        rows = tuple(
            (f"{line['above_e_per_s']:g}", *(f"{line[name]:,}" for name in names)) for line in thresholds
        )
        tables = (Table(headings=("above e-/s", *heads), rows=rows, numeric=frozenset({0, 1, 2})),)
    return Section(
        title="One exposure time: the cut-off" if single and thresholds else "The consistency limit",
        paragraphs=tuple(_limit_sentences(facts)),
        tables=tables,
        pictures=("limit", "departure", "threshold", "histogram", "scatter"),
    )


def _limit_sentences(facts: Facts) -> Iterator[str]:
    limit = facts["limit"]
    if limit["reason"]:
        yield limit["reason"]
    low, high = limit["low_e_per_s"], limit["high_e_per_s"]
    if limit["e_per_s"] is not None and low is not None and high is not None:
        few, many = limit["pixels_above_high_limit"], limit["pixels_above_low_limit"]
        counted = (
            f", which leaves between about {few:,} and {many:,} pixels above it" if few is not None else ""
        )
        yield f"The limit lies between {low:.3g} and {high:.3g} e-/s with 99% confidence{counted}."
    elif limit["source"] == "automatic":
        bound = " from above" if low is not None else " from below" if high is not None else ""
        yield f"The darks do not bound it{bound}: there are too few pixels beyond it. Look at the picture."
    if limit["charge_e"] is not None and limit["exposures_s"]:
        yield (
            f"That is {_g(limit['charge_e'])} e- of charge in {limit['exposures_s'][1]:g} s. It is the "
            "charge that makes pixels fall behind, so compare limits of other exposure times by their charge."
        )
    span = limit["departure_range"]
    if span is not None:
        yield (
            "From the coolest to the hottest pixels compared, the shorter exposure's dark current departs "
            f"by {span[0]:+.1%} to {span[1]:+.1%} from the longer one's."
        )
        if limit["tolerance"] is not None and span[0] < -limit["tolerance"]:
            yield (
                "The coolest pixels should agree. That they do not points to a pedestal or a temperature "
                "that differs between the exposures; look at the picture of the departure."
            )
    cutoff = limit["cutoff_e_per_s"]
    if cutoff is not None:
        hot = next(flag for flag in facts["flags"] if flag["flag"] == "HOT")
        does = "masks" if hot["masked"] == hot["pixels"] else "alone does not mask"
        yield (
            f"HOT here means over {cutoff:g} e-/s, and over {limit['cutoff_sigma']:g} sigma, above the local "
            f"bulk: {hot['pixels']:,} pixels. It {does} a pixel under this rule."
        )


# --- what the darks say of themselves ---------------------------------------------------

_NAMED = {"gain_e_per_adu": "gain, e-/adu", "read_noise_e": "read noise, e-"}


def _noise(facts: Facts) -> Section | None:
    if not facts["noise"]:
        return None
    rows = tuple(
        (
            _NAMED[line["name"]],
            _g(line["profile"]),
            _g(line["measured"]) + ("" if line["sigma"] is None else f" ± {line['sigma']:.2g}"),
            _g(line["used"]),
            "-" if line["difference"] is None else f"{line['difference']:+.1%}",
        )
        for line in facts["noise"]
    )
    table = Table(
        headings=("", "profile", "found in the darks", "used", "found / known"),
        rows=rows,
        numeric=frozenset({1, 2, 3, 4}),
    )
    return Section(
        title="Gain and read noise",
        paragraphs=(
            *map(_noise_sentence, facts["noise"]),
            f"The level without charge came from: {facts['bias_method']}.",
        ),
        tables=(table,),
    )


def _noise_sentence(line: Facts) -> str:
    name, difference = _NAMED[line["name"]].partition(",")[0].capitalize(), line["difference"]
    if line["measured"] is None:
        return f"{name}: the darks cannot tell (too few repeats or hot pixels); what was known was used."
    if difference is None:
        return f"{name}: the profile does not know it; what the darks show was used, scaled to the gain used."
    if abs(difference) <= 0.03:
        return f"{name}: the darks confirm it within 3%."
    sigma = line["sigma"]
    if sigma and abs(line["measured"] * difference / (1 + difference)) <= 4 * sigma:
        return f"{name}: the darks differ by {difference:+.1%}, too uncertain to overrule what was known."
    return (
        f"{name}: the darks differ by {difference:+.1%}. Every significance rests on this number; "
        "correct the profile."
    )


def _temperature(facts: Facts) -> Section | None:
    if not facts["groups"]:
        return None
    rows = []
    for group in facts["groups"]:
        ratio = _g(group["rate_ratio"])
        if group["rate_ratio_sigma"] is not None:
            ratio = f"{group['rate_ratio']:.4f} ± {group['rate_ratio_sigma']:.4f}"
        span = group["frame_rate_range"]
        rows.append(
            (
                f"{group['exptime_s']:g} s",
                f"{group['frames_used']}",
                f"{group['frames_rejected']}",
                ratio,
                "-" if group["temperature_k"] is None else f"{round(group['temperature_k'], 2) + 0.0:+.2f}",
                "-" if span is None else f"{span[0]:.4f} to {span[1]:.4f}",
            )
        )
    table = Table(
        headings=("darks", "used", "left out", "rate ratio", "K", "frame by frame"),
        rows=tuple(rows),
        numeric=frozenset({0, 1, 2, 3, 4, 5}),
    )
    return Section(
        title="Temperature, by the hot pixels themselves",
        paragraphs=tuple(_temperature_sentences(facts["groups"])),
        tables=(table,),
    )


def _temperature_sentences(groups: list[Facts]) -> Iterator[str]:
    yield (
        "The rate ratio is an exposure time's dark current over the longest one's; 1 is the same "
        "temperature, and a degree changes it by about 11%. 'Frame by frame' compares within one exposure "
        "time."
    )
    measured = [group["temperature_k"] for group in groups if group["temperature_k"] is not None]
    if measured:
        worst = max(measured, key=abs)
        yield f"The exposure times lie within {abs(worst):.2f} K of the longest; that is corrected for."
    spreads = [group["frame_spread_k"] for group in groups if group["frame_spread_k"] is not None]
    if spreads and max(spreads) > 0:
        yield f"Frames of one exposure time differ by up to {max(spreads):.2f} K."
    elif spreads:
        yield "Frames of one exposure time do not measurably differ."
    elif not measured:
        yield "There were too few hot pixels, or too few frames, to measure it."


def _z_scores(facts: Facts) -> Section | None:
    z, line = facts["z"], facts["line"]
    if z["sd"] is None and not z["pixels"]:
        return None
    paragraphs = [
        "z is the difference of a pixel's dark currents over the noise that the model expects of it."
    ]
    if z["sd"] is not None:
        judged = "the noise model fits" if abs(z["sd"] - 1) <= 0.05 else "the noise model does not fit"
        if abs(z["sd"] - 1) > 0.05:
            judged += (
                ", and it condemns too many pixels"
                if z["sd"] > 1
                else ", and bad pixels may have been missed"
            )
        paragraphs.append(f"Normal pixels scatter by {z['sd']:.3f}, where 1 is expected: {judged}.")
    if z["pixels"]:
        paragraphs.append(
            f"Counted in {z['pixels']:,} pixels. A surplus at 2 is a wrong model; a surplus at 4 and 5 only "
            "is what a mask is for."
        )
    if line is not None:
        paragraphs.append(
            "Charge against exposure time is a straight line with chi-square "
            f"{line['mean_chi2_per_degree']:.3f} per degree of freedom in {line['pixels']:,} pixels; "
            "1 is expected."
        )
        if line.get("hot"):
            medians = (
                f"{h['median_chi2']:.2g} at {h['from_e_per_s']:.2g} to {h['to_e_per_s']:.2g} e-/s"
                for h in line["hot"]
            )
            paragraphs.append(f"In hot pixels its median over that of true lines is {', '.join(medians)}.")
    rows = tuple((f"{b['sigma']}", f"{b['found']:,}", _expected(b["expected"])) for b in z["beyond"])
    headings = ("|z| beyond", "pixels", "unit normal")
    tables = (Table(headings=headings, rows=rows, numeric=frozenset({0, 1, 2})),) if rows else ()
    return Section(
        title="z-scores against the unit normal", paragraphs=tuple(paragraphs), tables=tables, pictures=("z",)
    )


def _map(facts: Facts) -> Section:
    told, fullest = facts["map"], facts["map"]["fullest"]
    (x0, x1), (y0, y1) = fullest["x"], fullest["y"]
    found, expected = fullest["found"], fullest["expected"]
    crowded = found > expected + 5 * expected**0.5 + 3
    judged = (
        "far more than chance: look there for glow, a bad column, or a cosmic-ray shower"
        if crowded
        else "no more than chance allows"
    )
    paragraphs = [
        f"The fullest of 8 x 8 blocks (x {x0} to {x1}, y {y0} to {y1}) holds {found:,} masked pixels where "
        f"an even spread gives {expected:,.1f}: {judged}."
    ]
    most = max(max(row) for row in told["counts"])
    steps = len(_DENSITY) - 1
    drawn = [
        "|" + "".join(_DENSITY[-(-n * steps // most) if most else 0] for n in row) + "|"
        for row in reversed(told["counts"])
    ]
    edge = "+" + "-" * len(told["counts"][0]) + "+"
    width, height = told["cell"]
    key = f"A letter is {width} x {height} pixels, row 0 at the bottom; '{_DENSITY[-1]}' is {most:,} masked."
    return Section(
        title="Where the masked pixels lie",
        paragraphs=tuple(paragraphs),
        pictures=("map",),
        drawing=(edge, *drawn, edge, key),
    )


# --- provenance -------------------------------------------------------------------------


def _inputs(facts: Facts) -> Section:
    if facts["masks"]:
        made_from = tuple((str(mask["role"]), str(mask["sha256"])) for mask in facts["masks"])
        return Section(title="Inputs", tables=(Table(headings=("role", "sha256"), rows=made_from),))
    if not facts["inputs"]:
        return Section(title="Inputs", paragraphs=("No catalogued frame went in.",))
    paragraphs = [f"{_count(len(facts['inputs']), 'frame')} went in."]
    if facts["left_out"]:
        paragraphs += [
            f"Left out: {PurePath(frame['name']).name}: {frame['reason'] or 'no reason was kept'}."
            for frame in facts["left_out"]
        ]
    else:
        paragraphs.append("The build rejected none of them.")
    rows = tuple(
        (
            str(entry["frame_id"]),
            entry["role"],
            f"{entry['exptime_s']:g}",
            "-" if entry["ccd_temp_c"] is None else f"{entry['ccd_temp_c']:.2f}",
            "-" if entry["rate_factor"] is None else f"{entry['rate_factor']:.4f}",
            entry["sha256"][:12],
            PurePath(entry["path"]).name + (" (left out)" if entry["used"] is False else ""),
        )
        for entry in facts["inputs"]
    )
    table = Table(
        headings=("id", "role", "s", "ccd °C", "rate", "sha256", "file"),
        rows=rows,
        numeric=frozenset({0, 2, 3, 4}),
    )
    return Section(title="Inputs", paragraphs=tuple(paragraphs), tables=(table,), folded=True)


def _provenance(facts: Facts) -> Section:
    recipe = {k: "automatic" if k == "limit_e_per_s" and v is None else v for k, v in facts["recipe"].items()}
    rows = (
        ("built", f"{facts['built']} by {facts['actor']} on {facts['host']}"),
        *((("reason", facts["reason"]),) if facts["reason"] else ()),
        ("recipe", ", ".join(f"{name} {value}" for name, value in recipe.items())),
        ("software", ", ".join(f"{name} {version}" for name, version in facts["software"].items())),
        ("algorithm", facts["algorithm_version"]),
        ("mask sha256", facts["sha256"]),
        ("build key", facts["build_key"]),
        ("profile", facts["profile_digest"]),
    )
    return Section(
        title="Recipe, software, who and when",
        tables=(Table(headings=("what", "value"), rows=rows),),
        folded=True,
    )


# --- numbers ----------------------------------------------------------------------------


def _g(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _expected(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _day(instant: str | None) -> str:
    return "further notice" if instant is None else instant[:10]
