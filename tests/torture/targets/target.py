"""A reader, what it is fed with first, and how its inputs are changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    name: str
    what: str
    """what the rows of the table call it"""
    feed: Callable[[bytes, Path], None]
    """gives an input to the reader; the folder is its own. Anything raised but a HotpixError is a fault"""
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[bytes, random.Random], bytes]
    words: Sequence[bytes] = ()
    """what a reader looks for"""
    longest: int = 1 << 16
    """bytes of an input"""
