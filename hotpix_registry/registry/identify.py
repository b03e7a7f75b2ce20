"""Which camera took a frame: its hot pixels against all masks of the catalogue, and against its header."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np

from hotpix_registry.cameras import CameraProfile, recognise
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import Source, reading
from hotpix_registry.catalogue.queries import CameraRow, MaskRow
from hotpix_registry.domain import Facts, Frame
from hotpix_registry.errors import NoMask, ProfileError, UnreadableFrame
from hotpix_registry.fits import headers
from hotpix_registry.fits.packing import unpack_flagged
from hotpix_registry.fits.pixels import open_rows
from hotpix_registry.fits.streams import naming
from hotpix_registry.instants import US_PER_DAY, Validity
from hotpix_registry.places import is_url, resolved
from hotpix_registry.registry.frames import camera_named, find_camera
from hotpix_registry.registry.ingest import Rules, current_rules, sha256_of
from hotpix_registry.registry.life import anchors_of
from hotpix_registry.registry.masks import epochs_us
from hotpix_registry.science.identify import (
    MAX_CHANCE,
    HotPixels,
    Kind,
    Overlap,
    about_as_good,
    could_tell,
    fits,
    hottest_pixels,
    mask_pixels,
    overlap,
)
from hotpix_registry.timeline import epoch_of


class Verdict(StrEnum):
    IDENTIFIED = "identified"
    AMBIGUOUS = "ambiguous"
    """the masks of several cameras fit: one sensor under several names"""
    NONE = "none"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownMask:
    """One kind of the pixels of a mask, and what the mask belongs to."""

    mask_id: int
    version: int
    camera: str
    series: str
    first_night: str
    last_night: str
    campaign: Validity
    anchor_us: int
    """the instant that says in which epoch it is"""
    kind: Kind
    pixels: HotPixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What frames are compared with."""

    masks: tuple[KnownMask, ...]
    """a mask whose hot and warm pixels are compared is in it twice"""
    cameras: tuple[CameraRow, ...]
    events_us: Mapping[int, Sequence[int]]
    """camera id → instants of its epoch events"""
    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateCamera:
    """A camera with the mask of it that fits best."""

    camera: str
    mask_id: int
    version: int
    series: str
    nights: tuple[str, str]
    kind: Kind
    """which pixels of the mask the frame has"""
    overlap: Overlap
    log10_chance: float
    """probability that chance does as well anywhere in the catalogue"""

    def as_dict(self) -> dict[str, Any]:
        found = self.overlap
        return {
            "camera": self.camera,
            "mask_id": self.mask_id,
            "version": self.version,
            "series": self.series,
            "first_night": self.nights[0],
            "last_night": self.nights[1],
            "kind": str(self.kind),
            "orientation": str(found.orientation),
            "shift": list(found.shift),
            "frame_binning": found.frame_binning,
            "mask_binning": found.mask_binning,
            "common": found.common,
            "compared": found.compared,
            "flagged": found.flagged,
            "share": round(found.share, 4),
            "expected_by_chance": round(found.expected, 3),
            "log10_chance": round(self.log10_chance, 2),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """When a frame was taken, as far as the masks of its camera tell."""

    mask_id: int
    """the mask that fits best"""
    nights: tuple[str, str]
    """of that mask's darks"""
    found: int
    """how many of that mask's pixels are hot in the frame"""
    flagged: int
    """of how many"""
    span: tuple[str, str]
    """first and last night of the campaigns that fit about as well"""
    campaigns: tuple[int, int]
    """how many fit about as well, of how many"""
    header_fits: bool | None
    """whether one of those is next to the header's date, with no other campaign and no epoch event between

    None where the header gives no date, or the epoch of its date has no campaign.
    """
    strangers: tuple[int, ...]
    """masks of the same camera that do not fit at all, as those of another body would not"""

    @property
    def is_told(self) -> bool:
        return self.campaigns[0] < self.campaigns[1]

    def as_dict(self) -> dict[str, Any]:
        return {
            "told": self.is_told,
            "mask_id": self.mask_id,
            "first_night": self.nights[0],
            "last_night": self.nights[1],
            "found": self.found,
            "flagged": self.flagged,
            "span": list(self.span),
            "campaigns_that_fit": self.campaigns[0],
            "campaigns": self.campaigns[1],
            "header_fits": self.header_fits,
            "strangers": list(self.strangers),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What the hot pixels of a frame say about its origin, beside what its header says."""

    path: str
    verdict: Verdict
    hot_pixels: int
    candidates: tuple[CandidateCamera, ...]
    """cameras with a mask of a size that fits, best first"""
    masks_compared: int
    epoch: Epoch | None
    header_cameras: tuple[str, ...]
    """the registered cameras that the header fits"""
    header_instrument: str | None
    header_night: str | None
    header_type: str
    """as the header writes it, '' when it writes none"""
    header_kind: str | None
    """None: no dark, bias or master of them"""
    frame: Frame | None
    """the catalogued frame with these bytes"""

    @property
    def best(self) -> CandidateCamera | None:
        return self.candidates[0] if self.candidates else None

    @property
    def camera(self) -> str | None:
        return self.candidates[0].camera if self.verdict is Verdict.IDENTIFIED else None

    @property
    def rivals(self) -> tuple[str, ...]:
        """All cameras that fit, where there are several."""
        if self.verdict is not Verdict.AMBIGUOUS:
            return ()
        return tuple(c.camera for c in self.candidates if _is_rival(c, self.candidates[0]))

    @property
    def header_agrees(self) -> bool | None:
        """Whether the header names the camera of the hot pixels; None where either says nothing."""
        if self.camera is None or not self.header_cameras:
            return None
        return self.camera in self.header_cameras

    def as_dict(self) -> dict[str, Any]:
        best = self.best if self.verdict is Verdict.IDENTIFIED else None
        second = self.candidates[1] if len(self.candidates) > 1 else None
        chance = None if best is None else 10 ** max(best.log10_chance, -300.0)
        return {
            "path": self.path,
            "verdict": str(self.verdict),
            "camera": self.camera,
            "orientation": None if best is None else str(best.overlap.orientation),
            "shift": None if best is None else list(best.overlap.shift),
            "chance": chance,
            "confidence": None if chance is None else 1 - chance,
            "margin_log10": None
            if best is None or second is None
            else round(second.log10_chance - best.log10_chance, 2),
            "epoch": None if self.epoch is None else self.epoch.as_dict(),
            "header": {
                "instrument": self.header_instrument,
                "cameras": list(self.header_cameras),
                "night": self.header_night,
                "type": self.header_type,
                "agrees": self.header_agrees,
            },
            "frame_id": None if self.frame is None else self.frame.frame_id,
            "frame_camera": None if self.frame is None else self.frame.camera,
            "twin_of": None if self.frame is None else self.frame.twin_of,
            "rivals": list(self.rivals),
            "hot_pixels": self.hot_pixels,
            "masks_compared": self.masks_compared,
            "candidates": [c.as_dict() for c in self.candidates],
        }


# --- the catalogue ------------------------------------------------------------------------


def load_catalogue(engine: Source, camera: str | None) -> Catalogue:
    """The hot pixels of all masks, certified or not, or of one camera's.

    Raises
    ------
    NoMask
        There is none.
    IntegrityError
        The stored bytes of one are damaged.
    """
    with reading(engine) as connection:
        cameras = queries.cameras(connection)
        wanted = None if camera is None else camera_named(cameras, camera).name
        series = queries.series(connection)
        rules = current_rules(connection)
        events_us = {
            row.camera_id: epochs_us(queries.events(connection, row.camera_id), row) for row in cameras
        }
        masks = []
        for row in queries.masks(connection):
            of = series[row.series_id]
            # the masks of a camera that was merged into another stay under its old name
            holder = find_camera(cameras, of.camera)
            name = of.camera if holder is None else holder.name
            if wanted in (None, name):
                encoding, blob, blob_sha256, _ = queries.mask_blob(connection, row.id)
                pixels = mask_pixels(*unpack_flagged(encoding, blob, blob_sha256=blob_sha256))
                anchor_us = row.campaign_start_us
                if holder is not None:
                    anchor_us = anchors_of(connection, holder, [row])[row.id]
                masks += [_known(row, name, str(of), anchor_us, kind, pixels[kind]) for kind in pixels]
    if not masks:
        whose = "The registry" if wanted is None else f"Camera {wanted}"
        raise NoMask(
            f"{whose} has no masks to compare hot pixels with.",
            next_step="`hotpix-registry build` makes them from darks.",
        )
    return Catalogue(masks=tuple(masks), cameras=tuple(cameras), events_us=events_us, rules=rules)


def _known(
    row: MaskRow, camera: str, series: str, anchor_us: int, kind: Kind, pixels: HotPixels
) -> KnownMask:
    return KnownMask(
        mask_id=row.id,
        version=row.version,
        camera=camera,
        series=series,
        first_night=row.first_night,
        last_night=row.last_night,
        campaign=Validity(row.campaign_start_us, row.campaign_end_us),
        anchor_us=anchor_us,
        kind=kind,
        pixels=pixels,
    )


# --- one frame ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A frame as it is compared: what its header means, and where its hottest pixels are."""

    path: str
    sha256: str
    facts: Facts
    shape: tuple[int, int]
    """(ny, nx) of the pixels that were looked at"""
    y: list[int]
    x: list[int]


def see(path: str, rules: Rules) -> Seen:
    """Read a frame.

    Raises
    ------
    UnreadableFrame
    """
    path = resolved(path) if is_url(path) else path
    with naming(path):
        header = headers.read_header(path)
    facts = rules.interpret(header)
    pixels = _hot_pixels(path, facts)
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise UnreadableFrame(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    y, x = pixels.y.tolist(), pixels.x.tolist()
    return Seen(path=path, sha256=sha256, facts=facts, shape=pixels.shape, y=y, x=x)


def identify(engine: Source, catalogue: Catalogue, seen: Seen) -> Identification:
    """Compare a frame with a catalogue, and with its own header."""
    facts = seen.facts
    pixels = HotPixels(seen.shape, np.array(seen.y, np.int64), np.array(seen.x, np.int64))
    found = [(mask, lies) for mask in catalogue.masks if (lies := overlap(pixels, mask.pixels)) is not None]
    comparisons = sum(lies.orientations for _, lies in found)
    candidates = _candidates(found, comparisons)
    verdict = _verdict(candidates, [lies for _, lies in found], comparisons)
    row = find_camera(list(catalogue.cameras), candidates[0].camera) if candidates else None
    profile = (row or catalogue.cameras[0]).profile
    epoch = None
    if verdict is Verdict.IDENTIFIED and row is not None:
        events_us = catalogue.events_us.get(row.camera_id, ())
        beside = partial(_beside, facts.start_us, events_us=events_us, profile=profile)
        epoch = _epoch(pixels, candidates[0], found, comparisons, beside)
    by_header = recognise(facts, [row.profile for row in catalogue.cameras])
    return Identification(
        path=seen.path,
        verdict=verdict,
        hot_pixels=len(pixels),
        candidates=candidates,
        masks_compared=len({mask.mask_id for mask, _ in found}),
        epoch=epoch,
        header_cameras=tuple(
            sorted(row.name for row in catalogue.cameras if any(row.profile is p for p in by_header))
        ),
        header_instrument=facts.instrument,
        header_night=None if facts.start_us is None else profile.night_of(facts.start_us),
        header_type=facts.frame_type,
        header_kind=None if facts.kind is None else str(facts.kind),
        frame=_catalogued(engine, seen.sha256),
    )


def _hot_pixels(path: str, facts: Facts) -> HotPixels:
    colours = facts.configuration.bayer_pattern is not None
    if facts.trim_section is not None:
        try:
            with open_rows(path, trim=facts.trim_section) as rows:
                return hottest_pixels(rows, colours=colours)
        except ProfileError:
            pass  # a section that does not fit the image; small shifts are looked for anyway
    with open_rows(path) as rows:
        return hottest_pixels(rows, colours=colours)


def _candidates(found: Sequence[tuple[KnownMask, Overlap]], comparisons: int) -> tuple[CandidateCamera, ...]:
    best: dict[str, CandidateCamera] = {}
    for mask, lies in found:
        candidate = CandidateCamera(
            camera=mask.camera,
            mask_id=mask.mask_id,
            version=mask.version,
            series=mask.series,
            nights=(mask.first_night, mask.last_night),
            kind=mask.kind,
            overlap=lies,
            log10_chance=min(0.0, lies.log10_chance + math.log10(comparisons)),
        )
        if mask.camera not in best or _rank(candidate) < _rank(best[mask.camera]):
            best[mask.camera] = candidate
    return tuple(sorted(best.values(), key=_rank))


def _rank(candidate: CandidateCamera) -> tuple[float, float, int]:
    return candidate.log10_chance, -_beyond_chance(candidate), candidate.mask_id


def _beyond_chance(candidate: CandidateCamera) -> float:
    found = candidate.overlap
    return (found.common - found.expected) / found.compared if found.compared else 0.0


def _is_rival(candidate: CandidateCamera, best: CandidateCamera) -> bool:
    """A camera that fits beyond chance, and at least half as well as the best."""
    fits = candidate.log10_chance <= math.log10(MAX_CHANCE)
    return fits and _beyond_chance(candidate) >= 0.5 * _beyond_chance(best)


def _verdict(candidates: Sequence[CandidateCamera], found: Sequence[Overlap], comparisons: int) -> Verdict:
    if not candidates:
        return Verdict.NONE
    if candidates[0].log10_chance > math.log10(MAX_CHANCE):
        told = any(could_tell(lies, comparisons) for lies in found)
        return Verdict.NONE if told else Verdict.CANNOT_TELL
    several = any(_is_rival(c, candidates[0]) for c in candidates[1:])
    return Verdict.AMBIGUOUS if several else Verdict.IDENTIFIED


def _epoch(
    pixels: HotPixels,
    best: CandidateCamera,
    found: Sequence[tuple[KnownMask, Overlap]],
    comparisons: int,
    beside: Callable[[Sequence[KnownMask]], set[int]],
) -> Epoch:
    """Which campaigns of the camera that took a frame have the hot pixels that it has.

    Masks are compared by one kind of pixels, since a list of more pixels fits by being longer. `beside`
    tells at which of the camera's masks the header's date lies.
    """
    needed = math.log10(MAX_CHANCE) - math.log10(comparisons)
    own = [(m, o) for m, o in found if m.camera == best.camera and m.kind is best.kind]
    binning = best.overlap.frame_binning, best.overlap.mask_binning
    fitting = [
        (mask, lies)
        for mask, lies in own
        if lies.log10_chance <= needed and (lies.frame_binning, lies.mask_binning) == binning
    ]
    compared = fits(pixels, [(mask.pixels, lies) for mask, lies in fitting])
    number = max(range(len(compared)), key=lambda i: (compared[i].gain, -fitting[i][0].mask_id))
    chosen = fitting[number][0]
    good = [mask for (mask, _), fine in zip(fitting, about_as_good(compared), strict=True) if fine]
    of_then = beside([mask for mask, _ in own])
    return Epoch(
        mask_id=chosen.mask_id,
        nights=(chosen.first_night, chosen.last_night),
        found=compared[number].found,
        flagged=compared[number].flagged,
        span=(min(m.first_night for m in good), max(m.last_night for m in good)),
        campaigns=(_campaigns(good), _campaigns([mask for mask, _ in own])),
        header_fits=any(mask.mask_id in of_then for mask in good) if of_then else None,
        strangers=tuple(
            mask.mask_id for mask, lies in own if lies.log10_chance > needed and could_tell(lies, comparisons)
        ),
    )


def _beside(
    start_us: int | None, masks: Sequence[KnownMask], *, events_us: Sequence[int], profile: CameraProfile
) -> set[int]:
    """Ids of the masks between whose campaigns and a date lie no other campaign and no epoch event.

    What another series was given in the nights around a campaign is no campaign of another time.
    """
    if start_us is None:
        return set()
    epoch = epoch_of(start_us, events_us)
    runs: list[list[KnownMask]] = []
    for mask in sorted(masks, key=lambda m: m.campaign.start_us):
        if not epoch.contains(mask.anchor_us):
            continue
        if runs and _is_one_run(runs[-1], mask, profile):
            runs[-1].append(mask)
        else:
            runs.append([mask])
    before = [run for run in runs if _end_us(run) <= start_us]
    after = [run for run in runs if run[0].campaign.start_us > start_us]
    around = [run for run in runs if run not in before and run not in after]
    near = around or [*before[-1:], *after[:1]]
    return {mask.mask_id for run in near for mask in run}


def _is_one_run(run: Sequence[KnownMask], mask: KnownMask, profile: CameraProfile) -> bool:
    gap_us = mask.campaign.start_us - _end_us(run)
    span_us = max(_end_us(run), _end_us([mask])) - run[0].campaign.start_us
    in_days = gap_us / US_PER_DAY, span_us / US_PER_DAY
    return in_days[0] <= profile.campaign_gap_nights and in_days[1] <= profile.campaign_span_nights + 2


def _end_us(run: Sequence[KnownMask]) -> int:
    return max(mask.campaign.end_us or 0 for mask in run)


def _campaigns(masks: Sequence[KnownMask]) -> int:
    return len({(mask.first_night, mask.last_night) for mask in masks})


def _catalogued(engine: Source, sha256: str) -> Frame | None:
    with reading(engine) as connection:
        ids = queries.frame_ids(connection, [sha256])
        return next(iter(queries.frames(connection, ids=list(ids.values()))), None) if ids else None
