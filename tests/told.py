"""Stories: registries, and the files beside them, as many tests want to find them; told once."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hotpix_registry.registry import Registry
from tests.databases import Rows, connected

Story = Callable[[Registry, Path], object]
"""What is done to a registry, with a folder for files."""


@dataclass(slots=True)
class Stories:
    """What has been told in this process, to be found anew in a millisecond for each that a story takes."""

    folder: Path
    _told: dict[tuple[Story, bool], tuple[Path, Path, Rows | None]] = field(default_factory=dict)

    def tell(self, story: Story, database: str) -> Path:
        """Put the rows of a story in the place of all that a registry holds; the story's folder of files.

        The folder is the same for each test, and what was changed in it is put back.
        """
        server = "://" in database
        if (story, server) not in self._told:
            self._told[story, server] = self._tell_first(story, database)
            return self._told[story, server][0]
        folder, saved, rows = self._told[story, server]
        shutil.rmtree(folder, ignore_errors=True)  # a test may have done so
        shutil.copytree(saved / "files", folder)
        if rows is None:
            _copy(str(saved / "registry.sqlite"), database)
        else:
            with connected(database) as connection:
                rows.replace(connection)
        return folder

    def _tell_first(self, story: Story, database: str) -> tuple[Path, Path, Rows | None]:
        folder, saved = (self.folder / f"{len(self._told)}-{name}" for name in ("told", "saved"))
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch, Registry(database) as registry:
            patch.setenv("HOTPIX_CACHE_DIR", str(saved / "cache"))
            story(registry, folder)
        shutil.copytree(folder, saved / "files")
        if "://" not in database:
            _copy(database, str(saved / "registry.sqlite"))
            return folder, saved, None
        with connected(database) as connection:
            return folder, saved, Rows.of(connection)


def _copy(there: str, here: str) -> None:
    """One SQLite file into another, which may be open."""
    with closing(sqlite3.connect(there)) as source, closing(sqlite3.connect(here)) as sink:
        source.backup(sink)
