"""The one facade: what the command line, the service and notebooks call; it owns the transactions."""

from __future__ import annotations

import dataclasses
import getpass
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
from hotpix_registry.catalogue.queries import Act, CameraRow, MaskRow
from hotpix_registry.domain import Frame, Kind, Night, Recipe, Rule, Series, Validity, iso
from hotpix_registry.errors import NothingToBuild, UnknownId, UsageError
from hotpix_registry.registry.answer import Answer, Fallback, Question, resolve
from hotpix_registry.registry.frames import find_camera, unknown_camera

if TYPE_CHECKING:
    import numpy as np
    from ccdproc import ImageFileCollection
    from numpy.typing import NDArray

    from hotpix_registry.planning import Campaign
    from hotpix_registry.registry.build import BuiltMask
    from hotpix_registry.registry.ingest import IngestReport
    from hotpix_registry.science.gates import GateResult

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChange:
    """An interval of dates that another mask answers than before."""

    valid_from: str
    valid_to: str | None
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What one campaign's build left in the registry."""

    mask_id: int
    version: int
    series: str
    status: str
    """certified or candidate"""
    new: bool
    """False: this very build had been made before"""
    sha256: str
    nights: tuple[str, str]
    exposures_s: tuple[float, ...]
    flagged: int
    pixels: int
    counts: dict[str, int]
    limit_e_per_s: float | None
    limit_reason: str
    bias_method: str
    changes: tuple[MaskChange, ...] = ()
    failed_gates: tuple[str, ...] = ()
    """why it is a candidate only: what was found, and what was wanted"""
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        changes = [{name: getattr(c, name) for name in c.__slots__} for c in self.changes]
        return values | {"changes": changes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a build would do: campaigns with their frames, and the frames that fit nowhere."""

    campaigns: tuple[Campaign, ...]
    strays: tuple[tuple[Frame, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A mask as a pipeline uses it: the answer, the boolean array, the flags, the file."""

    answer: Answer
    _registry: Registry = field(repr=False)

    @property
    def array(self) -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under the default preset."""
        return self._registry.mask_array(self.answer.mask_id)

    @property
    def dq(self) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        return self._registry.mask_dq(self.answer.mask_id)

    @property
    def path(self) -> Path:
        """The mask file, from the content-addressed cache."""
        return self._registry.mask_path(self.answer.mask_id)


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

    # --- building -------------------------------------------------------------------

    def plan(
        self,
        camera: str,
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
    ) -> Plan:
        """What `build` would take in, and why other frames stay out."""
        from hotpix_registry import planning

        with reading(self._engine) as connection:
            row = _camera(connection, camera)
            frames = queries.frames(connection, camera_id=row.camera_id)
            series = queries.series(connection, row.camera_id)
        campaigns, strays = planning.plan(frames, series, row.profile, nights=nights, exposures_s=exposures_s)
        return Plan(campaigns=tuple(campaigns), strays=tuple(strays))

    def build(
        self,
        camera: str,
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
        recipe: Recipe | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[BuildResult]:
        """Build the mask of every campaign, one after the other; each is stored as soon as it is done.

        Parameters
        ----------
        recipe
            None takes the default rule, or the cut-off where a campaign has one exposure time
        progress
            called with the campaign's name, steps done and steps in all

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
            ingredients = build.gather(campaign, row.profile, _recipe_for(campaign, recipe))
            with reading(self._engine) as connection:
                before = queries.mask_by_build_key(connection, ingredients.build_key)
                if before is not None:
                    results.append(_known_result(connection, before, campaign))
                    continue
            label = f"{campaign.series.camera} {campaign.first_night}"

            def step(done: int, total: int, label: str = label) -> None:
                if progress is not None:
                    progress(label, done, total)

            built = build.compute(ingredients, progress=step)
            results.append(self._store(built, self._judge(built), row))
        return results

    def _judge(self, built: BuiltMask) -> list[GateResult]:
        """The quality gates, against the newest earlier mask of the same rule and exposures."""
        from hotpix_registry.science.gates import judge

        campaign, detection = built.ingredients.campaign, built.detection
        rule, exposures = str(built.ingredients.recipe.rule), detection.exposures_s
        with reading(self._engine) as connection:
            held = [
                _mask(connection, a.mask_id)
                for a in queries.assignments(connection, [campaign.series.series_id])
            ]
        earlier = [
            m
            for m in held
            if m.last_night < campaign.first_night
            and (m.rule, m.shortest_s, m.longest_s) == (rule, min(exposures), max(exposures))
        ]
        newest = max(earlier, key=lambda m: (m.last_night, m.id), default=None)
        previous_dq = None if newest is None else self.mask_dq(newest.id)
        return judge(detection.dq, detection.report, previous_dq=previous_dq)

    def _store(self, built: BuiltMask, gates: list[GateResult], camera: CameraRow) -> BuildResult:
        campaign = built.ingredients.campaign
        failed = tuple(
            f"{gate.name}: {gate.found}, wanted {gate.wanted}" for gate in gates if not gate.passed
        )
        with self._writing("build") as (connection, tx):
            before = queries.mask_by_build_key(connection, built.ingredients.build_key)
            if before is not None:
                return _known_result(connection, before, campaign)
            values = _mask_values(built, gates, camera, tx)
            mask_id, version = queries.add_mask(connection, values)
            queries.add_mask_inputs(
                connection, mask_id, ((frame.frame_id, role) for frame, role in campaign.inputs)
            )
            certified = camera.profile.certify == "auto" and not failed
            changes = _certify(connection, camera, mask_id, tx) if certified else ()
        detection = built.detection
        return BuildResult(
            mask_id=mask_id,
            version=version,
            series=str(campaign.series),
            status="certified" if certified else "candidate",
            new=True,
            sha256=built.packed.sha256,
            nights=(campaign.first_night, campaign.last_night),
            exposures_s=detection.exposures_s,
            flagged=detection.counts["BAD"],
            pixels=detection.dq.size,
            counts=detection.counts,
            limit_e_per_s=detection.limit.e_per_s,
            limit_reason=detection.limit.reason,
            bias_method=detection.bias_method,
            changes=changes,
            failed_gates=failed,
            warnings=tuple(detection.report.get("warnings", ())),
        )

    # --- masks ----------------------------------------------------------------------

    def certify(self, mask_id: int, *, reason: str | None = None) -> tuple[MaskChange, ...]:
        """Let a candidate answer for its dates; returns the dates that now answer otherwise."""
        with self._writing("certify", reason) as (connection, tx):
            mask = _mask(connection, mask_id)
            series = queries.series(connection)[mask.series_id]
            return _certify(connection, _camera(connection, series.camera), mask_id, tx)

    def mask(
        self,
        camera: str,
        date: str,
        *,
        temperature_c: float | None = None,
        exposure_s: float | None = None,
        fallback: Fallback | None = None,
    ) -> Mask:
        """The right mask for an observing date.

        Parameters
        ----------
        date
            an ISO instant with Z or offset, MJD, JD, or a bare date, which means the observing night

        Raises
        ------
        NoMask, AmbiguousMask, UnknownCamera, UsageError
        """
        question = Question(
            camera=camera,
            date=date,
            temperature_c=temperature_c,
            exposure_s=exposure_s,
            fallback=fallback,
        )
        with reading(self._engine) as connection:
            return Mask(answer=resolve(connection, question), _registry=self)

    def masks(self, *, camera: str | None = None) -> list[dict[str, Any]]:
        """Mask versions, each with its series, its status and its validity."""
        with reading(self._engine) as connection:
            camera_id = None if camera is None else _camera(connection, camera).camera_id
            rows = queries.masks(connection, camera_id)
            series = queries.series(connection)
            held: dict[int, list[Validity]] = {}
            for assignment in queries.assignments(connection, sorted({row.series_id for row in rows})):
                held.setdefault(assignment.mask_id, []).append(assignment.validity)
        return [_listed(row, series[row.series_id], held.get(row.id, [])) for row in rows]

    def show(self, mask_id: int) -> dict[str, Any]:
        """Everything known about one mask version: recipe, inputs, report, software, who and when."""
        with reading(self._engine) as connection:
            row = _mask(connection, mask_id)
            series = queries.series(connection)[row.series_id]
            held = [
                a.validity for a in queries.assignments(connection, [row.series_id]) if a.mask_id == mask_id
            ]
            details = queries.mask_details(connection, mask_id)
            roles = queries.mask_inputs(connection, mask_id)
            frames = {f.frame_id: f for f in queries.frames(connection, ids=[i for i, _ in roles])}
        inputs = [
            {
                "frame_id": frame_id,
                "role": role,
                "sha256": frames[frame_id].sha256,
                "kind": str(frames[frame_id].kind),
                "exptime_s": frames[frame_id].exptime_s,
                "ccd_temp_c": frames[frame_id].facts.ccd_temp_c,
                "start": iso(frames[frame_id].start_us),
                "path": frames[frame_id].name,
            }
            for frame_id, role in roles
        ]
        return (
            _listed(row, series, held)
            | {"warnings": row.warnings, "built": iso(details.pop("at_us"))}
            | details
            | {"inputs": inputs}
        )

    def mask_file(self, mask_id: int) -> bytes:
        """The canonical FITS file of a mask, verified by its digest.

        Raises
        ------
        IntegrityError
            The stored bytes are damaged.
        """
        from hotpix_registry.fits.packing import unpack

        with reading(self._engine) as connection:
            _mask(connection, mask_id)
            encoding, blob, _, sha256 = queries.mask_blob(connection, mask_id)
        return unpack(encoding, blob, sha256=sha256)

    def mask_path(self, mask_id: int) -> Path:
        """The mask file on disk, in the content-addressed cache."""
        from hotpix_registry.files import cache_file

        with reading(self._engine) as connection:
            sha256 = _mask(connection, mask_id).sha256
        return cache_file(sha256, lambda: self.mask_file(mask_id))

    def mask_array(self, mask_id: int) -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under the default preset."""
        from hotpix_registry.fits.packing import unpack_bad

        with reading(self._engine) as connection:
            _mask(connection, mask_id)
            encoding, blob, blob_sha256, _ = queries.mask_blob(connection, mask_id)
        return unpack_bad(encoding, blob, blob_sha256=blob_sha256)

    def mask_dq(self, mask_id: int) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        from hotpix_registry.fits.packing import unpack_dq

        with reading(self._engine) as connection:
            _mask(connection, mask_id)
            encoding, blob, blob_sha256, _ = queries.mask_blob(connection, mask_id)
        return unpack_dq(encoding, blob, blob_sha256=blob_sha256)

    def mask_numbers(self, mask_id: int) -> dict[str, NDArray[Any]]:
        """What the plots of a build draw, by name."""
        import io

        import numpy as np

        with reading(self._engine) as connection:
            _mask(connection, mask_id)
            stored = queries.mask_numbers(connection, mask_id)
        with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
            return dict(archive)


# --- helpers --------------------------------------------------------------------------


def _act() -> Act:
    return Act(actor=getpass.getuser(), host=socket.gethostname(), software=f"hotpix-registry {__version__}")


def _now_us() -> int:
    return time.time_ns() // 1000


def _camera(connection: Connection, name: str) -> CameraRow:
    rows = queries.cameras(connection)
    found = find_camera(rows, name)
    if found is None:
        raise unknown_camera(rows, name)
    return found


def _mask(connection: Connection, mask_id: int) -> MaskRow:
    found = queries.mask(connection, mask_id)
    if found is None:
        raise UnknownId(f"There is no mask {mask_id}.", next_step="`hotpix-registry masks` lists them.")
    return found


def _recipe_for(campaign: Campaign, recipe: Recipe | None) -> Recipe:
    """The recipe asked for; by default the cut-off where there is one exposure time."""
    if recipe is not None:
        if len(campaign.sets) < 2 and recipe.rule not in (Rule.CUTOFF, Rule.NONE):
            raise UsageError(
                f"Rule {recipe.rule} compares exposure times, and the campaign of {campaign.first_night} of "
                f"{campaign.series} has only {campaign.sets[0].exptime_s:g} s.",
                next_step="Take another exposure time, or use --rule cutoff.",
            )
        return recipe
    return Recipe() if len(campaign.sets) > 1 else Recipe(rule=Rule.CUTOFF)


def _mask_values(built: BuiltMask, gates: list[GateResult], camera: CameraRow, tx: int) -> dict[str, Any]:
    from hotpix_registry.registry.build import software
    from hotpix_registry.science.detection import ALGORITHM_VERSION

    ingredients, detection, packed = built.ingredients, built.detection, built.packed
    campaign = ingredients.campaign
    nights = _campaign_validity(campaign.first_night, campaign.last_night, camera)
    return {
        "series_id": campaign.series.series_id,
        "sha256": packed.sha256,
        "build_key": ingredients.build_key,
        "rule": str(ingredients.recipe.rule),
        "algorithm_version": ALGORITHM_VERSION,
        "first_night": campaign.first_night,
        "last_night": campaign.last_night,
        "campaign_start_us": nights.start_us,
        "campaign_end_us": nights.end_us,
        "shortest_s": min(detection.exposures_s),
        "longest_s": max(detection.exposures_s),
        "nx": detection.dq.shape[1],
        "ny": detection.dq.shape[0],
        "flagged": detection.counts["BAD"],
        "limit_e_per_s": detection.limit.e_per_s,
        "profile_id": camera.profile_id,
        "created_tx": tx,
        "recipe": ingredients.recipe.as_dict(),
        "counts": detection.counts,
        "warnings": list(detection.report.get("warnings", ())),
        "software": software(),
        "report": detection.report
        | {
            "limit_reason": detection.limit.reason,
            "bias_method": detection.bias_method,
            "gates": [dataclasses.asdict(gate) for gate in gates],
        },
        "encoding": packed.encoding,
        "blob_sha256": packed.blob_sha256,
        "numbers": built.numbers,
        "blob": packed.blob,
    }


def _campaign_validity(first_night: str, last_night: str, camera: CameraRow) -> Validity:
    from datetime import date

    longitude = camera.profile.longitude_deg_east
    first = Night(date.fromisoformat(first_night), longitude).validity
    last = Night(date.fromisoformat(last_night), longitude).validity
    return Validity(first.start_us, last.end_us)


def _certify(connection: Connection, camera: CameraRow, mask_id: int, tx: int) -> tuple[MaskChange, ...]:
    """Place a mask among those of its series, and write what that closes and opens."""
    from hotpix_registry.timeline import Placed, place

    mask = _mask(connection, mask_id)
    current = []
    for assignment in queries.assignments(connection, [mask.series_id]):
        held = _mask(connection, assignment.mask_id)
        current.append(
            Placed(
                assignment.id,
                assignment.mask_id,
                assignment.validity,
                Validity(held.campaign_start_us, held.campaign_end_us),
            )
        )
    placement = place(
        current,
        Validity(mask.campaign_start_us, mask.campaign_end_us),
        reach_back_days=camera.profile.reach_back_days,
        service_from_us=camera.profile.service_from_us,
    )
    queries.close_assignments(connection, placement.closed, tx)
    for held_id, validity in (*placement.opened, (mask_id, placement.validity)):
        queries.add_assignment(connection, mask.series_id, held_id, validity, tx)
    return tuple(
        MaskChange(
            valid_from=iso(change.validity.start_us) or "",
            valid_to=iso(change.validity.end_us),
            before=change.before,
            after=mask_id,
        )
        for change in placement.changes
        if change.before != mask_id
    )


def _known_result(connection: Connection, mask: MaskRow, campaign: Campaign) -> BuildResult:
    report = queries.mask_details(connection, mask.id)["report"]
    certified = any(a.mask_id == mask.id for a in queries.assignments(connection, [mask.series_id]))
    return BuildResult(
        mask_id=mask.id,
        version=mask.version,
        series=str(campaign.series),
        status="certified" if certified else "candidate",
        new=False,
        sha256=mask.sha256,
        nights=(mask.first_night, mask.last_night),
        exposures_s=tuple(s.exptime_s for s in campaign.sets),
        flagged=mask.flagged,
        pixels=mask.nx * mask.ny,
        counts=mask.counts,
        limit_e_per_s=mask.limit_e_per_s,
        limit_reason=report["limit_reason"],
        bias_method=report["bias_method"],
        warnings=tuple(mask.warnings),
    )


def _listed(row: MaskRow, series: Series, held: list[Validity]) -> dict[str, Any]:
    return {
        "mask_id": row.id,
        "version": row.version,
        "camera": series.camera,
        "series": str(series),
        "status": "certified" if held else "candidate",
        "valid": [{"from": iso(v.start_us), "to": iso(v.end_us)} for v in held],
        "first_night": row.first_night,
        "last_night": row.last_night,
        "exposures_tested_s": [row.shortest_s, row.longest_s],
        "rule": row.rule,
        "limit_e_per_s": row.limit_e_per_s,
        "flagged": row.flagged,
        "pixels": row.nx * row.ny,
        "counts": row.counts,
        "sha256": row.sha256,
        "build_key": row.build_key,
        "algorithm_version": row.algorithm_version,
    }
