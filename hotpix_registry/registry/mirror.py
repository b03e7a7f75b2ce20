"""A mirror: an SQLite copy of a registry that follows it, transaction by transaction.

Each page of changes that completes a transaction is written in one short transaction here, so at any
instant the mirror is the source as it stood at one of its transactions. Parts of a transaction too big for
a page wait in files beside it, and the next sync goes on after them.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy.engine import URL, Engine

from hotpix_registry import settings
from hotpix_registry.catalogue import changes, failures, opening, queries, schema
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue.changes import Page, Record
from hotpix_registry.catalogue.engine import following, reading, writing
from hotpix_registry.catalogue.queries import Act
from hotpix_registry.client.server import Server
from hotpix_registry.errors import (
    Conflict,
    IntegrityError,
    NoRegistry,
    SchemaError,
    ServerUnreachable,
    UsageError,
)
from hotpix_registry.files import make_folder, storage_error, sweep, whole_database, write_atomic
from hotpix_registry.instants import iso
from hotpix_registry.registry import freshness, own_tokens, portability
from hotpix_registry.registry.freshness import Freshness

PATH = "/v1/changes"
LEAST_BYTES = 64 << 10
"""of a page, as long as nothing is known of the line"""
MOST_BYTES = 16 << 20
_ATTEMPTS = 3
"""at a page, each with the retries that every request has"""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a sync brought, and how far the mirror is now."""

    database: str
    source: str
    registry_id: str
    tx: int
    """the newest transaction, here and there"""
    transactions: int
    """that were new, as the rest"""
    masks: int
    frames: int
    bytes: int
    """that were sent"""
    at: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def sync(
    source: str,
    url: URL,
    *,
    warn_after_h: float | None = None,
    most_bytes: int = changes.MOST_BYTES,
    progress: Progress | None = None,
) -> Synced:
    """Bring a mirror up to date, or make it where nothing is.

    Parameters
    ----------
    source
        the URL of a server, or the database of a registry
    url
        of the mirror
    warn_after_h
        at which age its answers warn; None: as before, or after an hour
    most_bytes
        of a page

    Raises
    ------
    UsageError
        The mirror is none, or would be of itself, of a part of a registry, or on PostgreSQL.
    Conflict
        The source is another registry, or its history is not the one that the mirror has.
    IntegrityError
        What came was changed on its way, or does not go on from what is here.
    SchemaError, ServerUnreachable, DatabaseUnavailable, StorageError
    """
    if url.drivername != "sqlite":
        raise UsageError(
            "A mirror is an SQLite file.",
            next_step="Name a file with --database, or use PostgreSQL's replicas.",
        )
    path = Path(str(url.database)).absolute()
    with _opened_source(source, path) as opened:
        try:
            engine = opening.open_database(url, create=False)
        except NoRegistry:
            _make(path, _page_of(opened.page(0, "", LEAST_BYTES), opened))
            engine = opening.open_database(url, create=False)
        sweep(path.parent)  # what one that was killed left while it made the mirror
        try:
            follower = _Sync(opened, engine, path, most_bytes)
            at_us = follower.run(progress)
            with reading(engine) as connection:
                registry_id, tx = queries.registry_id(connection), queries.last_tx(connection)
        finally:
            engine.dispose()
        known = freshness.read(path)
        if warn_after_h is None:
            warn_after_h = freshness.WARN_AFTER_H if known is None else known.warn_after_h
        freshness.write(path, Freshness(source=str(opened), at_us=at_us, warn_after_h=warn_after_h))
    new = follower.new
    return Synced(
        database=str(path),
        source=str(opened),
        registry_id=registry_id,
        tx=tx,
        transactions=new["transactions"],
        masks=new["masks"],
        frames=new["frames"],
        bytes=follower.bytes,
        at=str(iso(at_us)),
    )


def detach(url: URL, act: Act) -> str:
    """Let a mirror be a registry of its own, from its next transaction on; its new id.

    The tokens of its own service become tokens of the registry.

    Raises
    ------
    UsageError
        It is no mirror.
    """
    engine = opening.open_database(url, create=False)
    path = Path(str(url.database)).absolute()
    try:
        with following(engine) as connection:
            new_id = databases.become_own(connection)
            if tokens := own_tokens.in_force(path):
                now_us = time.time_ns() // 1000
                tx = queries.open_transaction(connection, act, "create token", now_us=now_us)
                for row in tokens:
                    queries.add_token(connection, row.name, row.sha256, row.scopes, row.expires_us, tx)
    finally:
        engine.dispose()
    own_tokens.forget(path)
    freshness.forget(path)
    _Incoming(path).clear()
    return str(new_id)


def _make(path: Path, first: Page) -> None:
    """A mirror of a registry as it was before its first transaction."""
    make_folder(path.parent)
    with whole_database(path, replace=path.exists()) as temporary:
        with portability.made(temporary) as target, writing(target) as connection:
            changes.write(connection, first.registries[:1], ())
            databases.mark_copy(connection, databases.MIRROR)
        portability.set_journal(target, "WAL")


# --- sources ----------------------------------------------------------------------------


class Source(Protocol):
    """Where pages come from."""

    def page(self, after: int, at: str, most_bytes: int) -> bytes: ...


class _Database:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __str__(self) -> str:
        return failures.describe(self._engine)

    def page(self, after: int, at: str, most_bytes: int) -> bytes:
        with reading(self._engine) as connection:
            return changes.page(connection, after, at, most_bytes).as_bytes()


class _Service:
    def __init__(self, server: Server) -> None:
        self._server = server

    def __str__(self) -> str:
        return self._server.url

    def page(self, after: int, at: str, most_bytes: int) -> bytes:
        return self._server.get(PATH, {"after": after, "at": at, "most_bytes": most_bytes}).content


@contextmanager
def _opened_source(source: str, mirror: Path) -> Iterator[Source]:
    if source.partition("://")[0] in ("http", "https"):
        server = Server(source, token=settings.setting("server_token"))
        try:
            yield _Service(server)
        finally:
            server.close()
        return
    url = databases.parse_url(source)
    if url.drivername == "sqlite":
        file = Path(str(url.database))
        if file.exists():
            if mirror.exists() and file.samefile(mirror):
                raise UsageError(f"{file} is the mirror itself.", next_step="Name its source.")
            opening.refuse_programs(url)
    try:
        engine = opening.open_database(url, create=False)
    except NoRegistry:
        raise NoRegistry(
            f"There is no registry at {failures.describe(databases.connect(url))}.",
            next_step="Name the URL of a server, or a registry's file.",
        ) from None
    try:
        with reading(engine) as connection:
            if databases.copy_mark(connection) == databases.PART_COPY:
                raise UsageError(
                    f"{failures.describe(engine)} is a part of a registry, and a mirror is of a whole one.",
                    next_step="Name the registry itself.",
                )
        yield _Database(engine)
    finally:
        engine.dispose()


def _page_of(content: bytes, source: Source) -> Page:
    try:
        page = Page.from_bytes(content)
    except ValueError as error:
        raise IntegrityError(
            f"What {source} sent is no page of changes, or not all of it: {error}.", next_step="Sync again."
        ) from None
    if page.schema != schema.REVISION:
        raise SchemaError(
            f"{source} has schema {page.schema}, and this version {schema.REVISION}.",
            next_step="Install the same version of hotpix-registry at both ends.",
        )
    return page


# --- following --------------------------------------------------------------------------


class _Sync:
    """One sync: pages come in, whole transactions are written."""

    def __init__(self, source: Source, engine: Engine, path: Path, most_bytes: int) -> None:
        self._source, self._engine = source, engine
        self._incoming = _Incoming(path)
        self._page_bytes, self._most_bytes = min(LEAST_BYTES, most_bytes), most_bytes
        self.new: Counter[str] = Counter()
        self.bytes = 0

    def run(self, progress: Progress | None) -> int:
        """Follow until nothing is new; when that was asked for."""
        with following(self._engine) as connection:
            begun = after = queries.last_tx(connection)
        at = self._incoming.begin(after)
        while True:
            asked_us = time.time_ns() // 1000
            content, page = self._ask(after, at)
            self._check(page, after, at)
            if progress is not None:
                progress((page.until or after) - begun, page.newest - begun)
            if page.until is None and not page.records:
                return asked_us
            self.bytes += len(content)
            if page.until is None:
                self._incoming.keep(content)
                at = page.next
                continue
            after = self._write(page)
            at = self._incoming.begin(after)
            if after == page.newest:
                return asked_us

    def _ask(self, after: int, at: str) -> tuple[bytes, Page]:
        """A page, each twice as big as the last; after the line broke, at most half of what broke.

        So a line that lives for a moment brings something each time, and a good one is not kept waiting.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                content = self._source.page(after, at, self._page_bytes)
                page = _page_of(content, self._source)
                break
            except (ServerUnreachable, IntegrityError) as error:
                is_down = isinstance(error, ServerUnreachable) and self._page_bytes <= LEAST_BYTES
                if is_down or attempt == _ATTEMPTS:
                    raise
                self._most_bytes = max(self._page_bytes // 2, LEAST_BYTES)
                self._page_bytes = LEAST_BYTES
        self._page_bytes = min(2 * self._page_bytes, self._most_bytes)
        return content, page

    def _check(self, page: Page, after: int, at: str) -> None:
        """See that it goes on with the history that the mirror has."""
        with reading(self._engine) as connection:
            ours = changes.names(connection, after)
            before = changes.transaction_digest(connection, after)
        again = "Sync into a new file, or name the source that this is a mirror of."
        if page.registries[: len(ours)] != ours:
            named = " and ".join(str(row[0]) for row in page.registries if row)
            raise Conflict(
                f"{self._source} is registry {named}, and this is a mirror of {ours[-1][0]}.", next_step=again
            )
        if page.newest < after:
            raise Conflict(
                f"{self._source} ends with transaction {page.newest}, and this mirror has {after}: "
                "an older state of it was restored.",
                next_step=again,
            )
        if page.before != before:
            raise Conflict(
                f"Transaction {after} of {self._source} is not the one that this mirror has: "
                "their histories went different ways.",
                next_step=again,
            )
        if (page.after, page.at) != (after, at):
            raise IntegrityError(f"{self._source} sent another page than asked for.", next_step="Sync again.")

    def _write(self, page: Page) -> int:
        """Write what waits and the page that completes it; the newest transaction then."""
        with following(self._engine) as connection:
            newest = queries.last_tx(connection)
            if newest != page.after:  # another sync was faster
                return newest
            new = changes.write(connection, page.registries, self._records(page))
            if page.counts is not None and page.counts != changes.counts(connection):
                raise IntegrityError(
                    f"With transaction {page.until} the mirror would not have all rows of {self._source}; "
                    "it was not written.",
                    next_step="Let `hotpix-registry verify` look at both, or sync into a new file.",
                )
        self.new += new
        assert page.until is not None
        return page.until

    def _records(self, page: Page) -> Iterator[Record]:
        for part in self._incoming.pages(page):
            yield from part.records
        yield from page.records


class _Incoming:
    """Parts of a transaction that wait beside the mirror for the rest of it."""

    def __init__(self, database: Path) -> None:
        self._folder = database.with_name(f"{database.name}.incoming")
        self._after = 0
        self._kept = 0

    def begin(self, after: int) -> str:
        """Begin after a transaction with what waits of the next; the place where that ends."""
        self._after, self._kept = after, 0
        at = ""
        for page in self._found():
            if (page.after, page.at) != (after, at) or page.until is not None:
                break
            at, self._kept = page.next, self._kept + 1
        if not self._kept:
            self.clear()
        return at

    def keep(self, content: bytes) -> None:
        write_atomic(make_folder(self._folder) / f"{self._kept:06}.json", content)
        self._kept += 1

    def pages(self, last: Page) -> Iterator[Page]:
        """What waits, all that stands before the page that completes it."""
        at = ""
        for number in range(self._kept):
            page = self._read(number)
            if page is None or (page.after, page.at) != (last.after, at):
                at = "changed"
                break
            at = page.next
            yield page
        if at != last.at:
            self.clear()
            raise IntegrityError(
                f"What waited in {self._folder} was changed, and is dropped.", next_step="Sync again."
            )

    def clear(self) -> None:
        if not self._folder.is_dir():
            return
        try:
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            with contextlib.suppress(FileNotFoundError):
                self._folder.rmdir()
        except OSError as error:
            raise storage_error(self._folder, error) from error

    def _found(self) -> Iterator[Page]:
        number = 0
        while (page := self._read(number)) is not None:
            yield page
            number += 1

    def _read(self, number: int) -> Page | None:
        try:
            return Page.from_bytes((self._folder / f"{number:06}.json").read_bytes())
        except (OSError, ValueError):
            return None
