"""The one facade: what the command line, the service and notebooks call; it owns the transactions."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.engine import Connection

from hotpix_registry import __version__, settings
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.domain import Defect, Facts, Frame, Kind, Recipe
from hotpix_registry.errors import HotpixError, NothingToBuild, UnknownId
from hotpix_registry.registry import content, masks
from hotpix_registry.registry.answer import Answer, Fallback, Question, resolve
from hotpix_registry.registry.frames import find_camera, unknown_camera
from hotpix_registry.registry.masks import BuildResult, MaskChange, Plan

if TYPE_CHECKING:
    import numpy as np
    from ccdproc import ImageFileCollection
    from numpy.typing import NDArray

    from hotpix_registry.fits.headers import FrameHeader
    from hotpix_registry.registry.ingest import IngestReport
    from hotpix_registry.report import Report

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A mask as a pipeline uses it: the answer, the boolean array, the flags, the file."""

    answer: Answer
    _registry: Registry = field(repr=False)

    @property
    def array(self) -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under the preset that was asked for."""
        return self._registry.mask_array(self.answer.mask_id, preset=self.answer.preset)

    @property
    def dq(self) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        return self._registry.mask_dq(self.answer.mask_id)

    @property
    def path(self) -> Path:
        """The mask file, from the content-addressed cache; under a preset a file derived from it."""
        return self._registry.mask_path(self.answer.mask_id, preset=self.answer.preset)


class Registry:
    """A registry of hot-pixel masks: dark frames in, masks out.

    Parameters
    ----------
    database
        an SQLite file or a database URL; None takes HOTPIX_DATABASE_URL, hotpix.toml, or the user's
        data directory
    create
        whether to make the registry when nothing is there yet

    Raises
    ------
    SchemaError, DatabaseUnavailable, UsageError
        When it cannot be opened; the sentence says why.
    """

    def __init__(self, database: str | None = None, *, create: bool = True) -> None:
        url = databases.parse_url(settings.database_url(database))
        self._engine = databases.open_database(url, create=create)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return databases.describe(self._engine)

    @contextmanager
    def _writing(self, action: str, reason: str | None = None) -> Iterator[tuple[Connection, int]]:
        with writing(self._engine) as connection:
            yield (
                connection,
                queries.open_transaction(connection, _act(), action, now_us=_now_us(), reason=reason),
            )

    # --- frames ---------------------------------------------------------------------

    def ingest(
        self,
        sources: Sequence[str | Path] | str | Path | ImageFileCollection,
        *,
        recursive: bool = False,
        camera: str | None = None,
        kind: Kind | str | None = None,
        n_combined: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Catalogue the darks, biases and masters among some files; every file is accounted for.

        Parameters
        ----------
        sources
            files, folders, globs or `@list.txt`; or a `ccdproc.ImageFileCollection`
        camera
            the camera that took them; None reads it from their headers
        kind
            what they are, for files whose headers do not say
        n_combined
            number of frames in each master, for masters whose headers do not say
        """
        from hotpix_registry.registry import ingest

        if hasattr(sources, "files_filtered"):
            paths = [str(path) for path in sources.files_filtered(include_path=True)]
            files = ingest.find_files([], recursive=False, listed=paths)
        else:
            named = [sources] if isinstance(sources, str | Path) else sources
            files = ingest.find_files([str(source) for source in named], recursive=recursive)
        return ingest.ingest(
            self._engine,
            _act(),
            files,
            camera=camera,
            kind=None if kind is None else Kind(kind),
            n_combined=n_combined,
            dry_run=dry_run,
            progress=progress,
        )

    def interpret(self, header: FrameHeader, *, kind: Kind | None = None) -> Facts:
        """What a header means under the keyword profiles that ship with us and the registry's own."""
        from hotpix_registry.registry import ingest

        with reading(self._engine) as connection:
            return ingest.current_rules(connection, kind=kind).interpret(header)

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
        with reading(self._engine) as connection:
            camera_id = None if camera is None else _camera(connection, camera).camera_id
            return queries.frames(connection, camera_id=camera_id, nights=nights, kind=kind)

    def rejected(self) -> list[tuple[str, str]]:
        """(path, reason) of files that the last ingest of each rejected."""
        with reading(self._engine) as connection:
            return [(row.path, row.reason) for row in queries.passed_over(connection, "rejected")]

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
                corrections = corrections | {"camera": _camera(connection, corrections["camera"]).name}
            for frame_id in ids:
                for name, value in corrections.items():
                    queries.put_override(connection, frame_id, name, value, reason=reason, tx=tx)
            camera_book.reinterpret(connection, ids, tx)
            return ids

    # --- cameras --------------------------------------------------------------------

    def cameras(self) -> list[CameraRow]:
        """Registered cameras by name."""
        with reading(self._engine) as connection:
            return queries.cameras(connection)

    def camera(self, name: str) -> CameraRow:
        """One camera by name or alias."""
        with reading(self._engine) as connection:
            return _camera(connection, name)

    def apply_profile(self, path: str | Path) -> str:
        """Load a camera profile or a keyword profile from TOML; returns a sentence about what it changed."""
        from hotpix_registry.registry import camera_book

        with self._writing("apply profile", str(Path(path).name)) as (connection, tx):
            return camera_book.apply_profile(connection, Path(path), tx)

    def confirm_camera(self, name: str) -> None:
        """Say that a provisional camera's profile is right."""
        from hotpix_registry.registry import camera_book

        with self._writing("confirm camera") as (connection, tx):
            camera_book.confirm(connection, _camera(connection, name), tx)

    def rename_camera(self, name: str, new_name: str) -> None:
        """Give a camera another name; the old one stays as an alias."""
        from hotpix_registry.registry import camera_book

        with self._writing("rename camera") as (connection, tx):
            camera_book.rename(connection, _camera(connection, name), new_name, tx)

    def alias_camera(self, name: str, alias: str) -> None:
        """Let a camera be found under one more name."""
        from hotpix_registry.registry import camera_book

        with self._writing("alias camera") as (connection, tx):
            camera_book.alias(connection, _camera(connection, name), alias, tx)

    def merge_cameras(self, name: str, into: str) -> int:
        """Say that two cameras are one: frames and names of the first go to the second."""
        from hotpix_registry.registry import camera_book

        with self._writing("merge cameras") as (connection, tx):
            return camera_book.merge(connection, _camera(connection, name), _camera(connection, into), tx)

    def split_camera(self, name: str, new_name: str, *, nights: tuple[str, str]) -> int:
        """Move the frames of some nights to a camera of their own; returns how many."""
        from hotpix_registry.registry import camera_book

        with self._writing("split camera") as (connection, tx):
            return camera_book.split(connection, _camera(connection, name), new_name, nights, tx)

    def defects(self, camera: str) -> list[Defect]:
        """A camera's static list of bad pixels, which every later build takes in as MANUAL."""
        with reading(self._engine) as connection:
            return queries.defects(connection, _camera(connection, camera).camera_id)

    def add_defects(self, camera: str, defects: Sequence[Defect], *, reason: str) -> list[int]:
        """Put boxes of pixels on a camera's static list; returns their ids."""
        with self._writing("add defects", reason) as (connection, tx):
            camera_id = _camera(connection, camera).camera_id
            return [queries.add_defect(connection, camera_id, defect, tx) for defect in defects]

    def remove_defects(self, camera: str, ids: Sequence[int], *, reason: str) -> None:
        """Take boxes off a camera's static list; masks already built keep them."""
        with self._writing("remove defects", reason) as (connection, tx):
            camera_id = _camera(connection, camera).camera_id
            known = {defect.defect_id for defect in queries.defects(connection, camera_id)}
            if unknown := sorted(set(ids) - known):
                raise UnknownId(
                    f"Camera {camera} has no defect {unknown[0]}.",
                    next_step=f"`hotpix-registry defects --camera {camera}` lists them.",
                )
            queries.close_defects(connection, camera_id, ids, tx)

    # --- building -------------------------------------------------------------------

    def plan(
        self,
        camera: str,
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
    ) -> Plan:
        """What `build` would take in, and why other frames stay out."""
        from hotpix_registry.registry import build

        with reading(self._engine) as connection:
            row = _camera(connection, camera)
        return build.plan(self._engine, row, nights=nights, exposures_s=exposures_s)

    def build(
        self,
        camera: str,
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
        recipe: Recipe | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        failed: Callable[[str, HotpixError], None] | None = None,
    ) -> list[BuildResult]:
        """Build the mask of every campaign, one after the other; each is stored as soon as it is done.

        Parameters
        ----------
        recipe
            None takes the default rule, or the cut-off where a campaign has one exposure time
        progress
            called with the campaign's name, steps done and steps in all
        failed
            called with the series and the error of a campaign that cannot be built, and the others go
            on; without it the first such error is raised

        Raises
        ------
        NothingToBuild, FrameChanged, UnreadableFrame
            With nothing stored of that campaign.
        """
        from hotpix_registry.registry import build

        row = self.camera(camera)
        plan = self.plan(camera, nights=nights, exposures_s=exposures_s)
        if not plan.campaigns:
            raise NothingToBuild(
                f"Camera {row.name} has no darks to build from"
                + (f" in the nights {nights[0]} to {nights[1]}." if nights else "."),
                next_step="`hotpix-registry build --dry-run` says why.",
            )
        results = []
        for campaign in plan.campaigns:
            try:
                results.append(build.build_campaign(self._engine, _act(), campaign, row, recipe, progress))
            except HotpixError as error:
                if failed is None:
                    raise
                failed(str(campaign.series), error)
        return results

    def import_mask(
        self,
        path: str | Path,
        camera: str,
        *,
        valid_from: str,
        temperature_c: float | None = None,
        bit: int | None = None,
        shape: tuple[int, int] | None = None,
        binning: tuple[int, int] = (1, 1),
        reason: str | None = None,
    ) -> BuildResult:
        """Store a mask from outside as a version of its own, valid from a night on.

        Parameters
        ----------
        path
            FITS (any non-zero pixel, or those with `bit` set), `.npy`, or a list of boxes in ECSV
        shape
            (ny, nx) of the detector, for a list of boxes
        """
        from hotpix_registry.registry import derived

        row = self.camera(camera)
        with reading(self._engine) as connection:
            known = queries.masks(connection, row.camera_id)
        foreign = derived.read_foreign(
            Path(path), row, known, valid_from, temperature_c, binning=binning, bit=bit, shape=shape
        )
        packed = derived.pack(foreign, row)
        with self._writing("import", reason) as (connection, tx):
            return derived.store(connection, packed, row, tx)

    def edit_mask(
        self,
        mask_id: int,
        *,
        mask: Sequence[tuple[int, int]] = (),
        unmask: Sequence[tuple[int, int]] = (),
        reason: str,
    ) -> BuildResult:
        """Mask or unmask single pixels (x, y), 0-based, of a mask, as a version of its own."""
        from hotpix_registry.registry import derived

        with reading(self._engine) as connection:
            source = masks.find_mask(connection, mask_id)
            series = queries.series(connection)[source.series_id]
        edited = derived.edit(source, series, self.mask_dq(mask_id), mask=mask, unmask=unmask)
        camera = self.camera(series.camera)
        packed = derived.pack(edited, camera)
        with self._writing("edit", reason) as (connection, tx):
            return derived.store(connection, packed, camera, tx)

    # --- masks ----------------------------------------------------------------------

    def certify(self, mask_id: int, *, reason: str | None = None) -> tuple[MaskChange, ...]:
        """Let a candidate answer for its dates; returns the dates that now answer otherwise."""
        with self._writing("certify", reason) as (connection, tx):
            mask = masks.find_mask(connection, mask_id)
            series = queries.series(connection)[mask.series_id]
            return masks.certify(connection, _camera(connection, series.camera), mask_id, tx)

    def mask(
        self,
        camera: str,
        date: str,
        *,
        temperature_c: float | None = None,
        exposure_s: float | None = None,
        preset: str = "default",
        fallback: Fallback | None = None,
    ) -> Mask:
        """The right mask for an observing date.

        Parameters
        ----------
        date
            an ISO instant with Z or offset, MJD, JD, or a bare date, which means the observing night
        preset
            which flags mask: `default`, `evidence`, `matched`, `all`, `none`, or an expression such as
            `HOT|UNSTABLE` or `~WARM`

        Raises
        ------
        NoMask, AmbiguousMask, UnknownCamera, UsageError
        """
        question = Question(
            camera=camera,
            date=date,
            temperature_c=temperature_c,
            exposure_s=exposure_s,
            preset=preset,
            fallback=fallback,
        )
        with reading(self._engine) as connection:
            return Mask(answer=resolve(connection, question), _registry=self)

    def masks(self, *, camera: str | None = None) -> list[dict[str, Any]]:
        """Mask versions, each with its series, its status and its validity."""
        with reading(self._engine) as connection:
            camera_id = None if camera is None else _camera(connection, camera).camera_id
            series = queries.series(connection)
            rows = queries.masks(connection, camera_id)
            return [masks.summary(connection, row, series[row.series_id]) for row in rows]

    def show(self, mask_id: int) -> dict[str, Any]:
        """Everything known about one mask version: recipe, inputs, report, software, who and when."""
        with reading(self._engine) as connection:
            return masks.details(connection, mask_id)

    def report(self, mask_id: int, *, against: int | None = None) -> Report:
        """What a person reads to decide whether to trust a mask.

        `against` names the mask that it is compared with; None takes the version before it, if any.
        """
        from hotpix_registry.report import make_report

        with reading(self._engine) as connection:
            details = masks.details(connection, mask_id)
            other_id = queries.version_before(connection, mask_id) if against is None else against
            other = None if other_id is None else masks.details(connection, other_id)
        return make_report(
            details,
            self.mask_numbers(mask_id),
            self.mask_dq(mask_id),
            other=other,
            other_dq=None if other_id is None else self.mask_dq(other_id),
        )

    def mask_file(self, mask_id: int, *, preset: str = "default") -> bytes:
        """The FITS file of a mask, verified by its digest; under a preset a file derived from it.

        Raises
        ------
        IntegrityError
            The stored bytes are damaged.
        """
        return content.file(self._engine, mask_id, preset)

    def mask_as(self, mask_id: int, file_format: str, *, preset: str = "default") -> bytes:
        """A mask in another format: fits, npy, ecsv, ds9, lsst or siril."""
        return content.export(self._engine, mask_id, file_format, preset)

    def mask_path(self, mask_id: int, *, preset: str = "default") -> Path:
        """The mask file on disk, in the content-addressed cache."""
        return content.path(self._engine, mask_id, preset)

    def mask_array(self, mask_id: int, *, preset: str = "default") -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under a preset."""
        return content.array(self._engine, mask_id, preset)

    def mask_dq(self, mask_id: int) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        return content.dq(self._engine, mask_id)

    def mask_numbers(self, mask_id: int) -> dict[str, NDArray[Any]]:
        """What the plots of a build draw, by name."""
        return content.numbers(self._engine, mask_id)


# --- helpers --------------------------------------------------------------------------


def _act() -> Act:
    try:
        actor = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        actor = f"uid {os.getuid()}"
    return Act(actor=actor, host=socket.gethostname(), software=f"hotpix-registry {__version__}")


def _now_us() -> int:
    return time.time_ns() // 1000


def _camera(connection: Connection, name: str) -> CameraRow:
    rows = queries.cameras(connection)
    found = find_camera(rows, name)
    if found is None:
        raise unknown_camera(rows, name)
    return found
