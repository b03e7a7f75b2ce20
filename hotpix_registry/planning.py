"""Which darks make a mask: campaigns, dark sets, borrowing, and a reason for every frame left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from hotpix_registry.cameras import CameraProfile
from hotpix_registry.domain import Frame, Series

SAME_EXPOSURE = 1e-3
"""Exposure times that differ by less than this fraction are the same."""

Role = Literal["dark", "bias", "borrowed dark", "borrowed bias"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DarkSet:
    """Frames of one exposure time; biases have 0 s."""

    exptime_s: float
    frames: tuple[Frame, ...]
    borrowed: bool = False

    @property
    def role(self) -> Role:
        if self.exptime_s == 0:
            return "borrowed bias" if self.borrowed else "bias"
        return "borrowed dark" if self.borrowed else "dark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What one build takes in, and what it leaves out and why."""

    series: Series
    sets: tuple[DarkSet, ...]
    """darks, shortest exposure first"""
    biases: DarkSet | None
    refused: tuple[tuple[Frame, str], ...]
    first_night: str
    last_night: str

    @property
    def start_us(self) -> int:
        """When its first dark was begun, borrowed ones included."""
        return min(frame.start_us for dark_set in self.sets for frame in dark_set.frames)

    @property
    def used(self) -> list[Frame]:
        return [frame for frame, _ in self.inputs]

    @property
    def inputs(self) -> list[tuple[Frame, Role]]:
        sets = (*self.sets, *([self.biases] if self.biases else []))
        return [(frame, dark_set.role) for dark_set in sets for frame in dark_set.frames]

    def as_dict(self) -> dict[str, Any]:
        return {
            "series": str(self.series),
            "first_night": self.first_night,
            "last_night": self.last_night,
            "inputs": [
                {"frame_id": f.frame_id, "role": role, "exptime_s": f.exptime_s, "path": f.name}
                for f, role in self.inputs
            ],
            "refused": [{"frame_id": f.frame_id, "path": f.name, "reason": r} for f, r in self.refused],
        }


def plan(
    frames: Iterable[Frame],
    series: dict[int, Series],
    profile: CameraProfile,
    *,
    events_us: Sequence[int] = (),
    nights: tuple[str, str] | None = None,
    exposures_s: Sequence[float] | None = None,
) -> tuple[list[Campaign], list[tuple[Frame, str]]]:
    """Campaigns of a camera in the order of series and time, and the frames that fit in none.

    No campaign and no borrowing crosses an epoch event, or a night from which on the profile has other
    numbers for the detector. `nights` keeps the campaigns that touch an interval of nights (both ends
    included); `exposures_s` the sets of these exposure times.
    """
    usable: defaultdict[int, list[Frame]] = defaultdict(list)
    refused: defaultdict[int, list[tuple[Frame, str]]] = defaultdict(list)
    strays: list[tuple[Frame, str]] = []
    for frame in sorted(frames, key=lambda f: (f.start_us, f.sha256)):
        reason = unusable(frame, profile)
        if reason is None and not _asked_for(frame, exposures_s):
            reason = "its exposure time is not among those asked for"
        if frame.series_id is None:
            strays.append((frame, reason or ""))
        elif reason is None:
            usable[frame.series_id].append(frame)
        else:
            refused[frame.series_id].append((frame, reason))

    breaks_us = [*events_us, *profile.changes_us]
    campaigns: list[Campaign] = []
    for series_id in sorted(usable.keys() | refused.keys()):
        members, odd = split_by_shape(usable[series_id])
        out = refused[series_id] + odd
        runs = split_campaigns([f for f in members if not f.is_bias], profile, breaks_us)
        biases = [f for f in members if f.is_bias]
        planned = []
        for run in runs:
            near = [r for r in runs if not _parted(run[0], r[0], breaks_us)]
            own_biases = [f for f in biases if not _parted(run[0], f, breaks_us)]
            planned.append(_campaign(series[series_id], run, near, own_biases, out, profile))
        told = {f.frame_id for c in planned for f in (*c.used, *(frame for frame, _ in c.refused))}
        strays += [(f, reason) for f, reason in out if f.frame_id not in told]
        why = "other biases are nearer to the darks" if runs else "there are no darks of its series"
        strays += [(f, why) for f in biases if f.frame_id not in told]
        campaigns += planned
    if nights is not None:
        campaigns = [c for c in campaigns if c.first_night <= nights[1] and c.last_night >= nights[0]]
        strays = [(f, reason) for f, reason in strays if nights[0] <= f.night <= nights[1]]
    return campaigns, strays


def _asked_for(frame: Frame, exposures_s: Sequence[float] | None) -> bool:
    if exposures_s is None or frame.is_bias:
        return True
    return any(same_exposure(frame.exptime_s, wanted_s) for wanted_s in exposures_s)


def unusable(frame: Frame, profile: CameraProfile) -> str | None:
    """Why a frame can be in no dark set; None when it can."""
    facts = frame.facts
    if frame.excluded is not None:
        return f"excluded: {frame.excluded}"
    if frame.twin_of is not None:
        return f"the same exposure as frame {frame.twin_of}, saved twice"
    if not frame.is_bias and not frame.exptime_s > 0:
        return "a dark of no exposure time"
    if frame.series_id is None:
        return "its temperature is unknown; correct it with `hotpix-registry frames fix --set ccd_temp_c=…`"
    if facts.set_temp_c is not None and facts.ccd_temp_c is not None:
        away_c = facts.ccd_temp_c - facts.set_temp_c
        if abs(away_c) > profile.temperature_tolerance_c:
            return (
                f"at {facts.ccd_temp_c:.2f} °C it was {abs(away_c):.2f} °C from its set point "
                f"(tolerance {profile.temperature_tolerance_c:g} °C)"
            )
    return None


def same_exposure(a_s: float, b_s: float) -> bool:
    """Whether two exposure times are equal within 0.1 %: 60.001 s and 60.002 s are."""
    return abs(a_s - b_s) <= SAME_EXPOSURE * max(a_s, b_s)


def split_by_shape(frames: Sequence[Frame]) -> tuple[list[Frame], list[tuple[Frame, str]]]:
    """The frames of the commonest shape (the largest of equals), and the others with a reason."""
    if not frames:
        return [], []
    counts = Counter(frame.facts.shape for frame in frames)
    shape = max(counts, key=lambda s: (counts[s], s[0] * s[1], s))
    kept = [frame for frame in frames if frame.facts.shape == shape]
    ny, nx = shape
    odd = [
        (frame, f"it has {frame.facts.shape[1]} x {frame.facts.shape[0]} pixels, the others {nx} x {ny}")
        for frame in frames
        if frame.facts.shape != shape
    ]
    return kept, odd


def split_campaigns(
    darks: Sequence[Frame], profile: CameraProfile, breaks_us: Sequence[int] = ()
) -> list[list[Frame]]:
    """Cut darks, in the order of time, where a gap or the span is too long, or an epoch ends."""
    runs: list[list[Frame]] = []
    for frame in darks:
        if runs and not _apart(runs[-1], frame, profile) and not _parted(runs[-1][0], frame, breaks_us):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _apart(run: Sequence[Frame], frame: Frame, profile: CameraProfile) -> bool:
    gap = _day(frame.night) - _day(run[-1].night)
    span = _day(frame.night) - _day(run[0].night)
    return gap > profile.campaign_gap_nights or span > profile.campaign_span_nights


def _parted(a: Frame, b: Frame, breaks_us: Sequence[int]) -> bool:
    first_us, last_us = sorted((a.start_us, b.start_us))
    return any(first_us < break_us <= last_us for break_us in breaks_us)


def _day(night: str) -> int:
    return date.fromisoformat(night).toordinal()


def _campaign(
    series: Series,
    run: list[Frame],
    runs: list[list[Frame]],
    biases: list[Frame],
    refused: list[tuple[Frame, str]],
    profile: CameraProfile,
) -> Campaign:
    first_night, last_night = run[0].night, run[-1].night
    sets, out = dark_sets(run)
    if len(sets) == 1:
        sets += _borrow(run, runs, sets[0].exptime_s, profile)
    bias_set, bias_out = _bias_set(biases, first_night, last_night, profile)
    near = [
        (frame, reason)
        for frame, reason in refused
        if _nights_away(frame.night, first_night, last_night) <= profile.campaign_gap_nights
    ]
    return Campaign(
        series=series,
        sets=tuple(sorted(sets, key=lambda s: s.exptime_s)),
        biases=bias_set,
        refused=tuple(near + out + bias_out),
        first_night=first_night,
        last_night=last_night,
    )


def dark_sets(frames: Sequence[Frame]) -> tuple[list[DarkSet], list[tuple[Frame, str]]]:
    """Group by exposure time: raw frames, else the master of the most frames; never both."""
    sets: list[DarkSet] = []
    refused: list[tuple[Frame, str]] = []
    for group in by_exposure(frames):
        raw = [f for f in group if not f.kind.combined]
        masters = sorted(
            (f for f in group if f.kind.combined), key=lambda f: (-f.facts.n_combined, -f.start_us, f.sha256)
        )
        chosen = raw or masters[:1]
        reason = "raw frames of its exposure time are here" if raw else "a master of more frames is here"
        refused += [(f, reason) for f in (masters if raw else masters[1:])]
        sets.append(DarkSet(exptime_s=chosen[0].exptime_s, frames=tuple(chosen)))
    return sets, refused


def by_exposure(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of equal exposure times together, the shortest first."""
    groups: list[list[Frame]] = []
    for frame in sorted(frames, key=lambda f: (f.exptime_s, f.start_us, f.sha256)):
        if groups and same_exposure(groups[-1][0].exptime_s, frame.exptime_s):
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def _borrow(
    run: list[Frame], runs: list[list[Frame]], exptime_s: float, profile: CameraProfile
) -> list[DarkSet]:
    """The nearest set of another exposure time from the other campaigns of the series."""
    candidates = [
        (_nights_away(other[0].night, run[0].night, run[-1].night), index, dark_set)
        for index, other in enumerate(runs)
        if other is not run
        for dark_set in dark_sets(other)[0]
        if not same_exposure(dark_set.exptime_s, exptime_s)
    ]
    # of sets equally near the longest exposure tells most, having the least noise in e-/s
    candidates = [c for c in candidates if c[0] <= profile.borrow_days]
    if not candidates:
        return []
    _, _, nearest = min(candidates, key=lambda c: (c[0], -c[2].exptime_s, c[1]))
    return [DarkSet(exptime_s=nearest.exptime_s, frames=nearest.frames, borrowed=True)]


def _nights_away(night: str, first_night: str, last_night: str) -> int:
    return max(_day(first_night) - _day(night), _day(night) - _day(last_night), 0)


def _bias_set(
    biases: list[Frame], first_night: str, last_night: str, profile: CameraProfile
) -> tuple[DarkSet | None, list[tuple[Frame, str]]]:
    """The campaign's own biases, else those of the nearest night that has any."""
    reachable = [
        (_nights_away(f.night, first_night, last_night), f)
        for f in biases
        if _nights_away(f.night, first_night, last_night) <= profile.borrow_days
    ]
    if not reachable:
        return None, []
    own = [f for away, f in reachable if away <= profile.campaign_gap_nights]
    if own:
        chosen = own
    else:
        away = min(away for away, _ in reachable)
        night = min(f.night for a, f in reachable if a == away)
        chosen = [f for _, f in reachable if f.night == night]
    (dark_set, *_), refused = dark_sets(chosen)
    return DarkSet(exptime_s=0.0, frames=dark_set.frames, borrowed=not own), refused
