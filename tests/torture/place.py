"""Where faults happen: a registry as it stood before, of which each trial gets a copy of its own."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import HotpixError
from hotpix_registry.registry import Registry
from tests.cli.conftest import Hotpix
from tests.databases import PostgreSQL
from tests.small_camera import write_campaign
from tests.story import CAMERA, import_pixels

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
KINDS = (SQLITE, POSTGRESQL)
BUILD = ("build", "--camera", CAMERA, "--rule", "limit", "--limit", "4")
NIGHTS = ("2021-03-04", "2021-06-04", "2021-09-04", "2030-01-01", "2001-01-01")
"""Nights that are asked about before and after: with a mask, without, before all of them."""


@dataclass(frozen=True)
class Stage:
    """A folder of frames that never changes, and a registry of them to be copied."""

    kind: str
    folder: Path
    database: str
    server: PostgreSQL

    @contextmanager
    def copy(self) -> Iterator[Hotpix]:
        """The command line in a folder of its own, on a copy of the registry."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="trial") as name:
            place = Path(name)
            here = Hotpix(place, None, {"HOTPIX_CACHE_DIR": str(place / "cache")})
            if self.kind == SQLITE:
                path = place / "registry.sqlite"
                shutil.copyfile(self.database, path)
                yield here.on(path)
            else:
                with self.server.copy(self.database) as url:
                    yield here.on(url)


@contextmanager
def new_stage(kind: str, server: PostgreSQL, *, to: str | None = None) -> Iterator[Stage]:
    """An empty registry; of an older schema, where its revision is given."""
    with tempfile.TemporaryDirectory(prefix="torture") as name:
        folder = Path(name)
        if kind == POSTGRESQL:
            with server.empty_database() as url:
                _migrate(url, to)
                yield Stage(kind, folder, url, server)
        else:
            path = str(folder / "before.sqlite")
            _migrate(path, to)
            yield Stage(kind, folder, path, server)


def _migrate(database: str, to: str | None) -> None:
    engine = databases.connect(databases.parse_url(database))
    opening.upgrade(engine, to=to or "head")
    engine.dispose()


def settle(stage: Stage) -> None:
    """Put everything into the one file that is copied."""
    if stage.kind == SQLITE:
        with closing(sqlite3.connect(stage.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def night(year: int) -> datetime:
    return datetime(year, 3, 4, 22)


def darks(stage: Stage, name: str = "darks", *, year: int = 2021, more: int = 1) -> Path:
    folder = stage.folder / name
    write_campaign(folder, start=night(year), darks={30: 4 * more, 120: 4 * more}, biases=3 * more)
    return folder


def recipe(limit_e_per_s: float = 4.0) -> Recipe:
    return Recipe(rule=Rule.LIMIT, limit_e_per_s=limit_e_per_s)


def build(registry: Registry) -> None:
    registry.build(CAMERA, recipe=recipe())


def as_before(stage: Stage) -> Hotpix:
    """The command line on the registry that is copied: to look, never to write."""
    return Hotpix(stage.folder, stage.database, {"HOTPIX_CACHE_DIR": str(stage.folder / "cache")})


def tell(stage: Stage, *acts: Callable[[Registry], object]) -> None:
    with Registry(stage.database) as registry:
        for act in acts:
            act(registry)
    settle(stage)


def lived(stage: Stage) -> None:
    """Eleven frames, a built mask, two imported ones of which one is revoked, a release."""
    folder = darks(stage)
    tell(
        stage,
        lambda registry: registry.ingest([folder]),
        build,
        lambda registry: import_pixels(registry, stage.folder, "2021-06-01", [5, 70]),
        lambda registry: registry.revoke(
            import_pixels(registry, stage.folder, "2021-09-01", [6]), reason="streaks"
        ),
        lambda registry: registry.create_release("2021A", note="the first"),
    )


# --- what must hold --------------------------------------------------------------------------------


def content(registry: Registry) -> dict[str, Any]:
    """Everything in a registry that a user can see, without ids, times and names of machines."""
    return {
        "answers": {night: _answer(registry, night) for night in NIGHTS},
        "acts": [(act["action"], act["did"]) for act in registry.log(newest=None)],
        "frames": sorted((frame.sha256, frame.excluded or "") for frame in registry.frames()),
        "masks": [
            (mask["version"], mask["sha256"], mask["status"], mask["valid"]) for mask in registry.masks()
        ],
    }


def _answer(registry: Registry, night: str) -> str:
    try:
        return registry.mask(CAMERA, night).answer.sha256
    except HotpixError as error:
        return type(error).__name__


def content_of(hotpix: Hotpix) -> dict[str, Any]:
    with hotpix.opened() as registry:
        return content(registry)


def amiss(registry: Registry) -> list[str]:
    """What `verify` finds, and masks that are not what their digest says."""
    found = [f"{finding.where}: {finding.problem}" for finding in registry.verify().findings]
    for mask in registry.masks():
        registry.mask_array(mask["mask_id"])
    return found


def elapsed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
