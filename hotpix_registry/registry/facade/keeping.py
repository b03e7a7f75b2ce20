"""The facade on the registry as a thing to keep: copies, backups, checks, moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hotpix_registry.errors import UsageError
from hotpix_registry.registry.facade.opened import Opened, now_us

if TYPE_CHECKING:
    from hotpix_registry.registry.merging import MergeReport
    from hotpix_registry.registry.portability import Copied
    from hotpix_registry.registry.relocate import Relocation
    from hotpix_registry.registry.verify import Verification

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

    def merge(self, path: str | Path, *, certify: bool = False, reason: str | None = None) -> MergeReport:
        """Take in what another registry's file knows, in one transaction; what is known stays as it is.

        Parameters
        ----------
        certify
            whether masks that hold dates there get dates here, by the ordinary rules; else they are
            candidates

        Raises
        ------
        SchemaError
            The file is no registry, or of another schema.
        IntegrityError
            A mask there is damaged; nothing is taken in.
        """
        from hotpix_registry.registry import merging, portability

        if portability.is_itself(self._engine, Path(path)):
            raise UsageError(f"{path} is the registry itself.", next_step="Name another file.")
        with portability.source_registry(Path(path)) as source:
            return merging.merge(
                source, self._engine, self._act(), certify=certify, reason=reason, now_us=now_us()
            )

    def verify(
        self,
        *,
        frames: bool | None = None,
        quick: bool = False,
        fix: bool = False,
        backup: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Verification:
        """Check every digest, every promise of the database, the frames on disk and the cached files.

        Parameters
        ----------
        frames
            whether to look at the frames; None does, unless this is an export or a mirror
        quick
            compare sizes and times of frames only
        fix
            mend what can be made again with the very digest on record
        backup
            a registry's file from which damaged masks are taken
        """
        from hotpix_registry.registry import verify

        found = verify.verify(self._engine, frames=frames, quick=quick, progress=progress)
        if fix and found.amiss:
            source = None if backup is None else Path(backup)
            verify.fix(self._engine, found, self._act(), now_us=now_us(), backup=source)
        return found

    def relocate(
        self,
        old: str | Path,
        new: str | Path,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Relocation:
        """Tell where the frames of a folder are now; only the same bytes are believed.

        Raises
        ------
        UsageError
            No frame lies under the old folder, or the new one is no folder.
        """
        from hotpix_registry.registry import relocate

        return relocate.relocate(
            self._engine, self._act(), str(old), str(new), dry_run=dry_run, progress=progress
        )
