"""The facade on cameras: their profiles, names and static defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import Defect
from hotpix_registry.errors import UnknownId
from hotpix_registry.registry.facade.opened import Opened, named_camera, now_us

if TYPE_CHECKING:
    from hotpix_registry.registry.camera_book import AppliedProfile


class CameraMethods(Opened):
    """Cameras: list, profiles, names, static defects."""

    def cameras(self) -> list[CameraRow]:
        """Registered cameras by name."""
        with reading(self._source) as connection:
            return queries.cameras(connection)

    def camera(self, name: str) -> CameraRow:
        """One camera by name or alias."""
        return self._camera(name)

    def apply_profile(self, path: str | Path, *, trim: bool = False) -> AppliedProfile:
        """Load a camera profile or a keyword profile from TOML.

        Parameters
        ----------
        trim
            cut what masks hold across a night in the past from which on a new dated section is in force

        Raises
        ------
        Conflict
            Masks hold dates across it; nothing is written.
        """
        from hotpix_registry.registry import camera_book

        with self._writing("apply profile", str(Path(path).name)) as (connection, tx):
            return camera_book.apply_profile(connection, Path(path), tx, now_us=now_us(), trim=trim)

    def confirm_camera(self, name: str) -> None:
        """Say that a provisional camera's profile is right."""
        from hotpix_registry.registry import camera_book

        with self._writing("confirm camera") as (connection, tx):
            camera_book.confirm(connection, named_camera(connection, name), tx)

    def rename_camera(self, name: str, new_name: str) -> None:
        """Give a camera another name; the old one stays as an alias."""
        from hotpix_registry.registry import camera_book

        with self._writing("rename camera") as (connection, tx):
            camera_book.rename(connection, named_camera(connection, name), new_name, tx)

    def alias_camera(self, name: str, alias: str) -> None:
        """Let a camera be found under one more name."""
        from hotpix_registry.registry import camera_book

        with self._writing("alias camera") as (connection, tx):
            camera_book.alias(connection, named_camera(connection, name), alias, tx)

    def merge_cameras(self, name: str, into: str) -> int:
        """Say that two cameras are one: frames and names of the first go to the second."""
        from hotpix_registry.registry import camera_book

        with self._writing("merge cameras") as (connection, tx):
            return camera_book.merge(
                connection, named_camera(connection, name), named_camera(connection, into), tx
            )

    def split_camera(self, name: str, new_name: str, *, nights: tuple[str, str]) -> int:
        """Move the frames of some nights to a camera of their own; returns how many."""
        from hotpix_registry.registry import camera_book

        with self._writing("split camera") as (connection, tx):
            return camera_book.split(connection, named_camera(connection, name), new_name, nights, tx)

    def defects(self, camera: str) -> list[Defect]:
        """A camera's static list of bad pixels, which every later build takes in as MANUAL."""
        with reading(self._source) as connection:
            return queries.defects(connection, named_camera(connection, camera).camera_id)

    def add_defects(self, camera: str, defects: Sequence[Defect], *, reason: str) -> list[int]:
        """Put boxes of pixels on a camera's static list; returns their ids."""
        with self._writing("add defects", reason) as (connection, tx):
            camera_id = named_camera(connection, camera).camera_id
            return [queries.add_defect(connection, camera_id, defect, tx) for defect in defects]

    def remove_defects(self, camera: str, ids: Sequence[int], *, reason: str) -> None:
        """Take boxes off a camera's static list; masks already built keep them."""
        with self._writing("remove defects", reason) as (connection, tx):
            camera_id = named_camera(connection, camera).camera_id
            known = {defect.defect_id for defect in queries.defects(connection, camera_id)}
            if unknown := sorted(set(ids) - known):
                raise UnknownId(
                    f"Camera {camera} has no defect {unknown[0]}.",
                    next_step=f"`hotpix-registry defects --camera {camera}` lists them.",
                )
            queries.close_defects(connection, camera_id, ids, tx)
