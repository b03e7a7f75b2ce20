"""The flagged pixels of a mask, few among millions, and the two images of its file that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ
from hotpix_registry.fits import canonical

_STRIP_PIXELS = 1 << 19
_WORD = 4
"""bytes that are one number of FITS's sums"""


class Flagged(NamedTuple):
    """Pixels with any flag."""

    shape: tuple[int, int]
    """(ny, nx) of the mask"""
    positions: NDArray[np.intp]
    """(n,) into the flat plane, rising"""
    flags: NDArray[np.uint16]
    """(n,) bits of `domain.DQ`, none of them 0"""

    @classmethod
    def of(cls, dq: NDArray[np.uint16]) -> Flagged:
        flat = dq.reshape(-1)
        found = [
            np.flatnonzero(flat[start : start + _STRIP_PIXELS] != 0) + start
            for start in range(0, flat.size, _STRIP_PIXELS)
        ]
        positions = np.concatenate([np.empty(0, np.intp), *found])
        return cls(shape=(dq.shape[0], dq.shape[1]), positions=positions, flags=flat[positions])

    def counts(self) -> dict[DQ, int]:
        """How many pixels carry each flag."""
        of_value = np.bincount(self.flags, minlength=1)
        values = np.flatnonzero(of_value)
        return {flag: int(of_value[values[values & flag.value != 0]].sum()) for flag in DQ}

    def bad_image(self) -> Image:
        """1 where DQ.BAD is set, in bytes."""
        bad = np.flatnonzero(self.flags & np.uint16(DQ.BAD.value))
        return Image(
            size=self.shape[0] * self.shape[1],
            background=0,
            positions=self.positions[bad],
            values=np.ones(bad.size, np.uint8),
        )

    def dq_image(self) -> Image:
        """The flags as FITS stores unsigned 16-bit numbers: less BZERO = 32768."""
        return Image(
            size=self.shape[0] * self.shape[1],
            background=0x8000,
            positions=self.positions,
            values=(self.flags ^ np.uint16(0x8000)).astype(">u2"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Pixels that nearly all have one value."""

    size: int
    background: int
    positions: NDArray[np.intp]
    values: NDArray[Any]
    """of the pixels that have another one, in the order of bytes of the file"""

    @property
    def n_bytes(self) -> int:
        return self.size * self.values.itemsize

    def data_sum(self) -> int:
        """The ones' complement sum of the image, as CHECKSUM takes it, without making the image."""
        per_word = _WORD // self.values.itemsize
        above = self.values.astype(np.int64) - self.background
        total = 0
        for place in range(per_word):
            n_pixels = (self.size - place + per_word - 1) // per_word
            here = self.background * n_pixels + int(above[self.positions % per_word == place].sum())
            total += here << 8 * self.values.itemsize * (per_word - 1 - place)
        return canonical.add_sums([total])

    def strips(self) -> Iterator[memoryview]:
        """The bytes of the image in pieces."""
        edges = [*range(0, self.size, _STRIP_PIXELS), self.size]
        cuts = np.searchsorted(self.positions, edges)
        plain = np.full(min(_STRIP_PIXELS, self.size), self.background, self.values.dtype)
        for start, stop, first, last in zip(edges, edges[1:], cuts, cuts[1:], strict=False):
            strip = plain[: stop - start]
            if first < last:
                strip = strip.copy()
                strip[self.positions[first:last] - start] = self.values[first:last]
            yield strip.view(np.uint8).data
