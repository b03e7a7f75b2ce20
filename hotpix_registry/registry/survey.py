"""What an archive holds, by its headers alone: no database, no pixels, nothing written."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotpix_registry import planning
from hotpix_registry.cameras import (
    CameraProfile,
    load_camera_profile,
    load_profile_file,
    provisional_profile,
    shipped_camera_profiles,
)
from hotpix_registry.domain import Configuration, Facts, Frame, Series
from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits import headers, keywords
from hotpix_registry.fits.keywords import KeywordProfile
from hotpix_registry.planning import Campaign, DarkSet
from hotpix_registry.registry.frames import check_service, may_be_several, recognise_one
from hotpix_registry.registry.ingest import (
    Found,
    Rules,
    checked_marks,
    join_nights,
    looks_like_fits,
    printable,
    reasons_to_reject,
    rules_with,
    without_night,
)

Progress = Callable[[int, int], None]

_EXAMPLES = 5
_FEW_FRAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Frames of one camera, configuration, set point, kind, exposure time and year."""

    camera: str
    configuration: str
    set_point_c: float | None
    kind: str
    exptime_s: float
    year: int
    frames: int
    nights: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(slots=True)
class Problem:
    """What stands in the way of a mask, and what helps."""

    problem: str
    cure: str
    camera: str | None
    unit: str
    """what is counted: file or campaign"""
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(slots=True)
class Survey:
    """What was found; every file is counted once."""

    files: int = 0
    used: int = 0
    """darks, biases and masters that an ingest would take"""
    other: Counter[str] = field(default_factory=Counter)
    """files that are no darks, by type"""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason)"""
    duplicates: int = 0
    """of those used: the same exposure in a further file"""
    cameras: list[str] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    campaigns: list[Campaign] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "darks": self.used,
            "duplicates": self.duplicates,
            "other": dict(sorted(self.other.items())),
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
            "cameras": self.cameras,
            "groups": [group.as_dict() for group in self.groups],
            "campaigns": [campaign_dict(campaign) for campaign in self.campaigns],
            "problems": [problem.as_dict() for problem in self.problems],
        }


def campaign_dict(campaign: Campaign) -> dict[str, Any]:
    return {
        "camera": campaign.series.camera,
        "configuration": str(campaign.series.configuration),
        "set_point_c": campaign.series.set_point_c,
        "first_night": campaign.first_night,
        "last_night": campaign.last_night,
        "sets": [_set_dict(dark_set) for dark_set in campaign.sets],
        "biases": None if campaign.biases is None else _set_dict(campaign.biases),
        "rule": "evidence+limit" if len(campaign.sets) > 1 else "cutoff",
        "left_out": len(campaign.refused),
    }


def _set_dict(dark_set: DarkSet) -> dict[str, Any]:
    nights = sorted(frame.night for frame in dark_set.frames)
    return {
        "exptime_s": dark_set.exptime_s,
        "frames": len(dark_set.frames),
        "borrowed": dark_set.borrowed,
        "first_night": nights[0],
        "last_night": nights[-1],
    }


# --- profiles -----------------------------------------------------------------------------


def load_profiles(paths: Sequence[Path]) -> tuple[Rules, list[CameraProfile]]:
    """The rules of keywords and the users' cameras in profile files.

    Raises
    ------
    ProfileError
    """
    own_keywords: list[KeywordProfile] = []
    own_cameras: list[CameraProfile] = []
    for path in paths:
        kind, text = load_profile_file(path)
        if kind == "keywords":
            own_keywords.append(keywords.load_keyword_profile(text))
        else:
            own_cameras.append(load_camera_profile(text, origin=str(path)))
    return rules_with(own_keywords), own_cameras


class _Cameras:
    """The cameras of a survey: the users' own, those that ship with us, and those that headers name."""

    def __init__(self, own: Iterable[CameraProfile]) -> None:
        self.known = {profile.name: profile for profile in own}
        self._shelf = [p for p in shipped_camera_profiles() if p.name not in self.known]

    def camera_of(self, facts: Facts) -> CameraProfile:
        profile = recognise_one(facts, list(self.known.values()), lambda: self._shelf)
        if profile is None:
            profile = provisional_profile(facts, {*self.known, *(p.name for p in self._shelf)})
        check_service(profile.name, profile, facts)
        self.known[profile.name] = profile
        return profile


# --- problems -----------------------------------------------------------------------------


class _Problems:
    """Problems gathered by what they say, whatever values they quote."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None], Problem] = {}

    def add(self, problem: str, cure: str, example: str, *, camera: str | None = None, unit: str) -> None:
        key = re.sub(r"'[^']*'|\d[\w.:+-]*", "…", without_night(problem)), camera
        found = self._found.setdefault(key, Problem(problem=problem, cure=cure, camera=camera, unit=unit))
        found.count += 1
        found.problem = join_nights(found.problem, problem)
        if len(found.examples) < _EXAMPLES:
            found.examples.append(example)

    def all(self) -> list[Problem]:
        """Files before campaigns, the most frequent first."""
        return sorted(self._found.values(), key=lambda p: (p.unit != "file", -p.count, p.problem))


def _split_cure(sentence: str) -> tuple[str, str]:
    """(what, cure) of a sentence such as `…gives no exposure time; write the seconds into EXPTIME.`"""
    what, _, cure = sentence.rpartition("; ")
    if not what:
        return sentence, "Write the file again with the program that made it, or leave it out."
    if "--ncombine" in cure:
        cure = "say it when they are ingested: `hotpix-registry ingest --ncombine N FILE…`."
    elif "keyword profile" in cure and "exposure time" in what:
        cure = (
            "name the keyword in a profile: [keywords] with `name`, a [[match]], and [exptime_s] with "
            '`from = ["KEYWORD"]`; try it with --profile FILE.'
        )
    elif "keyword profile" in cure:
        cure = (
            "name the keyword in a profile: [keywords] with `name`, a [[match]], and [start] with "
            '`from = ["KEYWORD"]`; try it with --profile FILE.'
        )
    return f"{what}.", cure[0].upper() + cure[1:]


# --- the use case ---------------------------------------------------------------------------


def survey(
    files: Sequence[Found], rules: Rules, own: Sequence[CameraProfile], *, progress: Progress | None = None
) -> Survey:
    """Read the headers of files, and say what they hold, what would pair, and what stands in the way."""
    result, problems = Survey(files=len(files)), _Problems()
    cameras = _Cameras(own)
    gathered = _Gathered()
    for number, found in enumerate(files):
        if progress is not None:
            progress(number, len(files))
        _look_at(found, rules, cameras, gathered, result, problems)
    if progress is not None:
        progress(len(files), len(files))
    result.duplicates = gathered.duplicates
    result.cameras = sorted({frame.camera for frame in gathered.frames})
    result.groups = list(_groups(gathered))
    for camera in result.cameras:
        frames = [frame for frame in gathered.frames if frame.camera == camera]
        profile = cameras.known[camera]
        campaigns, strays = planning.plan(frames, gathered.series, profile)
        result.campaigns += campaigns
        _judge_camera(profile, frames, problems)
        for frame, reason in _left_out(campaigns, strays):
            _explain(frame, reason, problems)
        for campaign in campaigns:
            _judge(campaign, profile, problems)
    result.problems = problems.all()
    return result


class _Gathered:
    """Frames as the planning wants them, and the series that they belong to."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.series: dict[int, Series] = {}
        self.duplicates = 0
        self._series_ids: dict[tuple[str, Configuration, str], int] = {}
        self._exposures: dict[tuple[Any, ...], str] = {}
        self._shared: dict[Any, Any] = {}

    def add(self, path: str, profile: CameraProfile, facts: Facts) -> str | None:
        """Take in a frame; or, where its exposure is here already, return the file that holds it."""
        exposure = (profile.name, facts.kind, facts.start_us, facts.exptime_s, facts.shape)
        if not may_be_several(facts):
            first = self._exposures.setdefault(exposure, path)
            if first != path:
                self.duplicates += 1
                return first
        slim = dataclasses.replace(
            facts, sources={}, problems=(), configuration=self._one(facts.configuration)
        )
        self.frames.append(
            Frame(
                frame_id=len(self.frames) + 1,
                sha256=path,
                paths=(path,),
                camera=self._one(profile.name),
                series_id=self._series_of(profile, facts),
                night=self._one(profile.night_of(facts.start_us or 0)),
                facts=slim,
            )
        )
        return None

    def _one(self, value: Any) -> Any:
        """Equal values as one object: there are tens of thousands of frames and few of these."""
        return self._shared.setdefault(value, value)

    def _series_of(self, profile: CameraProfile, facts: Facts) -> int | None:
        set_point = profile.set_point_of(facts)
        if set_point is None:
            return None
        key = profile.name, facts.configuration, set_point[0]
        number = self._series_ids.setdefault(key, len(self._series_ids) + 1)
        if number not in self.series:
            self.series[number] = Series(
                series_id=number,
                camera=profile.name,
                configuration=facts.configuration,
                set_point_c=set_point[1],
            )
        return number


def _look_at(
    found: Found, rules: Rules, cameras: _Cameras, gathered: _Gathered, result: Survey, problems: _Problems
) -> None:
    path = printable(found.path)
    try:
        marks = checked_marks(found)
        if not found.named and not looks_like_fits(found.path):
            result.other["no FITS file by its name"] += 1
            return
        header = headers.read_header(found.path)
        facts = rules.interpret(header)
        if facts.kind is None:
            result.other[facts.frame_type or "no type"] += 1
            if not facts.frame_type:
                problems.add(
                    "Its header does not say what the frame is.",
                    "If it is a dark, `hotpix-registry ingest --type dark FILE…` takes it; or name the "
                    'keyword in a profile, [type] with `from = ["KEYWORD"]`, and try it with --profile FILE.',
                    path,
                    unit="file",
                )
            return
        if reasons := reasons_to_reject(facts):
            result.rejected.append((path, " ".join(reasons)))
            for sentence in reasons:
                problems.add(*_split_cure(sentence), path, unit="file")
            return
        if header.compression in ("", "fz") and header.data_span is not None:
            _check_size(header, marks.size_bytes)
        profile = cameras.camera_of(facts)
    except UnreadableFrame as error:
        result.rejected.append((path, str(error)))
        cure = error.next_step or "Bring it back, let this user read it, or leave it out."
        cure = cure.replace("--camera", "`hotpix-registry ingest --camera NAME FILE…`")
        problems.add(error.message, cure, path, unit="file")
        return
    result.used += 1
    twin = gathered.add(path, profile, facts)
    if twin is not None:
        problems.add(
            "It is the same exposure as another file.",
            "Nothing needs doing: one of them is used. Remove the copies if room is wanted.",
            f"{path} = {twin}",
            camera=profile.name,
            unit="file",
        )


def _check_size(header: headers.FrameHeader, size: int) -> None:
    start, n_bytes = header.data_span or (0, 0)
    if size < start + n_bytes:
        raise UnreadableFrame(
            "The file is truncated: it ends before the image that its header announces.",
            next_step="Copy it again from where it came.",
        )


# --- what it holds ----------------------------------------------------------------------------


def _groups(gathered: _Gathered) -> Iterator[Group]:
    cells: defaultdict[tuple[Any, ...], list[Frame]] = defaultdict(list)
    for frame in gathered.frames:
        series = None if frame.series_id is None else gathered.series[frame.series_id]
        point = None if series is None else series.set_point_c
        key = (
            frame.camera,
            str(frame.facts.configuration),
            point is None,
            point or 0.0,
            str(frame.kind),
            frame.night[:4],
        )
        cells[key].append(frame)
    for key in sorted(cells):
        camera, configuration, unknown, point, kind, year = key
        for frames in planning.by_exposure(cells[key]):
            yield Group(
                camera=camera,
                configuration=configuration,
                set_point_c=None if unknown else point,
                kind=kind,
                exptime_s=frames[0].exptime_s,
                year=int(year),
                frames=len(frames),
                nights=len({frame.night for frame in frames}),
            )


# --- what stands in the way ---------------------------------------------------------------------


def _left_out(
    campaigns: Sequence[Campaign], strays: Sequence[tuple[Frame, str]]
) -> Iterator[tuple[Frame, str]]:
    """Frames in no mask, each once: what one campaign refuses another may use."""
    used = {frame.frame_id for campaign in campaigns for frame in campaign.used}
    refused = [pair for campaign in campaigns for pair in campaign.refused]
    told: set[int] = set()
    for frame, reason in (*refused, *strays):
        if frame.frame_id not in used | told:
            told.add(frame.frame_id)
            yield frame, reason


def _explain(frame: Frame, reason: str, problems: _Problems) -> None:
    if frame.series_id is None:
        problem = "Its temperature is unknown."
        cure = (
            "After the ingest, `hotpix-registry frames fix FILE --set ccd_temp_c=-10 --reason …`; for a "
            'camera without cooling, [temperature] with `grid_c = "none"` in its profile.'
        )
    elif "from its set point" in reason:
        problem = f"{reason[0].upper()}{reason[1:]}."
        cure = "Wait for the cooler before the first dark; or raise tolerance_c under [temperature]."
    elif "pixels, the others" in reason:
        problem = f"{reason[0].upper()}{reason[1:]}."
        cure = "Take frames of one size; those of the commonest make the mask."
    elif "no darks of its series" in reason:
        problem = "It is a bias frame, and there are no darks of its series."
        cure = "Take darks at this temperature and in this configuration."
    elif "dark of no exposure time" in reason:
        problem, cure = (
            "It is a dark of no exposure time.",
            "Correct its EXPTIME, or its IMAGETYP to Bias Frame.",
        )
    else:
        problem = f"Not needed: {reason}."
        cure = "Nothing needs doing."
    problems.add(problem, cure, frame.name, camera=frame.camera, unit="file")


def _judge_camera(profile: CameraProfile, frames: Sequence[Frame], problems: _Problems) -> None:
    for frame in frames:
        if profile.provisional:
            told = "its serial number tells it from others" if profile.serials else "its name alone tells it"
            pattern = profile.instruments[0] if profile.instruments else profile.name
            problems.add(
                f"No profile describes the camera; {told}.",
                f'Write one: [camera] with `name = "{profile.name}"`, [match] with `instruments = '
                f"['{pattern}']` or `serials`, and what is known for [detector] and [site]; try it with "
                "--profile FILE, and load it with `hotpix-registry cameras apply FILE`.",
                frame.name,
                camera=profile.name,
                unit="file",
            )
        gain = profile.sections_on(frame.night).gain_e_per_adu or frame.facts.gain_e_per_adu
        if gain is None and not frame.is_bias:
            problems.add(
                "Neither its header nor a profile gives the gain; a build would measure it from the darks.",
                "Add gain_e_per_adu under [detector] in the camera's profile.",
                frame.name,
                camera=profile.name,
                unit="file",
            )


def _judge(campaign: Campaign, profile: CameraProfile, problems: _Problems) -> None:
    """What would make a campaign's mask a better one."""

    def add(problem: str, cure: str) -> None:
        name = f"{campaign.first_night}, {campaign.series}"
        problems.add(problem, cure, name, camera=campaign.series.camera, unit="campaign")

    if len(campaign.sets) == 1:
        add(
            "It has one exposure time only, and no other within reach: nothing shows whether dark current is "
            "proportional to time, and a cut-off decides.",
            "Take darks of another exposure time, three times as long or as short, "
            f"within {profile.borrow_days} days.",
        )
    if any(s.borrowed for s in campaign.sets):
        add(
            "Its other exposure time is borrowed from another campaign.",
            "Nothing needs doing; darks of two exposure times in one week would be better.",
        )
    few = [s for s in campaign.sets if sum(f.facts.n_combined for f in s.frames) < _FEW_FRAMES]
    if few:
        add(
            "An exposure time of it has fewer than three frames: a cosmic ray there looks like a hot pixel.",
            "Take three or more darks of each exposure time.",
        )
    if campaign.biases is None and not any(_knows_overscan(f, profile) for f in campaign.used):
        add(
            "It has no bias frames and no overscan: one offset is estimated for each exposure time, and "
            "pixels with an offset of their own are not tested.",
            "Take bias frames in the same configuration and at the same temperature.",
        )


def _knows_overscan(frame: Frame, profile: CameraProfile) -> bool:
    subtracted = frame.facts.bias_subtracted is True
    return subtracted or profile.sections_on(frame.night).sections_of(frame.facts)[0] is not None
