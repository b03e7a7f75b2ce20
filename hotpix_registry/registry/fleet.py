"""Building whatever lacks a mask: campaigns become tasks, their results are stored in the order of time.

Tasks compute and know no database; this process plans, judges and stores. A campaign is claimed before its
task is submitted, so that of several such processes each campaign is built by one. Within a series results
are judged and stored in the order of time, as by a serial build, whatever order tasks end in; series do
not depend on each other. What was stored is found by its build key, so a run that was killed is run again.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.claims import Claims, claims
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import (
    DatabaseAway,
    DatabaseUnavailable,
    FrameChanged,
    HotpixError,
    RevokedMask,
    StorageError,
    UnfitWorkers,
)
from hotpix_registry.instants import Validity
from hotpix_registry.planning import Campaign
from hotpix_registry.registry import build, compute, derived
from hotpix_registry.registry.compute import BuiltMask, Ingredients
from hotpix_registry.registry.masks import BuildResult, epochs_us
from hotpix_registry.registry.tallies import CameraTally, CampaignName, FleetReport, name_of, note
from hotpix_registry.timeline import epoch_of
from hotpix_registry.work import Ended, Work

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_S = 0.3
"""how often it is looked after campaigns that another process has claimed"""
_MOST_ELSEWHERE = 1000
"""of them are remembered at a time"""
_WAITING = 4
"""campaigns for each place that are begun and not stored: some wait for the one before in their series"""
_PATIENCE_S = 600.0
"""how long a database may be away before the run ends"""

Progress = Callable[[FleetReport], None]


# --- what a worker does ---------------------------------------------------------------------


def build_mask(ingredients: Ingredients) -> tuple[str, BuiltMask | HotpixError]:
    """Compute a mask without a database; returns the machine's name, and what came of it."""
    try:
        return socket.gethostname(), compute.compute(ingredients, workers=1)
    except HotpixError as error:
        return socket.gethostname(), error


# --- the run --------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Item:
    """A campaign on its way through the run."""

    campaign: Campaign
    camera: CameraRow
    tally: CameraTally
    recipe: Recipe | None = None
    ingredients: Ingredients | None = None
    made: BuiltMask | BuildResult | BaseException | None = None
    """None: not yet"""
    claimed: bool = False

    @property
    def key(self) -> str:
        assert self.ingredients is not None
        return self.ingredients.build_key

    @property
    def series_id(self) -> int:
        return self.campaign.series.series_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which campaigns are to have a mask, and of which recipe."""

    nights: tuple[str, str] | None = None
    exposures_s: Sequence[float] | None = None
    recipe: Recipe | None = None
    """None: the default rule, or the cut-off where a campaign has one exposure time"""
    certify: bool = True
    """False: new masks wait as candidates, whatever gates and profiles say"""
    only: Collection[CampaignName] | None = None
    """None is all"""

    def among(self, campaigns: Sequence[Campaign]) -> list[Campaign]:
        return [one for one in campaigns if self.only is None or name_of(one) in self.only]


def survey(engine: Engine, cameras: Sequence[CameraRow], wanted: Wanted) -> FleetReport:
    """How many campaigns there are, and how many of them have their mask already; nothing is built."""
    tallies = []
    for camera in cameras:
        items, tally = _look_through(engine, camera, wanted)
        tally.failed += [
            note(item.campaign, item.made) for item in items if isinstance(item.made, HotpixError)
        ]
        tallies.append(tally)
    return FleetReport(cameras=tallies)


def build_all(
    engine: Engine,
    act: Act,
    cameras: Sequence[CameraRow],
    wanted: Wanted,
    work: Work,
    progress: Progress | None,
) -> FleetReport:
    """Build and store the mask of every campaign that lacks one, in tasks of `work`.

    A campaign that cannot be built stops no other. Memory grows with the campaigns of one camera and with
    the workers, not with the campaigns of all.

    Raises
    ------
    SchedulerUnreachable, UnfitWorkers, DatabaseUnavailable, StorageError
        What was stored until then stays; the same command goes on there.
    """
    counted = survey(engine, cameras, wanted).cameras
    report = FleetReport(cameras=[CameraTally(camera=c.camera, campaigns=c.campaigns) for c in counted])
    with claims(engine) as held:
        _Run(engine, act, held, work, report, progress, certify=wanted.certify).go_through(
            _items(engine, cameras, wanted, report)
        )
    return report


def _items(
    engine: Engine, cameras: Sequence[CameraRow], wanted: Wanted, report: FleetReport
) -> Iterator[_Item]:
    """What lacks a mask, camera by camera; what has one is counted."""
    for number, camera in enumerate(cameras):
        items, report.cameras[number] = _patiently(partial(_look_through, engine, camera, wanted))
        waiting = deque(items)
        del items  # what is done with is let go
        while waiting:
            yield waiting.popleft()


def _look_through(engine: Engine, camera: CameraRow, wanted: Wanted) -> tuple[list[_Item], CameraTally]:
    """The campaigns of a camera that lack their mask, by series and time; the others are counted."""
    plan = build.plan(engine, camera, nights=wanted.nights, exposures_s=wanted.exposures_s)
    campaigns = wanted.among(plan.campaigns)
    with reading(engine) as connection:
        stored = queries.build_keys(connection, camera.camera_id)
        revoked = queries.revocations(connection, list(stored.values()))
        defects = queries.defects(connection, camera.camera_id)
    tally = CameraTally(camera=camera.name, campaigns=len(campaigns))
    items: list[_Item] = []
    followed: list[tuple[_Item, int | None]] = []
    for campaign in campaigns:
        item = _Item(dataclasses.replace(campaign, refused=()), camera, tally)
        try:
            item.recipe = build.recipe_for(campaign, wanted.recipe)
            item.ingredients = build.ingredients_of(item.campaign, camera, item.recipe, defects)
        except HotpixError as error:
            item.made = error
            items.append(item)
            continue
        mask_id = stored.get(item.key)
        if mask_id is not None and (revocation := revoked.get(mask_id)) is not None:
            tally.revoked.append(note(campaign, build.revoked_build(mask_id, revocation), mask_id))
        elif item.recipe.rule is Rule.PERSIST:
            followed.append((item, mask_id))
        elif mask_id is None:
            items.append(item)
        else:
            tally.had(campaign, mask_id)
    return [*items, *_not_followed(engine, camera, followed)], tally


def _not_followed(
    engine: Engine, camera: CameraRow, followed: Sequence[tuple[_Item, int | None]]
) -> Iterator[_Item]:
    """The campaigns, each with its own evidence, up to which pixels were not followed; others are counted.

    Evidence that is still to come changes what follows it within the epoch.
    """
    if not followed:
        return
    to_come: set[tuple[int, Validity]] = set()
    with reading(engine) as connection:
        events_us = epochs_us(queries.events(connection, camera.camera_id), camera)
        for item, evidence_id in followed:
            place = item.series_id, epoch_of(item.campaign.start_us, events_us)
            if evidence_id is None:
                to_come.add(place)
            elif place not in to_come:
                mask_id = derived.followed_up_to(connection, camera, evidence_id)
                if mask_id is not None:
                    item.tally.had(item.campaign, mask_id)
                    continue
            yield item


class _Run:
    """The state of one run: what was begun and is not settled, by series and by build key."""

    def __init__(
        self,
        engine: Engine,
        act: Act,
        held: Claims,
        work: Work,
        report: FleetReport,
        progress: Progress | None,
        *,
        certify: bool,
    ) -> None:
        self._engine, self._act, self._claims, self._work = engine, act, held, work
        self._report, self._progress, self._certify = report, progress, certify
        self._lines: dict[int, deque[_Item]] = {}
        self._in_work: dict[str, _Item] = {}
        self._elsewhere: set[_Item] = set()
        self._looked = time.monotonic()

    def go_through(self, items: Iterator[_Item]) -> None:
        more = True
        while more or self._lines:
            more = more and self._begin_as_many_as_fit(items)
            self._tell()
            if self._lines:
                ended = self._work.next(_LOOK_S)
                if ended is not None:
                    self._take_in(ended)
                self._look_elsewhere()
        self._tell()

    def _begin_as_many_as_fit(self, items: Iterator[_Item]) -> bool:
        """Begin campaigns while there is room; False: there are no more."""
        places = self._work.places()
        while (
            len(self._in_work) < places
            and self._begun() < _WAITING * places
            and len(self._elsewhere) < _MOST_ELSEWHERE
        ):
            item = next(items, None)
            if item is None:
                return False
            self._lines.setdefault(item.series_id, deque()).append(item)
            if item.made is None:
                self._claim(item)
            self._settle(item.series_id)
        return True

    def _begun(self) -> int:
        return sum(map(len, self._lines.values())) - len(self._elsewhere)

    def _claim(self, item: _Item) -> None:
        """Let an item be computed, unless it is stored by now or another process is at it."""
        item.claimed = _patiently(lambda: self._claims.take(item.key))
        if not item.claimed:
            self._elsewhere.add(item)
            return
        self._elsewhere.discard(item)
        item.made = _patiently(partial(self._stored, item))
        if item.made is None:
            self._in_work[item.key] = item
            assert item.ingredients is not None
            self._work.submit(item.key, build_mask, item.ingredients)

    def _stored(self, item: _Item) -> BuildResult | RevokedMask | None:
        assert item.ingredients is not None
        try:
            with reading(self._engine) as connection:
                return build.known(connection, item.ingredients)
        except RevokedMask as error:
            return error

    def _look_elsewhere(self) -> None:
        """See what became of campaigns of other processes, now and then."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        heads = [line[0] for line in self._lines.values()]
        for item in [head for head in heads if head in self._elsewhere]:
            self._claim(item)
            self._settle(item.series_id)
        self._looked = time.monotonic()

    def _take_in(self, ended: Ended) -> None:
        item = self._in_work.pop(ended.key)
        host, made = ended.value or ("", ended.error)
        if isinstance(made, UnfitWorkers):
            raise made
        if isinstance(made, FrameChanged) and self._work.far:
            made = _of_worker(made, host, item.campaign)
        assert made is not None
        item.made = made
        self._settle(item.series_id)

    def _settle(self, series_id: int) -> None:
        """Finish what heads its series, in the order of time."""
        line = self._lines[series_id]
        while line and line[0].made is not None:
            item = line.popleft()
            self._finish(item)
            if item.claimed:
                _patiently(lambda: self._claims.give_back(item.key))  # noqa: B023
            self._tell()
        if not line:
            del self._lines[series_id]

    def _finish(self, item: _Item) -> None:
        made, tally = item.made, item.tally
        if isinstance(made, BuiltMask | BuildResult):
            assert item.recipe is not None
            finish = partial(
                build.finish,
                self._engine,
                self._act,
                made,
                item.campaign,
                item.camera,
                item.recipe,
                certify=self._certify,
            )
            try:
                result = _patiently(finish)
            except (DatabaseUnavailable, StorageError):
                raise
            except HotpixError as error:
                made = error
            else:
                tally.got(item.campaign, result)
                return
        if isinstance(made, RevokedMask):
            tally.revoked.append(note(item.campaign, made))
        elif isinstance(made, HotpixError):
            tally.failed.append(note(item.campaign, made))
        elif made is not None:
            series, night = name_of(item.campaign)
            log.error("A bug met the campaign of %s of %s:", night, series, exc_info=made)
            tally.failed.append(note(item.campaign, made))
            self._report.bugs += 1

    def _tell(self) -> None:
        self._report.elsewhere = len(self._elsewhere)
        if self._progress is not None:
            self._progress(self._report)


def _patiently(ask: Callable[[], T]) -> T:
    """Ask a database again while it is away, which a restart is."""
    began, pause_s = time.monotonic(), 0.5
    while True:
        try:
            return ask()
        except DatabaseAway as error:
            if time.monotonic() - began > _PATIENCE_S:
                raise
            log.warning("%s Trying again in %g s.", error.message, pause_s)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 15.0)


def _of_worker(error: FrameChanged, host: str, campaign: Campaign) -> HotpixError:
    """What a worker did not find as it was catalogued; if it is here, it is the worker that lacks it."""
    told = f"On the worker {host}: {error.message}"
    are_here = all(any(map(os.path.isfile, frame.paths)) for frame in campaign.used)
    if "vanished" in error.message and are_here:
        raise UnfitWorkers(
            f"{told} On this machine all its frames are there.",
            next_step="Mount the archive at the same path where workers run, and run the same command again.",
        )
    return FrameChanged(told, next_step=error.next_step)
