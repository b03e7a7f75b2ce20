"""A registry carried elsewhere: exports, backups, and the way back in."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from hotpix_registry.catalogue import copying, failures, opening, queries
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue.copying import WHOLE, Part, Progress, Tally
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.errors import IntegrityError, SchemaError, UnknownId, UsageError
from hotpix_registry.files import storage_error, sweep, whole_database
from hotpix_registry.registry.frames import camera_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A copy that was made and verified."""

    path: str
    registry_id: str
    tx: int
    """the newest transaction in it"""
    rows: dict[str, int]
    """table → number of rows"""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def export(
    engine: Engine,
    path: Path,
    part: Callable[[Connection], Part] | None = None,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Copied:
    """Write a registry, or a part of it, as an SQLite file marked as a copy.

    Raises
    ------
    UsageError, StorageError
        The file exists, or cannot be written.
    IntegrityError
        The registry holds a damaged mask; no copy is made.
    """
    kind = databases.WHOLE_COPY if part is None else databases.PART_COPY
    with _new_file(engine, path, replace=replace) as temporary:
        return _copy_rows(engine, temporary, path, part, kind, progress)


def part_of(camera: str | None, release: str | None) -> Callable[[Connection], Part] | None:
    """How the rows of a camera or a release are found; None for the whole.

    Raises
    ------
    UsageError, UnknownCamera, UnknownId
    """
    if camera is not None and release is not None:
        raise UsageError("An export is of one camera or of one release.", next_step="Leave one out.")

    def find(connection: Connection) -> Part:
        if camera is not None:
            row = camera_named(queries.cameras(connection), camera)
            return copying.of_camera(connection, row.camera_id)
        part = copying.of_release(connection, release or "")
        if part is None:
            raise UnknownId(
                f"There is no release {release}.", next_step="An export without --release takes everything."
            )
        return part

    return None if camera is None and release is None else find


def backup(engine: Engine, path: Path, *, replace: bool = False, progress: Progress | None = None) -> Copied:
    """Write the whole registry as an SQLite file that goes on as this registry when it is restored.

    Raises
    ------
    UsageError, StorageError, IntegrityError
        As for an export.
    """
    with _new_file(engine, path, replace=replace) as temporary:
        if engine.dialect.name != "sqlite":
            return _copy_rows(engine, temporary, path, None, 0, progress)
        with _page_copy(engine, temporary) as target, reading(target) as connection:
            _check_pages(connection, path)
            _refuse_damaged(connection, failures.describe(engine))
            return _told(connection, path, copying.counts(connection))


def upgrade(engine: Engine, told: Callable[[str], None]) -> None:
    """Bring a registry to the newest schema; an SQLite file is saved beside itself first.

    Parameters
    ----------
    told
        takes a sentence on where the copy is

    Raises
    ------
    SchemaError
        The upgrade failed: nothing is changed, and the older version goes on.
    """
    found = opening.current_revision(engine)
    saved = None
    known = opening.known_revisions()
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        sweep(path.parent)  # what one that was killed left
        if found in known and found != known[-1]:
            saved = _save_beside(engine, found)
            told(f"A copy with schema {found} is {saved}.")
    try:
        opening.upgrade(engine)
    except sa.exc.SQLAlchemyError as error:
        kept = "" if saved is None else f" Its copy is {saved}."
        raise SchemaError(
            f"{failures.describe(engine)} was not upgraded, and is as it was: {_first_line(error)}.{kept}",
            next_step="The version of hotpix-registry that wrote it goes on working; report this.",
        ) from error
    except Exception as error:
        error.add_note(f"{failures.describe(engine)} was not upgraded, and is as it was.")
        raise


def _save_beside(engine: Engine, revision: str) -> Path:
    path = Path(str(engine.url.database))
    names = (f"{path.name}.bak-{revision}{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
    target = next(free for name in names if not (free := path.with_name(name)).exists())
    with (
        whole_database(target) as temporary,
        _page_copy(engine, temporary) as copy,
        reading(copy) as connection,
    ):
        _check_pages(connection, target)
    return target


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0].rstrip(".")


def is_itself(engine: Engine, path: Path) -> bool:
    """Whether a file is the registry that is open."""
    if engine.dialect.name != "sqlite" or not os.path.exists(path):
        return False
    return path.samefile(str(engine.url.database))


@contextmanager
def _new_file(engine: Engine, path: Path, *, replace: bool) -> Iterator[Path]:
    if re.match(r"[a-z0-9+]{2,}:/", str(path)):
        raise UsageError(f"{path} is no file.", next_step="Name an SQLite file to be written.")
    if is_itself(engine, path):
        raise UsageError(f"{path} is the registry itself.", next_step="Name another file.")
    with whole_database(path, replace=replace) as temporary:
        yield temporary


def _copy_rows(
    engine: Engine,
    temporary: Path,
    path: Path,
    find_part: Callable[[Connection], Part] | None,
    kind: int,
    progress: Progress | None,
) -> Copied:
    with made(temporary) as target:
        with reading(engine) as source:
            part = WHOLE if find_part is None else find_part(source)
            with writing(target) as connection:
                written = copying.copy(source, connection, part, progress)
                databases.mark_copy(connection, kind or databases.copy_mark(source))
        with reading(target) as connection:
            _check_pages(connection, path)
            _check_rows(connection, written, path)
            _refuse_damaged(connection, failures.describe(engine))
            told = _told(connection, path, {name: tally.rows for name, tally in written.items()})
    if not kind:
        set_journal(target, "WAL")
    return told


@contextmanager
def made(temporary: Path) -> Iterator[Engine]:
    """A new SQLite file with tables, guards and nothing else."""
    with _opened(temporary) as target:
        opening.upgrade(target, then=lambda _: None)
        target.dispose()
        # the rows are new pages, which a journal need not keep: with WAL they would be written twice
        set_journal(target, "DELETE")
        yield target


@contextmanager
def _opened(path: Path) -> Iterator[Engine]:
    engine = databases.connect(URL.create("sqlite", database=str(path)))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _page_copy(engine: Engine, temporary: Path) -> Iterator[Engine]:
    with _opened(temporary) as target:
        with failures.translated(target):
            copying.copy_pages(engine, temporary)
        yield target


def set_journal(engine: Engine, mode: str) -> None:
    """Change how an SQLite file that nobody uses keeps its journal."""
    path = str(engine.url.database)
    with (
        failures.translated(engine),
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        connection.execute(f"PRAGMA journal_mode = {mode}")


def _check_pages(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if found != "ok" or broken is not None:
        raise IntegrityError(
            f"The copy for {path} came out damaged ({found if found != 'ok' else broken}), and was not kept.",
            next_step="Run `hotpix-registry verify`.",
        )


def _check_rows(connection: Connection, written: dict[str, Tally], path: Path | str) -> None:
    kept = copying.tallies(connection)
    if differing := [name for name in written if kept[name] != written[name]]:
        raise IntegrityError(
            f"The copy for {path} does not hold what was written ({', '.join(differing)}), and was not kept.",
            next_step="Try another disk.",
        )


def _refuse_damaged(connection: Connection, where: str) -> None:
    """A copy of a damaged registry must not take the place of a good one."""
    if damaged := copying.damaged_masks(connection):
        raise IntegrityError(
            f"The stored bytes of mask {', '.join(map(str, damaged))} in {where} are damaged; "
            "no copy was made.",
            next_step="Run `hotpix-registry verify --fix`.",
        )


def _told(connection: Connection, path: Path | str, counts: dict[str, int]) -> Copied:
    return Copied(
        path=str(path),
        registry_id=queries.registry_id(connection),
        tx=queries.last_tx(connection),
        rows=counts,
    )


# --- the way back in --------------------------------------------------------------------


@contextmanager
def source_registry(path: Path) -> Iterator[Engine]:
    """A registry file to take rows from.

    Raises
    ------
    SchemaError
        It is none, or of another schema.
    """
    url = URL.create("sqlite", database=str(path))
    if path.is_file():
        opening.refuse_programs(url)
    engine = opening.open_database(url, create=False)
    try:
        yield engine
    finally:
        engine.dispose()


def move_in(path: Path, url: URL, progress: Progress | None = None) -> Copied | None:
    """Make a registry file the registry at an address where nothing is yet; None when something is.

    It keeps its id and goes on as the same registry; a part of one gets an id of its own.
    """
    target = databases.connect(url)
    try:
        if opening.current_revision(target) is not None:
            return None
        with source_registry(path) as engine, reading(engine) as source:
            _refuse_damaged(source, str(path))
            partial = databases.copy_mark(source) == databases.PART_COPY

            def fill(connection: Connection) -> None:
                written = copying.copy(source, connection, progress=progress)
                if partial:
                    databases.become_own(connection, anyway=True)
                else:
                    _check_rows(connection, written, failures.describe(target))

            if target.dialect.name == "sqlite":
                return _move_into_file(Path(str(url.database)).absolute(), fill)
            opening.upgrade(target, then=fill)
        with reading(target) as connection:
            return _told(connection, failures.describe(target), copying.counts(connection))
    finally:
        target.dispose()


def _move_into_file(path: Path, fill: Callable[[Connection], None]) -> Copied:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, error) from error
    with whole_database(path, replace=path.exists()) as temporary:
        with made(temporary) as target:
            with writing(target) as connection:
                fill(connection)
            with reading(target) as connection:
                _check_pages(connection, path)
                told = _told(connection, path, copying.counts(connection))
        set_journal(target, "WAL")
    return told
