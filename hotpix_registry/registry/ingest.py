"""Files in: every file ends as accepted, known, skipped or rejected, each with its reason."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.domain import Facts, Kind
from hotpix_registry.errors import UnreadableFrame, UsageError
from hotpix_registry.fits import headers, keywords
from hotpix_registry.fits.headers import FrameHeader
from hotpix_registry.fits.keywords import KeywordProfile
from hotpix_registry.registry.frames import CameraBook, corrected, find_twin, record_reading

Progress = Callable[[int, int], None]

_FITS_NAMES = (".fits", ".fit", ".fts", ".fz")
_BATCH_FILES = 200
_BATCH_SECONDS = 5.0


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


# --- which files ------------------------------------------------------------------


class Found(NamedTuple):
    """A file to look at; one found in a folder is skipped by its name, one named is always opened."""

    path: str
    named: bool


def find_files(arguments: Sequence[str], *, recursive: bool, listed: Iterable[str] = ()) -> list[Found]:
    """Files behind arguments: files, folders, globs, `@list.txt`, and `-` for a list on standard input.

    `listed` adds more paths.

    Raises
    ------
    UsageError
        An argument that names nothing.
    """
    found: list[Found] = []
    for argument in arguments:
        if argument == "-":
            found += [
                Found(os.path.abspath(line), True) for line in _lines(os.fsdecode(sys.stdin.buffer.read()))
            ]
        elif argument.startswith("@"):
            found += [Found(os.path.abspath(line), True) for line in _lines(_read(argument[1:]))]
        elif os.path.isdir(argument):
            found += [Found(path, False) for path in _walk(os.path.abspath(argument), recursive)]
        elif os.path.lexists(argument):
            found.append(Found(os.path.abspath(argument), True))
        elif matches := sorted(glob.glob(argument, recursive=True)):
            for match in matches:
                if os.path.isdir(match):
                    found += [Found(path, False) for path in _walk(os.path.abspath(match), recursive)]
                else:
                    found.append(Found(os.path.abspath(match), True))
        else:
            raise UsageError(f"There is no file or folder {argument}.", next_step="Check the path.")
    found += [Found(os.path.abspath(line), True) for line in listed]
    return list({f.path: f for f in found}.values())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The list {path} cannot be read: {error}.", next_step="Write one path a line."
        ) from None


def _lines(text: str) -> list[str]:
    lines = text.replace("\0", "\n").splitlines()  # `find -print0` ends names with a zero
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _walk(folder: str, recursive: bool) -> Iterator[str]:
    """Files in the order of their names; a folder that cannot be read stands for itself."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if os.path.isdir(entry.path):
            if recursive and not entry.is_symlink():
                yield from _walk(entry.path, recursive)
        else:
            yield entry.path


def looks_like_fits(path: str) -> bool:
    name = path.lower()
    for ending in (".gz", ".bz2"):
        name = name.removesuffix(ending)
    return name.endswith(_FITS_NAMES)


# --- reading, with no transaction open ------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A dark, bias or master that was read and hashed, ready to be written."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str
    header: FrameHeader
    facts: Facts
    same_as: str | None = None
    """digest of the earlier frame of its start whose pixels it has, '' where none has; None: not compared"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides how headers are read in one run."""

    profiles: tuple[KeywordProfile, ...]
    kind: Kind | None
    n_combined: int | None

    @property
    def digest(self) -> str:
        text = f"{keywords.rules_digest(self.profiles)} {self.kind} {self.n_combined}"
        return hashlib.sha256(text.encode()).hexdigest()

    def interpret(self, header: FrameHeader) -> Facts:
        profile = keywords.choose_profile(header, self.profiles)
        return keywords.interpret(header, profile, kind=self.kind, n_combined=self.n_combined)

    def given_by_hand(self, facts: Facts) -> dict[str, Any]:
        """What `--type` and `--ncombine` decided about a frame, as corrections that outlive a reread."""
        given: dict[str, Any] = {}
        if self.kind is not None:
            given["kind"] = str(facts.kind)
        if self.n_combined is not None:
            given["n_combined"] = facts.n_combined
        return given


def current_rules(
    connection: Connection, *, kind: Kind | None = None, n_combined: int | None = None
) -> Rules:
    """The shipped keyword profiles and the users' own, which win over a shipped one of their name."""
    own = [keywords.load_keyword_profile(text) for text in queries.keyword_profile_texts(connection)]
    return rules_with(own, kind=kind, n_combined=n_combined)


def rules_with(
    own: Sequence[KeywordProfile], *, kind: Kind | None = None, n_combined: int | None = None
) -> Rules:
    """The shipped keyword profiles and others, which win over a shipped one of their name."""
    names = {profile.name for profile in own}
    shipped = [p for p in keywords.shipped_keyword_profiles() if p.name not in names]
    return Rules(profiles=(*shipped, *own), kind=kind, n_combined=n_combined)


def printable(path: str) -> str:
    """A name that is no text is written as Python writes it: \\udce9."""
    return path.encode(errors="backslashreplace").decode()


def sha256_of(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_candidate(path: str, rules: Rules) -> Candidate | str:
    """Read a file's header, and hash it if it is a dark; else the frame type for which it is skipped.

    Raises
    ------
    UnreadableFrame
        With the reason for which the file is rejected.
    """
    before = _stat(path)
    header = headers.read_header(path)
    facts = rules.interpret(header)
    if facts.kind is None:
        return facts.frame_type or "no type"
    problems = reasons_to_reject(facts)
    if problems:
        raise UnreadableFrame(" ".join(problems))
    headers.check_complete(path, header)
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise UnreadableFrame(f"It cannot be read: {error.strerror}.") from None
    after = _stat(path)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnreadableFrame("It changed while it was read; ingest it again when it is complete.")
    return Candidate(
        path=path,
        size_bytes=after.st_size,
        mtime_ns=after.st_mtime_ns,
        sha256=sha256,
        header=header,
        facts=facts,
    )


def checked_stat(found: Found) -> os.stat_result:
    """What the system says of a file, unless its name is no text or it is a closed folder.

    Raises
    ------
    UnreadableFrame
    """
    try:
        found.path.encode()
    except UnicodeEncodeError:
        raise UnreadableFrame("Its name is not valid UTF-8.", next_step="Rename it.") from None
    stat = _stat(found.path)
    if not found.named and S_ISDIR(stat.st_mode):
        raise UnreadableFrame(
            "The folder may not be read by this user.",
            next_step="Change its permissions or run as its owner.",
        )
    return stat


def _stat(path: str) -> os.stat_result:
    try:
        return Path(path).stat()
    except OSError as error:
        raise UnreadableFrame(f"It cannot be read: {error.strerror}.") from None


def reasons_to_reject(facts: Facts) -> list[str]:
    """Sentences for which a dark cannot be catalogued, whatever its camera."""
    reasons = list(facts.problems)
    if facts.start_us is None and not reasons:
        reasons.append("Its header gives no date of observation; name the keyword in a keyword profile.")
    if facts.exptime_s is None and facts.kind in (Kind.DARK, Kind.MASTER_DARK) and not facts.problems:
        reasons.append("Its header gives no exposure time; name the keyword in a keyword profile.")
    return reasons


# --- the use case -----------------------------------------------------------------------


def ingest(
    engine: Engine,
    act: Act,
    files: Sequence[Found],
    *,
    camera: str | None,
    kind: Kind | None,
    n_combined: int | None,
    dry_run: bool,
    progress: Progress | None,
) -> IngestReport:
    """Catalogue files; what was read is written in batches, each one short transaction."""
    with reading(engine) as connection:
        rules = current_rules(connection, kind=kind, n_combined=n_combined)
        known = queries.known_files(connection)
        skipped = queries.passed_over_files(connection, rules.digest)
    report = IngestReport(dry_run=dry_run)
    batch = _Batch(engine, act, rules, camera, report)
    for number, found in enumerate(files):
        if progress is not None:
            progress(number, len(files))
        _look_at(found, rules, known, skipped, batch, report)
        if batch.is_due:
            batch.write()
    batch.write()
    if progress is not None:
        progress(len(files), len(files))
    return report


def _look_at(
    found: Found,
    rules: Rules,
    known: dict[str, tuple[int, int, int]],
    skipped: dict[str, tuple[int, int, str]],
    batch: _Batch,
    report: IngestReport,
) -> None:
    path = found.path
    if not found.named and not os.path.isdir(path) and not looks_like_fits(path):
        report.skipped_by_type["no FITS file by its name"] += 1
        return
    size_bytes, mtime_ns = 0, 0
    try:
        stat = checked_stat(found)
        size_bytes, mtime_ns = stat.st_size, stat.st_mtime_ns
        if path in known and known[path][:2] == (size_bytes, mtime_ns):
            report.known += 1
            return
        if path in skipped and skipped[path][:2] == (size_bytes, mtime_ns):
            report.skipped_by_type[skipped[path][2]] += 1
            return
        candidate = read_candidate(path, rules)
    except UnreadableFrame as error:
        path = printable(path)
        report.rejected.append((path, str(error)))
        batch.pass_over(path, size_bytes, mtime_ns, "rejected", "", str(error))
        return
    if isinstance(candidate, str):
        report.skipped_by_type[candidate] += 1
        batch.pass_over(path, size_bytes, mtime_ns, "skipped", candidate, "not a dark")
        return
    batch.candidates.append(candidate)


class _Batch:
    """What has been read and waits to be written."""

    def __init__(
        self, engine: Engine, act: Act, rules: Rules, camera: str | None, report: IngestReport
    ) -> None:
        self.engine, self.act, self.rules, self.camera, self.report = engine, act, rules, camera, report
        self.rules_digest = rules.digest
        self.candidates: list[Candidate] = []
        self.passed: list[dict[str, Any]] = []
        self.started = time.monotonic()

    def pass_over(
        self, path: str, size_bytes: int, mtime_ns: int, outcome: str, frame_type: str, reason: str
    ) -> None:
        self.passed.append(
            {
                "path": path,
                "size_bytes": size_bytes,
                "mtime_ns": mtime_ns,
                "rules_digest": self.rules_digest,
                "outcome": outcome,
                "frame_type": frame_type,
                "reason": reason,
            }
        )

    @property
    def is_due(self) -> bool:
        waiting = len(self.candidates) + len(self.passed)
        late = waiting > 0 and time.monotonic() - self.started > _BATCH_SECONDS
        return not self.report.dry_run and (waiting >= _BATCH_FILES or late)

    def write(self) -> None:
        candidates, passed = self.candidates, self.passed
        self.candidates, self.passed, self.started = [], [], time.monotonic()
        if not candidates and (not passed or self.report.dry_run):
            return
        with reading(self.engine) as connection:
            candidates = [_compare_pixels(connection, c, candidates[:i]) for i, c in enumerate(candidates)]
        with writing(self.engine) as connection:
            if candidates:
                self._write_candidates(connection, candidates)
            queries.remember_passed_over(connection, [*passed, *self.passed])
            self.passed = []
            if self.report.dry_run:
                connection.get_transaction().rollback()  # type: ignore[union-attr]

    def _write_candidates(self, connection: Connection, candidates: Sequence[Candidate]) -> None:
        tx = queries.open_transaction(connection, self.act, "ingest", now_us=time.time_ns() // 1000)
        book = CameraBook(connection, tx)
        ids = queries.frame_ids(connection, [c.sha256 for c in candidates])
        for candidate in candidates:
            frame_id = ids.get(candidate.sha256)
            if frame_id is None:
                try:
                    camera = book.camera_of(candidate.facts, self.camera)
                except UnreadableFrame as error:
                    self.report.rejected.append((candidate.path, str(error)))
                    self.pass_over(
                        candidate.path,
                        candidate.size_bytes,
                        candidate.mtime_ns,
                        "rejected",
                        str(candidate.facts.kind),
                        str(error),
                    )
                    continue
                frame_id = ids[candidate.sha256] = self._add(connection, candidate, camera, tx)
                self.report.accepted += 1
            else:
                self.report.known += 1
            self._locate(connection, candidate, frame_id, tx)
        queries.forget_passed_over(connection, [candidate.path for candidate in candidates])
        self.report.notices += book.notices

    def _add(self, connection: Connection, candidate: Candidate, camera: CameraRow, tx: int) -> int:
        frame_id = queries.add_frame(
            connection,
            sha256=candidate.sha256,
            size_bytes=candidate.size_bytes,
            compression=candidate.header.compression,
            header=candidate.header.text,
            tx=tx,
        )
        by_hand = self.rules.given_by_hand(candidate.facts)
        for name, value in by_hand.items():
            queries.put_override(connection, frame_id, name, value, reason="given at ingest", tx=tx)
        facts = corrected(candidate.facts, by_hand)
        twin_of = find_twin(connection, camera.camera_id, facts, same_as=candidate.same_as)
        record_reading(connection, frame_id, camera, facts, twin_of=twin_of, tx=tx)
        if twin_of is not None:
            self.report.notices.append(
                f"{candidate.path} is the same exposure as frame {twin_of}, saved again; one of them is used."
            )
        return frame_id

    def _locate(self, connection: Connection, candidate: Candidate, frame_id: int, tx: int) -> None:
        replaced = queries.put_location(
            connection,
            frame_id,
            candidate.path,
            size_bytes=candidate.size_bytes,
            mtime_ns=candidate.mtime_ns,
            tx=tx,
        )
        if replaced is not None:
            self.report.notices.append(
                f"{candidate.path} has changed since its ingest: it is frame {frame_id} now and was "
                f"frame {replaced} before."
            )


def _compare_pixels(connection: Connection, candidate: Candidate, before: Sequence[Candidate]) -> Candidate:
    """Settle by the pixels whether exposures too short for their clock are one or several.

    Two biases in one second with a header that knows whole seconds share start and exposure time.
    """
    facts = candidate.facts
    if (facts.exptime_s or 0.0) > facts.start_precision_s:
        return candidate
    catalogued = queries.frames_started_at(connection, facts.start_us or 0, candidate.sha256)
    rivals = [(frame.sha256, path, frame.facts) for frame in catalogued for path in frame.paths]
    rivals += [(c.sha256, c.path, c.facts) for c in before if c.sha256 != candidate.sha256]
    alike = [
        (sha256, path)
        for sha256, path, other in rivals
        if (other.start_us, other.exptime_s, other.shape) == (facts.start_us, facts.exptime_s, facts.shape)
    ]
    same_as = next((sha256 for sha256, path in alike if _same_pixels(candidate.path, path)), "")
    return dataclasses.replace(candidate, same_as=same_as)


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
