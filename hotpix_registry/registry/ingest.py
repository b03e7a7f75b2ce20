"""Files in: every file ends as accepted, known, skipped or rejected, each with its reason."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from stat import S_ISDIR
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Engine

from hotpix_registry import places
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import Act
from hotpix_registry.domain import Facts, Kind
from hotpix_registry.errors import NoObject, ObjectsUnavailable, UnreadableFrame, UsageError
from hotpix_registry.fits import headers, keywords
from hotpix_registry.fits.headers import FrameHeader
from hotpix_registry.fits.keywords import KeywordProfile
from hotpix_registry.fits.streams import PlainBytes, StreamBytes, naming, open_bytes
from hotpix_registry.places import Marks, is_url, resolved
from hotpix_registry.registry.batch import Batch, Candidate, IngestReport, PassedOver
from hotpix_registry.work import Work, in_order

Progress = Callable[[int, int], None]

_FITS_NAMES = (".fits", ".fit", ".fts", ".fz")
_LOOKED_UP = 500
"""files whose past is asked for at once"""
_HASHERS = 2
_FETCHERS = 8
"""objects that are waited for at once"""
_AHEAD = 32
"""files that are open, or done, before the first of them is waited for"""
_CHUNK = 50
"""files that a worker reads as one task"""


# --- which files ------------------------------------------------------------------


class Found(NamedTuple):
    """A file to look at; one found in a folder is skipped by its name, one named is always opened."""

    path: str
    """or the URL of an object"""
    named: bool
    marks: Marks | None = None
    """of an object, where a list told them"""


_MOST_STARS = 8
"""each may go through a whole archive"""


def find_files(arguments: Sequence[str], *, recursive: bool, listed: Iterable[str] = ()) -> list[Found]:
    """Files behind arguments: files, folders, globs, `@list.txt`, and `-` for a list on standard input.

    URLs of objects, of prefixes that end with a slash, and globs of URLs are as good as paths. `listed` adds
    more paths.

    Raises
    ------
    UsageError
        An argument that names nothing.
    UnreadableFrame, ObjectsUnavailable
        Objects that cannot be listed.
    """
    found: list[Found] = []
    for argument in arguments:
        if argument == "-":
            found += [Found(resolved(line), True) for line in _lines(os.fsdecode(sys.stdin.buffer.read()))]
        elif argument.startswith("@"):
            found += [Found(resolved(line), True) for line in _lines(_text_of(argument[1:]))]
        elif is_url(argument) and is_url(url := resolved(argument)):
            found += _objects(url, recursive)
        elif os.path.isdir(argument := _path(argument)):
            found += [Found(path, False) for path in _walk(os.path.abspath(argument), recursive)]
        elif os.path.lexists(argument):
            found.append(Found(os.path.abspath(argument), True))
        elif argument.count("*") > _MOST_STARS:
            raise UsageError(
                f"{argument[:60]}… has more than {_MOST_STARS} stars.", next_step="Name a folder, with -r."
            )
        elif matches := sorted(glob.glob(argument, recursive=True)):
            for match in matches:
                if os.path.isdir(match):
                    found += [Found(path, False) for path in _walk(os.path.abspath(match), recursive)]
                else:
                    found.append(Found(os.path.abspath(match), True))
        else:
            raise UsageError(f"There is no file or folder {argument}.", next_step="Check the path.")
    found += [Found(resolved(line), True) for line in listed]
    return list({f.path: f for f in found}.values())


def _path(argument: str) -> str:
    """An argument as it was written, or the path that a file:// means."""
    return resolved(argument) if is_url(argument) else argument


def _objects(url: str, recursive: bool) -> list[Found]:
    """The object at a URL, those below it, or those that it matches as a glob."""
    from hotpix_registry.places import objects

    if url.count("*") > _MOST_STARS:
        raise UsageError(
            f"{url[:60]}… has more than {_MOST_STARS} stars.", next_step="Name a prefix, with -r."
        )
    with naming(url):
        if not url.endswith("/"):
            try:
                return [Found(url, True, objects.marks(url))]
            except NoObject as error:
                if any(star in url for star in "*?["):
                    found = [Found(place, True, marks) for place, marks in objects.matching(url)]
                elif recursive:
                    return _objects(f"{url}/", recursive)
                else:
                    raise UsageError(f"{url}: {error.message}", next_step=error.next_step) from None
        else:
            listed = objects.listed(url, recursive=recursive)
            found = [Found(place, False, marks) for place, marks in listed]
    if not found:
        raise UsageError(f"There is no object at {url}.", next_step="Check the URL, or give -r.")
    return found


def _text_of(path: str) -> str:
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
class Rules:
    """What decides how headers are read in one run."""

    profiles: tuple[KeywordProfile, ...]
    kind: Kind | None
    n_combined: int | None

    @property
    def digest(self) -> str:
        text = f"{keywords.rules_digest(self.profiles)} {self.kind} {self.n_combined}"
        return hashlib.sha256(text.encode()).hexdigest()

    def interpret(self, header: FrameHeader, profile: KeywordProfile | None = None) -> Facts:
        profile = profile or keywords.choose_profile(header, self.profiles)
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
    """Digest of a file or an object as it is stored.

    Raises
    ------
    OSError
        Of a file.
    UnreadableFrame, ObjectsUnavailable
        Of an object.
    """
    if is_url(path):
        with open_bytes(path) as source:
            return source.sha256()
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checked_marks(found: Found) -> Marks:
    """Size and time of a file or an object, unless its name is no text or it is a closed folder.

    Raises
    ------
    UnreadableFrame
    """
    try:
        found.path.encode()
    except UnicodeEncodeError:
        raise UnreadableFrame("Its name is not valid UTF-8.", next_step="Rename it.") from None
    if found.marks is not None:
        return found.marks
    if is_url(found.path):
        return _marks(found.path)
    try:
        stat = os.stat(found.path)
    except OSError as error:
        raise _cannot_be_read(error) from None
    if not found.named and S_ISDIR(stat.st_mode):
        raise UnreadableFrame(
            "The folder may not be read by this user.",
            next_step="Change its permissions or run as its owner.",
        )
    return Marks(stat.st_size, stat.st_mtime_ns)


def _marks(path: str) -> Marks:
    try:
        return places.marks(path)
    except OSError as error:
        raise _cannot_be_read(error) from None


def _cannot_be_read(error: OSError) -> UnreadableFrame:
    return UnreadableFrame(f"It cannot be read: {error.strerror}.")


def reasons_to_reject(facts: Facts) -> list[str]:
    """Sentences for which a dark cannot be catalogued, whatever its camera."""
    reasons = list(facts.problems)
    if facts.start_us is None and not reasons:
        reasons.append("Its header gives no date of observation; name the keyword in a keyword profile.")
    if facts.exptime_s is None and facts.kind in (Kind.DARK, Kind.MASTER_DARK) and not facts.problems:
        reasons.append("Its header gives no exposure time; name the keyword in a keyword profile.")
    return reasons


_NIGHTS = re.compile(r"in the nights? (\d{4}-\d\d-\d\d)(?: to (\d{4}-\d\d-\d\d))?")


def without_night(sentence: str) -> str:
    """A sentence on a frame with its night left out: what it has in common with those on other nights."""
    return _NIGHTS.sub("in the night", sentence)


def join_nights(one: str, other: str) -> str:
    """Two sentences that differ in their nights alone as one, with the first and the last night."""
    nights = [night for text in (one, other) for found in _NIGHTS.findall(text) for night in found if night]
    if not nights or min(nights) == max(nights):
        return one
    return _NIGHTS.sub(f"in the nights {min(nights)} to {max(nights)}", one)


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
    reason: str | None = None,
    work: Work | None = None,
) -> IngestReport:
    """Catalogue files; what was read is written in batches, each one short transaction.

    `work` reads and hashes them; without, this process does.
    """
    with reading(engine) as connection:
        rules = current_rules(connection, kind=kind, n_combined=n_combined)
    report = IngestReport(dry_run=dry_run)
    batch = Batch(engine, act, rules.digest, camera, report, reason)
    try:
        for number, verdict in enumerate(_verdicts(engine, files, rules, work)):
            if progress is not None:
                progress(number, len(files))
            batch.add(verdict)
    except ObjectsUnavailable:  # what was read until then is not lost
        batch.write()
        raise
    batch.write()
    if progress is not None:
        progress(len(files), len(files))
    return report


def _verdicts(
    engine: Engine, files: Sequence[Found], rules: Rules, work: Work | None
) -> Iterator[Candidate | PassedOver]:
    """What becomes of each file, in their order."""
    looked_up = _looked_up(engine, files, rules)
    if work is None:
        return _read_all(looked_up, rules)
    texts = tuple(profile.text for profile in rules.profiles)
    chunks = iter(lambda: tuple(islice(looked_up, _CHUNK)), ())
    tasks = (_Chunk(files, texts, rules.kind, rules.n_combined) for files in chunks)
    return chain.from_iterable(in_order(work, read_files, tasks))


def _looked_up(
    engine: Engine, files: Sequence[Found], rules: Rules
) -> Iterator[tuple[Found, PassedOver | None]]:
    """Files with what earlier ingests left of them."""
    for start in range(0, len(files), _LOOKED_UP):
        part = files[start : start + _LOOKED_UP]
        remembered = _remembered(engine, [found.path for found in part], rules)
        for found in part:
            yield found, remembered.get(found.path)


def _read_all(
    files: Iterable[tuple[Found, PassedOver | None]], rules: Rules
) -> Iterator[Candidate | PassedOver]:
    """What becomes of files, in their order; darks are hashed in threads while others are looked at."""
    ahead: deque[PassedOver | Future[Candidate | PassedOver]] = deque()
    hashers, fetchers = ThreadPoolExecutor(_HASHERS), ThreadPoolExecutor(_FETCHERS)
    try:
        for found, before in files:
            ahead.append(_look_at(found, rules, before, hashers, fetchers))
            if len(ahead) > _AHEAD:
                yield _settled(ahead.popleft())
        while ahead:
            yield _settled(ahead.popleft())
    finally:
        hashers.shutdown(cancel_futures=True)
        fetchers.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Files for a worker, and the rules by which it reads their headers."""

    files: tuple[tuple[Found, PassedOver | None], ...]
    profiles: tuple[str, ...]
    kind: Kind | None
    n_combined: int | None


def read_files(chunk: _Chunk) -> list[Candidate | PassedOver]:
    """What becomes of some files, found out without a database."""
    rules = Rules(profiles=_loaded(chunk.profiles), kind=chunk.kind, n_combined=chunk.n_combined)
    verdicts = _read_all(chunk.files, rules)
    return [_seen(found, verdict) for (found, _), verdict in zip(chunk.files, verdicts, strict=True)]


@lru_cache(maxsize=4)
def _loaded(profiles: tuple[str, ...]) -> tuple[KeywordProfile, ...]:
    return tuple(map(keywords.load_keyword_profile, profiles))


def _seen(found: Found, verdict: Candidate | PassedOver) -> Candidate | PassedOver:
    """A verdict that tells on which machine a file is not to be seen."""
    if isinstance(verdict, Candidate) or verdict.outcome != "rejected":
        return verdict
    if is_url(found.path) or os.path.lexists(found.path):
        return verdict
    why = f"The worker on {socket.gethostname()} does not see it: mount the archive there at the same path."
    return verdict._replace(reason=why)


def _settled(verdict: PassedOver | Future[Candidate | PassedOver]) -> Candidate | PassedOver:
    return verdict.result() if isinstance(verdict, Future) else verdict


def _remembered(engine: Engine, paths: Sequence[str], rules: Rules) -> dict[str, PassedOver]:
    """What earlier ingests left of some files."""
    names = [path for path in paths if printable(path) == path]
    with reading(engine) as connection:
        known = queries.known_files(connection, names)
        skipped = queries.passed_over_files(connection, rules.digest, names)
    found = {
        path: PassedOver(path, size_bytes, mtime_ns, "skipped", frame_type)
        for path, (size_bytes, mtime_ns, frame_type) in skipped.items()
    }
    return found | {
        path: PassedOver(path, size_bytes, mtime_ns, "known")
        for path, (size_bytes, mtime_ns, _) in known.items()
    }


def _look_at(
    found: Found, rules: Rules, before: PassedOver | None, hashers: Executor, fetchers: Executor
) -> PassedOver | Future[Candidate | PassedOver]:
    if is_url(found.path):
        return fetchers.submit(_read_object, found, rules, before)
    verdict = _read(found, rules, before)
    return hashers.submit(verdict) if callable(verdict) else verdict


def _read_object(found: Found, rules: Rules, before: PassedOver | None) -> Candidate | PassedOver:
    verdict = _read(found, rules, before)
    return verdict() if callable(verdict) else verdict


Hashing = Callable[[], Candidate | PassedOver]
"""hashes a dark whose header was read"""


def _read(found: Found, rules: Rules, before: PassedOver | None) -> PassedOver | Hashing:
    path = found.path
    if not found.named and not looks_like_fits(path) and not os.path.isdir(path):
        return PassedOver(path, frame_type="no FITS file by its name")
    marks = None
    try:
        marks = checked_marks(found)
        # an object without a time or an ETag may be another one
        told = marks.certain or marks.mtime_ns
        if before is not None and told and (before.size_bytes, before.mtime_ns) == marks[:2]:
            return before
        return _begin(path, marks, rules)
    except UnreadableFrame as error:
        return _rejected(path, marks, error)


def _rejected(path: str, marks: Marks | None, error: UnreadableFrame) -> PassedOver:
    size_bytes, mtime_ns = (0, 0) if marks is None else marks[:2]
    return PassedOver(printable(path), size_bytes, mtime_ns, "rejected", reason=str(error))


def _begin(path: str, marks: Marks, rules: Rules) -> PassedOver | Hashing:
    """Read a file's header; what is left to be done if it is a dark."""
    source = open_bytes(path, marks)
    try:
        header = headers.header_of(source)
        profile = keywords.choose_profile(header, rules.profiles)
        frame_type, kind = keywords.type_of(header, profile, kind=rules.kind)
        if kind is None:
            source.close()
            frame_type = frame_type or "no type"
            return PassedOver(path, *marks[:2], "skipped", frame_type, "not a dark")
        facts = rules.interpret(header, profile)
        problems = reasons_to_reject(facts)
        if problems:
            raise UnreadableFrame(" ".join(problems))
    except BaseException:
        source.close()
        raise
    return partial(_hash, path, marks, source, header, facts, rules.given_by_hand(facts))


def _hash(
    path: str,
    before: Marks,
    source: PlainBytes | StreamBytes,
    header: FrameHeader,
    facts: Facts,
    by_hand: dict[str, Any],
) -> Candidate | PassedOver:
    """Hash a dark whose header was read from the same open file, unless it is incomplete or changes."""
    try:
        with source:
            headers.check_source(source, header)
            sha256 = source.sha256()
        after = _marks(path)
        if before[:2] != after[:2]:
            raise UnreadableFrame("It changed while it was read; ingest it again when it is complete.")
    except UnreadableFrame as error:
        return _rejected(path, before, error)
    return Candidate(
        path=path,
        size_bytes=after.size_bytes,
        mtime_ns=after.mtime_ns,
        sha256=sha256,
        header=header,
        facts=facts,
        by_hand=by_hand,
    )
