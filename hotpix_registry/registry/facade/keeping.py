"""The facade on the registry as a thing to keep: copies, backups, checks, moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hotpix_registry.registry.facade.opened import Opened

if TYPE_CHECKING:
    from hotpix_registry.registry.portability import Copied

Progress = Callable[[str, int, int], None]


class KeepingMethods(Opened):
    """Copies, backups, checks, moves."""

    def export(
        self,
        path: str | Path,
        *,
        camera: str | None = None,
        release: str | None = None,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Copied:
        """Write the registry, one camera or one release as an SQLite file that is usable at once.

        The file answers under this registry's id; when somebody writes to it, it becomes a registry of
        its own.

        Parameters
        ----------
        release
            the file is the registry as it stood at the release, with the masks that answered then

        Raises
        ------
        UnknownCamera, UnknownId, UsageError, StorageError
        IntegrityError
            The registry holds a damaged mask; no copy is made.
        """
        from hotpix_registry.registry import portability

        part = portability.part_of(camera, release)
        return portability.export(self._engine, Path(path), part, replace=replace, progress=progress)

    def backup(self, path: str | Path, *, replace: bool = False, progress: Progress | None = None) -> Copied:
        """Write the whole registry as an SQLite file that goes on as this registry when it is restored."""
        from hotpix_registry.registry import portability

        return portability.backup(self._engine, Path(path), replace=replace, progress=progress)
