"""Masks that a server gave: their file from the verified cache, their arrays made on demand."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotpix_registry.answers import Answer
from hotpix_registry.errors import HotpixError, IntegrityError
from hotpix_registry.files import cache_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.fits.adapt import Adaptation
    from hotpix_registry.fits.exports import Export


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteMask:
    """A mask as a pipeline uses it: the answer, the boolean array, the flags, the file.

    What the answer says is at hand as attributes too: `mask.version`, `mask.receipt`, `mask.warnings`.
    """

    answer: Answer
    meta: dict[str, Any] = field(repr=False)
    """the answer as the server sent it"""
    steps: tuple[str, ...] = ()
    """how it is adapted to the frame that it was asked for"""
    _file: Callable[[Answer], bytes] = field(repr=False)
    _folder: Path = field(repr=False)
    _adaptation: Mapping[str, Any] | None = field(default=None, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name in type(self).__slots__:  # not there yet, while it is copied
            raise AttributeError(name)
        return getattr(self.answer, name)

    @property
    def array(self) -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under the preset that was asked for.

        Raises
        ------
        IntegrityError
            The server sent another file than it had announced.
        ServerUnreachable
            The file is not in the cache, and cannot be had.
        """
        if self._adaptation is None and self.answer.preset == "default":
            from hotpix_registry.fits.maskfile import read_bad

            return read_bad(self._file(self.answer))
        from hotpix_registry.fits.exports import preset_mask

        return preset_mask(self.dq, self.answer.preset)

    @property
    def dq(self) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        from hotpix_registry.fits.maskfile import decode

        dq = decode(self._file(self.answer)).dq
        if self._adaptation is None:
            return dq
        from hotpix_registry.fits.adapt import adapt

        return adapt(dq, _adaptation_of(self._adaptation))

    @property
    def path(self) -> Path:
        """The mask file in the content-addressed cache; a derived one where preset or frame ask for it."""
        content = self._file(self.answer)
        derived = self._derived(content)
        if derived is None:
            return cache_file(self.answer.sha256, lambda: content, folder=self._folder)
        return cache_file(derived.sha256, lambda: derived.content, folder=self._folder)

    def _derived(self, content: bytes) -> Export | None:
        from hotpix_registry.fits import exports

        derived = None
        if self._adaptation is not None:
            from hotpix_registry.fits.adapt import Geometry

            frame = Geometry(**_tuples(self._adaptation["frame"]))
            derived = exports.adapted_file(content, _adaptation_of(self._adaptation), frame)
        if self.answer.preset != "default":
            source = content if derived is None else derived.content
            derived = exports.export(source, "fits", self.answer.preset)
        return derived


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMask:
    """The mask of one science frame, or why there is none."""

    frame: str
    """the file, or the number of the header from 1"""
    mask: RemoteMask | None = None
    error: HotpixError | None = None
    frame_type: str | None = None
    """what the header says that it is, where it is no science frame"""
    geometry: tuple[Mapping[str, Any], ...] = ()
    """what of the geometry was compared"""

    def found(self) -> RemoteMask:
        """The mask.

        Raises
        ------
        HotpixError
            There is none for this frame; the sentence says why.
        """
        if self.error is not None:
            raise self.error
        assert self.mask is not None
        return self.mask


def file_of(sha256: str, folder: Path, download: Callable[[], bytes], whose: str) -> bytes:
    """A mask file out of the cache, its digest verified; downloaded compressed when it is not there.

    Raises
    ------
    IntegrityError
        What was downloaded is not the file of that digest; it is not kept.
    """

    def produce() -> bytes:
        try:
            content = gzip.decompress(download())
        except (OSError, EOFError, zlib.error):
            content = b""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise IntegrityError(
                f"What {whose} sent is not the file with the sha256 {sha256} that it had announced.",
                next_step="Ask again; if it stays so, run `hotpix-registry verify` there.",
            )
        return content

    return cache_file(sha256, produce, folder=folder).read_bytes()


def _adaptation_of(told: Mapping[str, Any]) -> Adaptation:
    from hotpix_registry.fits.adapt import Adaptation, Step

    return Adaptation(
        steps=tuple(Step(**_tuples(step)) for step in told["steps"]),
        criteria=(),
        mask_shape=tuple(told["mask_shape"]),
        shape=tuple(told["frame"]["shape"]),
    )


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
