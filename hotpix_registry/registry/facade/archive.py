"""The facade on archives: which camera took a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hotpix_registry.errors import HotpixError
from hotpix_registry.registry.facade.opened import Opened

if TYPE_CHECKING:
    from hotpix_registry.registry.identify import Identification, Seen


class ArchiveMethods(Opened):
    """Frames of unknown origin: recognised by their hot pixels."""

    def identify(self, path: str | Path, *, camera: str | None = None) -> Identification:
        """Which camera, orientation and epoch a dark, or any long frame, comes from, by its hot pixels.

        Parameters
        ----------
        camera
            compare with the masks of this camera only

        Raises
        ------
        UnreadableFrame, UnknownCamera
        NoMask
            There are no masks to compare with. That none fits is an answer, and no error.
        """
        return next(self.identify_each([path], camera=camera))

    def identify_each(
        self,
        paths: Sequence[str | Path],
        *,
        camera: str | None = None,
        failed: Callable[[str, HotpixError], None] | None = None,
    ) -> Iterator[Identification]:
        """As `identify` for many frames, one after the other; the masks are read once.

        `failed` is told of frames that cannot be read, and the others go on; without it the first raises.
        """
        from hotpix_registry.registry import identify

        catalogue = identify.load_catalogue(self._source, camera)
        for path in paths:
            try:
                seen = identify.see(str(path), catalogue.rules)
                yield identify.identify(self._source, catalogue, seen)
            except HotpixError as error:
                if failed is None:
                    raise
                failed(str(path), error)

    def identify_seen(self, frames: Sequence[Seen], *, camera: str | None = None) -> list[Identification]:
        """As `identify_each`, of frames that were read elsewhere."""
        from hotpix_registry.registry import identify

        catalogue = identify.load_catalogue(self._source, camera)
        return [identify.identify(self._source, catalogue, seen) for seen in frames]
