"""The facade on mask versions: how they are made, and which dates they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.domain import Recipe
from hotpix_registry.errors import HotpixError, NothingToBuild
from hotpix_registry.registry import content, masks
from hotpix_registry.registry.facade.opened import Opened, act, named_camera
from hotpix_registry.registry.masks import BuildResult, MaskChange, Plan


class VersionMethods(Opened):
    """Mask versions: plan, build, import, edit, certify."""

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
            row = named_camera(connection, camera)
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

        row = self._camera(camera)
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
                results.append(build.build_campaign(self._engine, act(), campaign, row, recipe, progress))
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

        row = self._camera(camera)
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
        edited = derived.edit(source, series, content.dq(self._engine, mask_id), mask=mask, unmask=unmask)
        camera = self._camera(series.camera)
        packed = derived.pack(edited, camera)
        with self._writing("edit", reason) as (connection, tx):
            return derived.store(connection, packed, camera, tx)

    def certify(self, mask_id: int, *, reason: str | None = None) -> tuple[MaskChange, ...]:
        """Let a candidate answer for its dates; returns the dates that now answer otherwise."""
        with self._writing("certify", reason) as (connection, tx):
            mask = masks.find_mask(connection, mask_id)
            series = queries.series(connection)[mask.series_id]
            return masks.certify(connection, named_camera(connection, series.camera), mask_id, tx)
