"""What an ingest has read and what becomes of it: judged against the catalogue, written in batches."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, CameraRow, Exposure, Location, NewFrame
from hotpix_registry.domain import Facts
from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits.headers import FrameHeader
from hotpix_registry.registry.frames import CameraBook, corrected, may_be_several, reading_of

_FILES = 500
_SECONDS = 5.0


@dataclass(slots=True)
class IngestReport:
    """What became of every file: each is counted exactly once."""

    accepted: int = 0
    known: int = 0
    skipped_by_type: Counter[str] = field(default_factory=Counter)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason)"""
    notices: list[str] = field(default_factory=list)
    dry_run: bool = False

    @property
    def skipped(self) -> int:
        return self.skipped_by_type.total()

    def as_dict(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "known": self.known,
            "skipped": self.skipped,
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
            "skipped_by_type": dict(sorted(self.skipped_by_type.items())),
            "notices": self.notices,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A dark, bias or master that was read and hashed, ready to be written."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str
    header: FrameHeader
    facts: Facts
    by_hand: Mapping[str, Any]
    """what `--type` and `--ncombine` decided, as corrections that outlive a reread"""
    same_as: str | None = None
    """digest of the earlier frame of its start whose pixels it has, '' where none has; None: not compared"""


class PassedOver(NamedTuple):
    """A file that is not catalogued, or is already."""

    path: str
    size_bytes: int = 0
    mtime_ns: int = 0
    outcome: str = "skipped"
    """known, skipped or rejected"""
    frame_type: str = ""
    reason: str = ""
    """why; '' where that needs no remembering"""


@dataclass(slots=True)
class _New:
    """A candidate that is not catalogued yet."""

    candidate: Candidate
    camera: CameraRow
    facts: Facts
    twin: str | None = None
    """digest of the frame that is the same exposure"""

    @property
    def exposure(self) -> Exposure:
        facts = self.facts
        kind, start_us, exptime_s = str(facts.kind), facts.start_us or 0, facts.exptime_s or 0.0
        return self.camera.camera_id, kind, start_us, exptime_s, facts.shape


class Batch:
    """What has been read and waits to be judged and written; a dry run only judges."""

    def __init__(
        self,
        engine: Engine,
        act: Act,
        rules_digest: str,
        camera: str | None,
        report: IngestReport,
        reason: str | None = None,
    ) -> None:
        self._engine, self._act, self._rules_digest, self._camera = engine, act, rules_digest, camera
        self._report, self._reason = report, reason
        self._candidates: list[Candidate] = []
        self._passed: list[PassedOver] = []
        self._started = time.monotonic()
        self._rehearsed: _Rehearsed | None = None

    def add(self, verdict: Candidate | PassedOver) -> None:
        """Take in what was read; a full batch is written."""
        if isinstance(verdict, Candidate):
            self._candidates.append(verdict)
        else:
            self._pass_over(verdict)
        waiting = len(self._candidates) + len(self._passed)
        if waiting >= _FILES or (waiting and time.monotonic() - self._started > _SECONDS):
            self.write()

    def _pass_over(self, passed: PassedOver) -> None:
        match passed.outcome:
            case "known":
                self._report.known += 1
            case "skipped":
                self._report.skipped_by_type[passed.frame_type] += 1
            case _:
                self._report.rejected.append((passed.path, passed.reason))
        if passed.reason and not self._report.dry_run:
            self._passed.append(passed)

    def write(self) -> None:
        """Write what waits in one short transaction."""
        candidates, self._candidates = _compare_pixels(self._engine, self._candidates), []
        if self._report.dry_run:
            self._rehearse(candidates)
        elif candidates or self._passed:
            with writing(self._engine) as connection:
                if candidates:
                    self._enter(connection, candidates)
                rows = [passed._asdict() | {"rules_digest": self._rules_digest} for passed in self._passed]
                queries.remember_passed_over(connection, rows)
        self._passed, self._started = [], time.monotonic()

    def _enter(self, connection: Connection, candidates: Sequence[Candidate]) -> None:
        now_us = time.time_ns() // 1000
        tx = queries.open_transaction(connection, self._act, "ingest", now_us=now_us, reason=self._reason)
        ids = queries.frame_ids(connection, [c.sha256 for c in candidates])
        book = CameraBook(connection, tx)
        new, placed = self._judge(candidates, ids, book)
        ids |= _find_twins(new, queries.exposures(connection, *_where_and_when(new)))
        ids |= queries.add_frames(connection, [_frame(one.candidate) for one in new], tx)
        _record(connection, new, ids, tx)
        _correct_by_hand(connection, new, ids, tx)
        places = [Location(c.path, ids[c.sha256], c.size_bytes, c.mtime_ns) for c in placed]
        replaced = queries.put_locations(connection, places, tx)
        queries.forget_passed_over(connection, [candidate.path for candidate in candidates])
        self._report.notices += [*_twin_notices(new, ids), *book.notices]
        self._report.notices += [
            f"{place.path} has changed since its ingest: it is frame {place.frame_id} now and was "
            f"frame {replaced[place.path]} before."
            for place in places
            if place.path in replaced
        ]

    def _rehearse(self, candidates: Sequence[Candidate]) -> None:
        """Judge as `_enter` does, with nothing written and no lock taken."""
        with reading(self._engine) as connection:
            if self._rehearsed is None:
                self._rehearsed = _Rehearsed(CameraBook(connection, None))
            before = self._rehearsed
            ids = queries.frame_ids(connection, [c.sha256 for c in candidates])
            new, _ = self._judge(candidates, ids.keys() | before.digests, before.book)
            known = queries.exposures(connection, *_where_and_when(new))
        for exposure in {one.exposure for one in new}:
            known[exposure] |= before.exposures[exposure]
        ids |= _find_twins(new, known)
        for one in new:
            before.digests.add(one.candidate.sha256)
            if one.twin is None:
                before.exposures[one.exposure][one.candidate.sha256] = None
        self._report.notices += [*_twin_notices(new, ids), *before.book.notices]
        before.book.notices = []

    def _judge(
        self, candidates: Sequence[Candidate], known: Container[str], book: CameraBook
    ) -> tuple[list[_New], list[Candidate]]:
        """The new frames, and all that have a place in the catalogue; those of no camera are rejected."""
        new: dict[str, _New] = {}
        placed = []
        for candidate in candidates:
            if candidate.sha256 in known or candidate.sha256 in new:
                self._report.known += 1
            else:
                try:
                    camera = book.camera_of(candidate.facts, self._camera)
                except UnreadableFrame as error:
                    self._pass_over(_rejected(candidate, str(error)))
                    continue
                facts = corrected(candidate.facts, candidate.by_hand)
                new[candidate.sha256] = _New(candidate, camera, facts)
                self._report.accepted += 1
            placed.append(candidate)
        return list(new.values()), placed


@dataclass(slots=True)
class _Rehearsed:
    """What earlier batches of a dry run would have written, in so far as later ones depend on it."""

    book: CameraBook
    digests: set[str] = field(default_factory=set)
    exposures: defaultdict[Exposure, dict[str, int | None]] = field(default_factory=lambda: defaultdict(dict))


def _rejected(candidate: Candidate, reason: str) -> PassedOver:
    return PassedOver(
        candidate.path,
        candidate.size_bytes,
        candidate.mtime_ns,
        "rejected",
        str(candidate.facts.kind),
        reason,
    )


def _frame(candidate: Candidate) -> NewFrame:
    header = candidate.header
    return NewFrame(candidate.sha256, candidate.size_bytes, header.compression, header.text)


def _record(connection: Connection, new: Sequence[_New], ids: Mapping[str, int], tx: int) -> None:
    series: dict[Any, int] = {}
    readings: dict[int, queries.Reading] = {}
    for one in new:
        twin_of = None if one.twin is None else ids[one.twin]
        readings[ids[one.candidate.sha256]] = reading_of(
            connection, one.camera, one.facts, twin_of=twin_of, tx=tx, known_series=series
        )
    queries.add_readings(connection, readings, tx)


def _correct_by_hand(connection: Connection, new: Sequence[_New], ids: Mapping[str, int], tx: int) -> None:
    for one in new:
        for name, value in one.candidate.by_hand.items():
            frame_id = ids[one.candidate.sha256]
            queries.put_override(connection, frame_id, name, value, reason="given at ingest", tx=tx)


# --- the same exposure saved twice ----------------------------------------------------------


def _where_and_when(new: Sequence[_New]) -> tuple[list[int], list[int]]:
    return sorted({one.camera.camera_id for one in new}), sorted({one.facts.start_us or 0 for one in new})


def _find_twins(new: Sequence[_New], known: defaultdict[Exposure, dict[str, int | None]]) -> dict[str, int]:
    """Note of each new frame which earlier one is the same exposure; the ids of the catalogued ones.

    `known` has the frames of each exposure by digest in their order, with their ids; new ones are added.
    """
    for one in new:
        same, same_as = known[one.exposure], one.candidate.same_as
        if same_as is None:
            one.twin = next(iter(same), None)
        elif same_as in same:
            one.twin = same_as
        if one.twin is None:
            same[one.candidate.sha256] = None
    found = {one.twin: known[one.exposure][one.twin] for one in new if one.twin is not None}
    return {sha256: frame_id for sha256, frame_id in found.items() if frame_id is not None}


def _twin_notices(new: Sequence[_New], ids: Mapping[str, int]) -> Iterator[str]:
    for one in new:
        if one.twin is not None:
            other = f"frame {ids[one.twin]}" if one.twin in ids else "a file before it"
            yield (f"{one.candidate.path} is the same exposure as {other}, saved again; one of them is used.")


def _compare_pixels(engine: Engine, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Settle by the pixels whether exposures too short for their clock are one or several."""
    starts = {c.facts.start_us or 0 for c in candidates if may_be_several(c.facts)}
    if not starts:
        return list(candidates)
    with reading(engine) as connection:
        catalogued = queries.frames_started_at(connection, sorted(starts))
    rivals: defaultdict[int, list[tuple[str, str, Facts]]] = defaultdict(list)
    for start_us, frames in catalogued.items():
        rivals[start_us] += [(frame.sha256, path, frame.facts) for frame in frames for path in frame.paths]
    compared = []
    for candidate in candidates:
        before = rivals[candidate.facts.start_us or 0]
        if may_be_several(candidate.facts):
            candidate = dataclasses.replace(candidate, same_as=_same_as(candidate, before))
        before.append((candidate.sha256, candidate.path, candidate.facts))
        compared.append(candidate)
    return compared


def _same_as(candidate: Candidate, rivals: Sequence[tuple[str, str, Facts]]) -> str:
    facts = candidate.facts
    alike = (
        (sha256, path)
        for sha256, path, other in rivals
        if sha256 != candidate.sha256
        and (other.start_us, other.exptime_s, other.shape) == (facts.start_us, facts.exptime_s, facts.shape)
    )
    return next((sha256 for sha256, path in alike if _same_pixels(candidate.path, path)), "")


def _same_pixels(path: str, other: str) -> bool:
    import numpy as np

    from hotpix_registry.fits.pixels import open_rows

    try:
        with open_rows(path) as a, open_rows(other) as b:
            if a.shape != b.shape:
                return False
            strips = ((y0, min(y0 + 256, a.shape[0])) for y0 in range(0, a.shape[0], 256))
            return all(np.array_equal(a.read(y0, y1), b.read(y0, y1)) for y0, y1 in strips)
    except UnreadableFrame:
        return False
