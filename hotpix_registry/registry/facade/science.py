"""The facade on science frames: masks written into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotpix_registry.catalogue.engine import reading
from hotpix_registry.files import make_folder, sweep
from hotpix_registry.registry.facade.answers import AnswerMethods
from hotpix_registry.registry.facade.cameras import CameraMethods
from hotpix_registry.registry.question import Fallback
from hotpix_registry.registry.view import View, moment

if TYPE_CHECKING:
    from hotpix_registry.registry.apply import Applied
    from hotpix_registry.registry.masks_for import MaskFor
    from hotpix_registry.registry.science_frames import ScienceFrame


class ScienceMethods(CameraMethods, AnswerMethods):
    """Science frames: the mask of each, and masks written into them."""

    def apply(
        self,
        mask: int | str,
        files: Sequence[str | Path] | str | Path,
        *,
        camera: str | None = None,
        temperature_c: float | None = None,
        preset: str = "default",
        fallback: Fallback | None = None,
        max_age_days: int | None = None,
        allow_binning: bool = False,
        allow_revoked: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
        output: str | Path | None = None,
        in_place: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Applied]:
        """Join a mask with those of science frames; every frame is accounted for.

        Parameters
        ----------
        mask
            the id of a mask; a date, for which the `camera` is asked; the receipt of an earlier answer; or
            `auto`, by which each frame's own header asks for its mask
        fallback, max_age_days
            what may answer when no mask is valid at a date, and how far its darks may lie from it, as for
            `mask`
        allow_binning
            whether blocks of an unbinned mask are joined for a binned frame
        allow_revoked
            whether a mask is taken that has been declared unusable
        as_of, release
            the state of the registry that dates and headers are asked in, as for `mask`
        output
            a file for one frame, or a folder; frames keep their names there

        Raises
        ------
        UsageError, UnknownId, UnknownCamera
        NoMask, AmbiguousMask, RevokedMask
            No one mask answers for the date; with `auto` the frame is refused instead.
        """
        from hotpix_registry.registry import apply

        named = [files] if isinstance(files, str | Path) else files
        pairs, folder = apply.targets(
            [str(file) for file in named],
            None if output is None else str(output),
            in_place=in_place,
            dry_run=dry_run,
        )
        choose = self._chooser(
            mask,
            camera=camera,
            temperature_c=temperature_c,
            preset=preset,
            fallback=fallback,
            max_age_days=max_age_days,
            allow_binning=allow_binning,
            allow_revoked=allow_revoked,
            as_of=as_of,
            release=release,
        )
        applier = apply.Applier(self, allow_binning=allow_binning, camera=camera, dry_run=dry_run)
        if not dry_run:
            if folder is not None:
                make_folder(folder)
            for place in {output.parent for _, output in pairs if output is not None}:
                sweep(place)  # what one that was killed left
        return applier.run(pairs, choose, progress)

    def masks_for(
        self,
        files: Sequence[str | Path] | str | Path,
        *,
        recursive: bool = False,
        camera: str | None = None,
        allow_binning: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
        explain: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **asked: Any,
    ) -> list[MaskFor]:
        """The mask of each science frame, by what its header says; thousands in one reading.

        Parameters
        ----------
        files
            files, folders, globs, `@list.txt`, or `-` for a list on standard input
        camera
            the camera that took them; None reads it from their headers
        allow_binning
            whether blocks of an unbinned mask are joined for a binned frame
        asked
            `preset`, `fallback`, `max_age_days` and `allow_revoked`, as for `mask`

        Raises
        ------
        UsageError, UnknownCamera, UnknownId
            The question itself is wrong; what is wrong with a frame stands in its own result.
        """
        from hotpix_registry.registry import ingest
        from hotpix_registry.registry.science_frames import read_facts

        named = [files] if isinstance(files, str | Path) else files
        found = ingest.find_files([str(file) for file in named], recursive=recursive)
        return self._masks_for(
            read_facts(found, self.header_rules(), progress=progress),
            camera=camera,
            allow_binning=allow_binning,
            as_of=as_of,
            release=release,
            explained=explain,
            **asked,
        )

    def masks_for_headers(
        self,
        headers: Sequence[Mapping[str, Any]],
        *,
        camera: str | None = None,
        allow_binning: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
        explain: bool = False,
        **asked: Any,
    ) -> list[MaskFor]:
        """As `masks_for`, of frames whose headers alone are at hand; thousands in one reading.

        Parameters
        ----------
        headers
            keyword → value of each frame's header; astropy's `Header` is such a mapping
        """
        from hotpix_registry.registry.science_frames import facts_of_headers

        return self._masks_for(
            facts_of_headers(headers, self.header_rules()),
            camera=camera,
            allow_binning=allow_binning,
            as_of=as_of,
            release=release,
            explained=explain,
            **asked,
        )

    def _masks_for(
        self,
        frames: Sequence[ScienceFrame],
        *,
        camera: str | None,
        allow_binning: bool,
        as_of: int | str | None,
        release: str | None,
        explained: bool,
        **asked: Any,
    ) -> list[MaskFor]:
        from hotpix_registry.registry import masks_for

        with reading(self._source) as connection:
            view = View(connection, moment(connection, as_of, release), self._memory)
            if camera is not None:
                camera = view.camera(camera).name
            answered = masks_for.answer_all(
                view, frames, camera, allow_binning=allow_binning, explained=explained, **asked
            )
        return masks_for.fit_all(self._source, answered, allow_binning=allow_binning)
