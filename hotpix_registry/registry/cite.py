"""How to cite a mask: the sentence for a paper, and the provenance behind it."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from hotpix_registry import __version__
from hotpix_registry.answers import Answer
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, Release
from hotpix_registry.domain import Rule, and_list
from hotpix_registry.errors import NoMask
from hotpix_registry.instants import Night, iso, parse_date
from hotpix_registry.planning import same_exposure
from hotpix_registry.registry import bibliography, masks
from hotpix_registry.registry.view import View

_GUIDE = "the chapter “Identifying hot pixels” of the CCD Data Reduction Guide (Craig)"
_EVIDENCE = (
    "pixels whose dark current is not proportional to exposure time, or not steady, beyond what the noise "
    "model explains"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A sentence for the methods section, and what stands behind it."""

    sentence: str
    registry_id: str
    tx: int
    answer: Answer | None
    """of a date or a receipt; None for a release"""
    release: dict[str, Any] | None
    rows: tuple[dict[str, Any], ...]
    """each interval with the mask that answers it; for a date only the one that does"""
    provenance: Mapping[int, dict[str, Any]] = field(repr=False)
    """mask → everything known about it"""
    bibtex: str = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence,
            "registry_id": self.registry_id,
            "tx": self.tx,
            "answer": None if self.answer is None else self.answer.as_dict(),
            "release": self.release,
            "masks": list(self.rows),
            "bibtex": self.bibtex,
        }


def cite_answer(view: View, answer: Answer) -> Citation:
    """Cite the mask that answered a date."""
    told = provenance_of(view, answer.mask_id)
    row = {name: getattr(answer, name) for name in ("mask_id", "version", "series", "status")}
    row |= {"valid_from": answer.valid_from, "valid_to": answer.valid_to, "sha256": answer.sha256}
    return Citation(
        sentence=sentence_of(told, answer),
        registry_id=answer.registry_id,
        tx=answer.tx,
        answer=answer,
        release=None,
        rows=(row,),
        provenance={answer.mask_id: told},
        bibtex=bibliography.entries(told["software"], from_darks=_from_darks(told)),
    )


def cite_release(view: View, release: Release, camera: str | None = None) -> Citation:
    """Cite a release: every mask that it answers with.

    Raises
    ------
    NoMask
        It answers with none.
    """
    chosen = view.cameras if camera is None else [view.camera(camera)]
    rows = [row for one in chosen for row in _intervals(view, one)]
    if not rows:
        raise NoMask(
            f"The release {release.name} answers with no mask.",
            next_step="`hotpix-registry masks --release NAME` lists what there was.",
        )
    told = {mask_id: provenance_of(view, mask_id) for mask_id in sorted({row["mask_id"] for row in rows})}
    software: dict[str, str] = {}
    for one in told.values():
        software |= one["software"]
    names = ", ".join(row.name for row in chosen if any(r["camera"] == row.name for r in rows))
    from_darks = any(_from_darks(one) for one in told.values())
    method = f", made after {_GUIDE}" if from_darks else ""
    sentence = (
        f"Hot pixels were masked with the release {release.name} of the hotpix-registry {view.registry_id} "
        f"(transaction {release.at_tx} of {(iso(release.at_us) or '')[:10]}, served by hotpix-registry "
        f"{__version__}), which answers with {_count(len(told), 'mask')} of {names}{method}; "
        "each is named by its sha256 in the table that goes with this."
    )
    return Citation(
        sentence=sentence,
        registry_id=view.registry_id,
        tx=release.at_tx,
        answer=None,
        release={
            "name": release.name,
            "tx": release.at_tx,
            "at": iso(release.at_us),
            "created": iso(release.created_us),
            "note": release.note,
        },
        rows=tuple(rows),
        provenance=told,
        bibtex=bibliography.entries(software, from_darks=from_darks),
    )


def _intervals(view: View, camera: CameraRow) -> Iterator[dict[str, Any]]:
    series = view.series(camera)
    held = queries.assignments(view.connection, list(series), at=view.at)
    rows = {row.id: row for row in queries.masks(view.connection, camera.camera_id, at=view.at)}
    status = masks.statuses(view.connection, list(rows.values()), at=view.at)
    for one in sorted(held, key=lambda a: (a.series_id, a.validity.start_us)):
        mask = rows[one.mask_id]
        yield {
            "camera": camera.name,
            "series": str(series[one.series_id]),
            "valid_from": iso(one.validity.start_us),
            "valid_to": iso(one.validity.end_us),
            "mask_id": mask.id,
            "version": mask.version,
            "status": status[mask.id],
            "rule": mask.rule,
            "first_night": mask.first_night,
            "last_night": mask.last_night,
            "flagged": mask.flagged,
            "sha256": mask.sha256,
        }


def provenance_of(view: View, mask_id: int) -> dict[str, Any]:
    """Everything known about a mask, its dates and status as of the view, and of files the names only.

    A file is known by its digest; where it lay is nobody's business who reads the paper.
    """
    told = masks.details(view.connection, mask_id)
    (then,) = masks.summaries(view.connection, [masks.find_mask(view.connection, mask_id)], at=view.at)
    plain: dict[str, Any] = _names_only(told | then)
    return plain


def _names_only(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _names_only(v, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_names_only(item, key) for item in value]
    if key in ("path", "name") and isinstance(value, str):
        return PurePath(value.replace("\\", "/")).name
    return value


# --- the sentence -----------------------------------------------------------------------


def sentence_of(told: Mapping[str, Any], answer: Answer) -> str:
    """What a methods section says of a mask: which, of what, how, how much, and how to have it again."""
    share = f"{100 * told['flagged'] / told['pixels']:.2g} %"
    made = f"It was made with {_software(told['software'])}"
    darks = _darks(told)
    if _from_darks(told):
        made += f" from {darks}, after {_GUIDE}" if darks else f", after {_GUIDE}"
    elif darks:
        made += f" from {darks}"
    revoked = " (revoked)" if answer.status == "revoked" else ""
    served = "" if answer.preset == "default" else f", served under the preset {answer.preset}"
    return (
        f"Hot pixels were masked with version {told['version']}{revoked} of the mask of camera "
        f"{told['series']} (hotpix-registry {answer.registry_id}, mask {told['mask_id']}{served}), "
        f"which holds from {_when(answer.valid_from)} to {_when(answer.valid_to)}. "
        f"{made}: {_rule(told)}. It masks {told['flagged']} of {told['pixels']} pixels ({share}). "
        f"Its sha256 is {told['sha256']}, and the receipt {answer.receipt} replays the answer."
    )


def _from_darks(told: Mapping[str, Any]) -> bool:
    return told["rule"] not in (Rule.IMPORT, Rule.NONE, Rule.EDIT)


def _when(instant: str | None) -> str:
    return "further notice" if instant is None else instant


def _software(versions: Mapping[str, str]) -> str:
    own = f"hotpix-registry {versions.get('hotpix-registry', __version__)}"
    others = [
        f"{name} {versions[key]}"
        for key, name in (("astropy", "astropy"), ("numpy", "NumPy"))
        if key in versions
    ]
    return f"{own} ({', '.join(others)})" if others else own


def _darks(told: Mapping[str, Any]) -> str:
    """`10 darks of 90 s and 20 of 1000 s from the night of 2018-08-22, and 10 bias frames`."""
    own: defaultdict[str, list[str]] = defaultdict(list)
    biases = 0
    for (role, exptime_s), frames in _groups(told["inputs"]).items():
        if role.endswith("bias"):
            biases += _exposures(told["report"].get("biases"), len(frames))
            continue
        group = _group(told["report"], exptime_s)
        number = _exposures(group, len(frames))
        master = any("master" in frame["kind"] for frame in frames)
        what = f"a master of {number} darks" if master else str(number)
        nights = sorted({_night(frame["start"], told["profile"]) for frame in frames})
        span = nights[0] if len(nights) == 1 else f"{nights[0]} to {nights[-1]}"
        where = f"the night{'' if len(nights) == 1 else 's'} of {span}"
        own[f"{'borrowed ' if 'borrowed' in role else ''}from {where}"].append(f"{what} of {exptime_s:g} s")
    parts = [f"{_listed(darks)} {where}" for where, darks in own.items()]
    if biases:
        parts.append(_count(biases, "bias frame"))
    return ", and ".join(parts)


def _listed(darks: Sequence[str]) -> str:
    """`10 darks of 90 s and 20 of 1000 s`; a master says itself what it is of."""
    first, *others = darks
    if not first.startswith("a "):
        number, _, rest = first.partition(" ")
        first = f"{_count(int(number), 'dark')} {rest}"
    return and_list([first, *others])


def _groups(inputs: Sequence[Mapping[str, Any]]) -> dict[tuple[str, float], list[Mapping[str, Any]]]:
    """Frames by role and exposure time, times equal within 0.1 % together; shorter ones first."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for frame in sorted(inputs, key=lambda i: (i["exptime_s"], i["start"] or "")):
        role, exptime_s = frame["role"], float(frame["exptime_s"])
        same = (k for k in groups if k[0] == role and same_exposure(k[1], exptime_s))
        groups.setdefault(next(same, (role, exptime_s)), []).append(frame)
    return groups


def _group(report: Mapping[str, Any], exptime_s: float) -> Mapping[str, Any] | None:
    groups = report.get("groups") or []
    return next((group for group in groups if same_exposure(group["exptime_s"], exptime_s)), None)


def _exposures(group: Mapping[str, Any] | None, frames: int) -> int:
    return frames if not group else max(int(group["exposures"]), frames)


def _night(start: str, profile: Mapping[str, Any]) -> str:
    instant = parse_date(start)
    assert isinstance(instant, int)
    return str(Night.of(instant, profile.get("longitude_deg_east")))


def _rule(told: Mapping[str, Any]) -> str:
    recipe = told["recipe"]
    match told["rule"]:
        case Rule.EVIDENCE_AND_LIMIT:
            return f"masked are {_EVIDENCE}, and {_limit(told)} (rule evidence+limit)"
        case Rule.EVIDENCE:
            return f"masked are {_EVIDENCE} (rule evidence)"
        case Rule.LIMIT:
            return f"masked are {_limit(told)} (rule limit)"
        case Rule.CUTOFF:
            return (
                f"masked are pixels more than {recipe['cutoff_e_per_s']:g} e-/s and "
                f"{recipe['cutoff_sigma']:g} sigma above the dark current around them (rule cutoff)"
            )
        case Rule.PERSIST:
            return "pixels were followed through the campaigns, masked when found and freed after two misses"
        case Rule.IMPORT:
            return "it was imported, and its darks are not known to the registry"
        case Rule.EDIT:
            return f"it was edited by hand; {told['report'].get('limit_reason', '')}".rstrip("; .")
        case _:
            return "by choice no pixel is masked"


def _limit(told: Mapping[str, Any]) -> str:
    limit = told["report"].get("limit") or {}
    e_per_s = limit.get("e_per_s", told["limit_e_per_s"])
    if e_per_s is None:
        return "none for its dark current alone, since these darks show no consistency limit"
    text = f"those with a dark current above {e_per_s:.3g} e-/s"
    exposures_s, charge_e = limit.get("exposures_s"), limit.get("charge_e")
    if charge_e is not None and exposures_s:
        text += f" ({float(f'{charge_e:.3g}'):.10g} e- in {max(exposures_s):g} s)"
    given = limit.get("source") == "given"
    return f"{text}, {'a limit that was given' if given else 'above which the exposures disagree'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- the bundle -------------------------------------------------------------------------


def documents(citation: Citation) -> Iterator[tuple[str, bytes]]:
    """The files of a bundle that are no masks: (name, content)."""
    yield "README.txt", _readme(citation).encode()
    yield "citation.txt", f"{citation.sentence}\n".encode()
    yield "citation.bib", citation.bibtex.encode()
    if citation.answer is not None:
        yield "answer.json", _json(citation.answer.as_dict())
        yield "provenance.json", _json(citation.provenance[citation.answer.mask_id])
        return
    yield "release.json", _json(citation.release)
    yield "masks.csv", _csv(citation.rows)
    for mask_id, told in citation.provenance.items():
        yield f"provenance/mask-{mask_id}.json", _json(told)


def mask_names(citation: Citation) -> dict[int, str]:
    """Mask → its file in the bundle."""
    if citation.answer is not None:
        return {citation.answer.mask_id: "mask.fits"}
    return {mask_id: f"masks/mask-{mask_id}.fits" for mask_id in citation.provenance}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n").encode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _readme(citation: Citation) -> str:
    what = "the answer that this mask is" if citation.answer is not None else "the release"
    lines = [
        "Provenance of a hot-pixel mask" if citation.answer is not None else "Provenance of hot-pixel masks",
        "",
        textwrap.fill(citation.sentence, 100, break_long_words=False, break_on_hyphens=False),
        "",
        "citation.txt     the sentence above",
        "citation.bib     works to cite; keep those that you used",
    ]
    if citation.answer is not None:
        lines += [
            f"answer.json      {what}: dates, age, warnings, receipt",
            "provenance.json  recipe, inputs by digest, camera profile, software, who and when",
            "mask.fits        the mask: 0 good, 1 masked; its extension DQ has the flags",
        ]
        if citation.answer.preset != "default":
            lines.append("mask-served.fits what was served under the preset of the answer")
    else:
        lines += [
            f"release.json     {what}",
            "masks.csv        which mask answers which dates",
            "masks/           the masks: 0 good, 1 masked; their extensions DQ have the flags",
            "provenance/      of each mask: recipe, inputs by digest, profile, software, who and when",
        ]
    lines += ["SHA256SUMS       check with: sha256sum -c SHA256SUMS", ""]
    if citation.answer is not None:
        lines += [f"To have the answer again: hotpix-registry mask --receipt '{citation.answer.receipt}'", ""]
    return "\n".join(lines)
