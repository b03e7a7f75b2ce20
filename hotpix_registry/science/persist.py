"""Bad pixels followed through the campaigns of a series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ


def persist(history: Sequence[NDArray[np.uint16]], *, misses: int = 2) -> NDArray[np.uint16]:
    """Combine successive masks: on at first detection, off after two consecutive misses.

    About a fifth of new hot pixels come and go; a pixel that was found bad stays masked through one
    campaign that misses it. A pixel that is kept on carries the flags of its last detection, and
    UNSTABLE.

    Parameters
    ----------
    history : sequence of (ny, nx) uint16
        Data quality of each campaign by its own evidence, oldest first, at least one.
    misses : int
        Consecutive campaigns without BAD after which a pixel is good again.

    Returns
    -------
    (ny, nx) uint16
    """
    state = history[0].copy()
    missed = np.zeros(state.shape, dtype=np.uint8)
    for found in history[1:]:
        bad = (found & DQ.BAD.value) != 0
        held = (state & DQ.BAD.value) != 0
        missed = np.where(bad, 0, missed + 1).astype(np.uint8)
        keep = held & ~bad & (missed < misses)
        state = np.where(keep, state | np.uint16(DQ.UNSTABLE.value), found)
    return state
