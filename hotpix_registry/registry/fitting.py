"""How stored masks are laid over science frames, and the files that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import Source, reading
from hotpix_registry.catalogue.queries import CameraRow, MaskRow
from hotpix_registry.domain import Facts, Rule, Series
from hotpix_registry.registry import content, masks
from hotpix_registry.registry.frames import find_camera

if TYPE_CHECKING:
    from hotpix_registry.fits.adapt import Adaptation, Geometry
    from hotpix_registry.fits.exports import Export


class Fitter:
    """Lays masks over frames; where a mask comes from, and how it fits a geometry, is worked out once."""

    def __init__(self, engine: Source) -> None:
        self._engine = engine
        self._origins: dict[int, Origin] = {}
        self._plans: dict[tuple[int, Geometry, Geometry, bool], Adaptation] = {}
        self._paths: dict[tuple[int, Geometry, Geometry, bool, str], Path] = {}

    def origin(self, mask_id: int) -> Origin:
        if mask_id not in self._origins:
            self._origins[mask_id] = Origin.of(self._engine, mask_id)
        return self._origins[mask_id]

    def plan(self, mask_id: int, facts: Facts, *, allow_binning: bool = False) -> Adaptation:
        """How a stored mask is laid over a frame: its criteria tell what was compared; reads no pixels.

        Raises
        ------
        GeometryMismatch
            With every part, wanted and found.
        """
        from hotpix_registry.fits.adapt import plan_adaptation

        key = self._key(mask_id, facts, allow_binning)
        if key not in self._plans:
            self._plans[key] = plan_adaptation(key[1], key[2], allow_binning=allow_binning)
        return self._plans[key]

    def file(self, mask_id: int, facts: Facts, *, allow_binning: bool = False) -> Export:
        """The mask file for frames of another geometry, with its own digest and its source's.

        Raises
        ------
        GeometryMismatch
            With every part, wanted and found.
        """
        from hotpix_registry.fits.exports import adapted_file

        plan = self.plan(mask_id, facts, allow_binning=allow_binning)
        frame = self.frame_geometry(mask_id, facts)
        return adapted_file(content.file(self._engine, mask_id), plan, frame)

    def frame_geometry(self, mask_id: int, facts: Facts) -> Geometry:
        """What is known of where the frame's pixels lie."""
        return geometry_of(facts, self.origin(mask_id).camera)

    def path(
        self, mask_id: int, facts: Facts, *, allow_binning: bool = False, preset: str = "default"
    ) -> Path:
        """A file of the mask for a frame, in the content-addressed cache; the stored one where that fits."""
        from hotpix_registry.files import cache_file
        from hotpix_registry.fits.exports import export

        key = (*self._key(mask_id, facts, allow_binning), preset)
        if key not in self._paths:
            if self.plan(mask_id, facts, allow_binning=allow_binning).steps:
                derived = self.file(mask_id, facts, allow_binning=allow_binning)
                if preset != "default":
                    derived = export(derived.content, "fits", preset)
                self._paths[key] = cache_file(derived.sha256, lambda: derived.content)
            else:
                self._paths[key] = content.path(self._engine, mask_id, preset)
        return self._paths[key]

    def _key(self, mask_id: int, facts: Facts, allow_binning: bool) -> tuple[int, Geometry, Geometry, bool]:
        origin = self.origin(mask_id)
        return mask_id, origin.geometry(facts), geometry_of(facts, origin.camera), allow_binning


def geometry_of(facts: Facts, camera: CameraRow) -> Geometry:
    """The geometry of a science frame by its header and its camera's profile."""
    from hotpix_registry.fits.adapt import Geometry

    profile = camera.profile
    overscan, trim = profile.sections_on(profile.night_of(facts.start_us or 0)).sections_of(facts)
    return Geometry.of_frame(facts, trim_section=trim, overscan_section=overscan)


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of where a stored mask comes from."""

    mask: MaskRow
    series: Series
    camera: CameraRow
    program: str | None
    """the software that took its darks"""
    raw_section: str | None
    """the part of the raw frame that it covers, by its file"""

    @classmethod
    def of(cls, engine: Source, mask_id: int) -> Origin:
        raw_section = content.raw_section(engine, mask_id)
        with reading(engine) as connection:
            row = masks.find_mask(connection, mask_id)
            series = queries.series(connection)[row.series_id]
            camera = find_camera(queries.cameras(connection), series.camera)
            assert camera is not None
            return cls(row, series, camera, _program_of(connection, row, camera), raw_section)

    def geometry(self, facts: Facts) -> Geometry:
        """The mask's geometry beside a frame.

        Whoever imported a mask said that it is for the camera's frames: where no program is known for it,
        it counts as that of the frame.
        """
        from hotpix_registry.fits.adapt import Geometry

        imported = self.mask.rule == Rule.IMPORT
        return Geometry.of_mask(
            self.series.configuration,
            (self.mask.ny, self.mask.nx),
            self.raw_section,
            program=self.program or (facts.software if imported else None),
        )


def _program_of(connection: Connection, mask: MaskRow, camera: CameraRow) -> str | None:
    """The program that took a mask's darks; a mask made from masks has those of its series."""
    from hotpix_registry.fits.adapt import program_name

    ids = [frame_id for frame_id, _ in queries.mask_inputs(connection, mask.id)]
    if ids:
        frames = queries.frames(connection, ids=ids)
    else:
        frames = [
            frame
            for frame in queries.frames(connection, camera_id=camera.camera_id)
            if frame.series_id == mask.series_id
        ]
    programs: Mapping[str, str | None] = {
        program_name(frame.facts.software): frame.facts.software for frame in frames
    }
    return next(iter(programs.values()), None) if len(programs) < 2 else " and ".join(sorted(programs))
