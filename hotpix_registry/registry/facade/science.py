"""The facade on science frames: masks written into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hotpix_registry.files import make_folder
from hotpix_registry.registry.facade.opened import Opened

if TYPE_CHECKING:
    from hotpix_registry.registry.apply import Applied


class ScienceMethods(Opened):
    """Science frames: apply a mask."""

    def apply(
        self,
        mask: int | str,
        files: Sequence[str | Path] | str | Path,
        *,
        camera: str | None = None,
        temperature_c: float | None = None,
        preset: str = "default",
        allow_binning: bool = False,
        output: str | Path | None = None,
        in_place: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Applied]:
        """Join a mask with those of science frames; every frame is accounted for.

        Parameters
        ----------
        mask
            the id of a mask; a date, for which the `camera` is asked; or `auto`, by which each frame's own
            header asks for its mask
        allow_binning
            whether blocks of an unbinned mask are joined for a binned frame
        output
            a file for one frame, or a folder; frames keep their names there

        Raises
        ------
        UsageError, UnknownId, UnknownCamera
        NoMask, AmbiguousMask
            No one mask answers for the date; with `auto` the frame is refused instead.
        """
        from hotpix_registry.registry import apply
        from hotpix_registry.registry.choose import chooser

        named = [files] if isinstance(files, str | Path) else files
        pairs, folder = apply.targets(
            [str(file) for file in named],
            None if output is None else str(output),
            in_place=in_place,
            dry_run=dry_run,
        )
        choose = chooser(self._engine, mask, camera=camera, temperature_c=temperature_c, preset=preset)
        applier = apply.Applier(self._engine, allow_binning=allow_binning, camera=camera, dry_run=dry_run)
        if folder is not None and not dry_run:
            make_folder(folder)
        return applier.run(pairs, choose, progress)
