"""The facade on frames: what is catalogued, and how people correct it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.domain import Facts, Frame, Kind
from hotpix_registry.errors import UnknownId
from hotpix_registry.registry.facade.opened import named_camera
from hotpix_registry.registry.facade.parts import PartMethods

if TYPE_CHECKING:
    from ccdproc import ImageFileCollection

    from hotpix_registry.fits.headers import FrameHeader
    from hotpix_registry.registry.batch import IngestReport
    from hotpix_registry.registry.ingest import Found

Progress = Callable[[int, int], None]


class FrameMethods(PartMethods):
    """Frames: ingest, list, exclude, correct."""

    def ingest(
        self,
        sources: Sequence[str | Path | Found] | str | Path | ImageFileCollection,
        *,
        recursive: bool = False,
        camera: str | None = None,
        kind: Kind | str | None = None,
        n_combined: int | None = None,
        dry_run: bool = False,
        scheduler: str | None = None,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Catalogue the darks, biases and masters among some files; every file is accounted for.

        Parameters
        ----------
        sources
            files, folders, globs or `@list.txt`; what `ingest.find_files` found; or a
            `ccdproc.ImageFileCollection`
        camera
            the camera that took them; None reads it from their headers
        kind
            what they are, for files whose headers do not say
        n_combined
            number of frames in each master, for masters whose headers do not say
        scheduler
            a dask scheduler (`tcp://HOST:8786`), whose workers read and hash the files, which they see at
            the same paths

        Raises
        ------
        SchedulerUnreachable, UnfitWorkers
            What was catalogued until then stays.
        """
        from hotpix_registry import work
        from hotpix_registry.registry import ingest

        self._refuse_mirror()
        if hasattr(sources, "files_filtered"):
            paths = [str(path) for path in sources.files_filtered(include_path=True)]
            files = ingest.find_files([], recursive=False, listed=paths)
        else:
            given = [sources] if isinstance(sources, str | Path) else sources
            files = [source for source in given if isinstance(source, ingest.Found)]
            named = [str(source) for source in given if not isinstance(source, ingest.Found)]
            files += ingest.find_files(named, recursive=recursive)
        with nullcontext() if scheduler is None else work.dask_workers(scheduler) as workers:
            return ingest.ingest(
                self._engine,
                self._act(),
                files,
                camera=camera,
                kind=None if kind is None else Kind(kind),
                n_combined=n_combined,
                dry_run=dry_run,
                progress=progress,
                work=workers,
            )

    def ingest_below(
        self,
        roots: Sequence[str | Path],
        paths: Sequence[str],
        *,
        recursive: bool = False,
        camera: str | None = None,
        kind: Kind | None = None,
        n_combined: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> IngestReport:
        """As `ingest`, for somebody else: of absolute paths, and below some folders only.

        Raises
        ------
        Forbidden
            A path, or what a link on its way leads to, lies elsewhere.
        """
        from hotpix_registry.registry import arrivals

        return self.ingest(
            arrivals.found_below(roots, paths, recursive=recursive),
            camera=camera,
            kind=kind,
            n_combined=n_combined,
            dry_run=dry_run,
            progress=progress,
        )

    def take_in(
        self,
        path: Path,
        stream: BinaryIO,
        folder: Path,
        *,
        name: str,
        sha256: str,
        camera: str | None = None,
        kind: Kind | None = None,
        n_combined: int | None = None,
    ) -> IngestReport:
        """Catalogue a file that was sent and written to `path`, which moves it to its place in a folder.

        Raises
        ------
        UnreadableFrame
            It is no readable FITS file, or ingest rejects it; it is not moved.
        """
        import os

        from hotpix_registry.registry import arrivals, ingest

        def look(found: Found, only: bool) -> IngestReport:
            return ingest.ingest(
                self._engine,
                self._act(),
                [found],
                camera=camera,
                kind=kind,
                n_combined=n_combined,
                dry_run=only,
                progress=None,
                reason=f"sent as {name}",
            )

        stream.flush()
        os.fsync(stream.fileno())
        return arrivals.take_in(path, folder, name, sha256, look)

    def interpret(self, header: FrameHeader, *, kind: Kind | None = None) -> Facts:
        """What a header means under the keyword profiles that ship with us and the registry's own."""
        return dataclasses.replace(self.header_rules(), kind=kind).interpret(header)

    def reread(self, *, progress: Progress | None = None) -> int:
        """Read the stored headers anew under today's profiles; returns how many frames now mean otherwise."""
        from hotpix_registry.registry import camera_book

        with self._writing("reread") as (connection, tx):
            ids = [frame.frame_id for frame in queries.frames(connection)]
            return camera_book.reinterpret(connection, ids, tx, progress=progress)

    def frames(
        self,
        *,
        camera: str | None = None,
        nights: tuple[str, str] | None = None,
        kind: str | None = None,
    ) -> list[Frame]:
        """Catalogued frames in the order of time."""
        with reading(self._source) as connection:
            camera_id = None if camera is None else named_camera(connection, camera).camera_id
            return queries.frames(connection, camera_id=camera_id, nights=nights, kind=kind)

    def frame(self, frame_id: int) -> dict[str, Any]:
        """Everything known about one frame: what its header says, corrections, and the masks it went into.

        Raises
        ------
        UnknownId
        """
        with reading(self._source) as connection:
            found = queries.frames(connection, ids=[frame_id] if 0 < frame_id < 2**63 else [])
            if not found:
                raise UnknownId(
                    f"There is no frame {frame_id}.", next_step="`hotpix-registry frames` lists them."
                )
            (frame,) = found
            return {
                "frame": frame,
                "series": queries.series(connection).get(frame.series_id or 0),
                "corrections": queries.overrides(connection, [frame_id]).get(frame_id, {}),
                "header": queries.headers(connection, [frame_id]).get(frame_id, ""),
                "masks": queries.masks_of_frame(connection, frame_id),
            }

    def exclude(self, frames: Sequence[str], *, reason: str) -> list[int]:
        """Take frames out of all later builds; returns their ids."""
        from hotpix_registry.registry import camera_book

        with self._writing("exclude", reason) as (connection, tx):
            ids = camera_book.frame_ids(connection, frames)
            for frame_id in ids:
                queries.put_override(connection, frame_id, "excluded", True, reason=reason, tx=tx)
            return ids

    def include(self, frames: Sequence[str], *, reason: str) -> list[int]:
        """Let excluded frames take part again; returns their ids."""
        from hotpix_registry.registry import camera_book

        with self._writing("include", reason) as (connection, tx):
            ids = camera_book.frame_ids(connection, frames)
            for frame_id in ids:
                queries.lift_override(connection, frame_id, "excluded", tx=tx)
            return ids

    def fix(self, frames: Sequence[str], corrections: dict[str, Any], *, reason: str) -> list[int]:
        """Correct what headers say about frames; returns their ids."""
        from hotpix_registry.registry import camera_book

        with self._writing("fix", reason) as (connection, tx):
            ids = camera_book.frame_ids(connection, frames)
            if "camera" in corrections:
                corrections = corrections | {"camera": named_camera(connection, corrections["camera"]).name}
            for frame_id in ids:
                for name, value in corrections.items():
                    queries.put_override(connection, frame_id, name, value, reason=reason, tx=tx)
            camera_book.reinterpret(connection, ids, tx)
            return ids
