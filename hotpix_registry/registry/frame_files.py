"""Where the catalogued bytes of frames lie now, and the proof that they are those."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from hotpix_registry.domain import Frame
from hotpix_registry.errors import FrameChanged, NoObject
from hotpix_registry.fits.streams import naming
from hotpix_registry.places import is_url
from hotpix_registry.places import marks as marks_at
from hotpix_registry.registry.ingest import sha256_of
from hotpix_registry.work import processors

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame's catalogued bytes lay, and the marks of the file or object then."""

    path: str
    marks: tuple[int, ...]


Places = Mapping[int, Place]
"""by the id of the frame"""


def locate(frames: Sequence[Frame], known: Places | None = None) -> Places:
    """A place for each frame where its catalogued bytes lie now.

    Files that bear the marks of `known` places still are not read again. Neither is an object with the
    very ETag, size and time that it had when an ingest hashed it: a store does not give one ETag to other
    bytes, while to read all of it once more would double what goes over the network.

    Raises
    ------
    FrameChanged
        A frame vanished, or its bytes are no longer those that were catalogued.
    """
    known = known or {}
    return _of_all(frames, in_threads(lambda frame: _place(frame, known.get(frame.frame_id)), frames))


def untouched(frames: Sequence[Frame]) -> Places | None:
    """Files with the size and time of those that were catalogued; None if not all frames have one.

    Most likely these are the frames: work on them may begin, and its result counts once that is proved.
    """
    found = {}
    for frame in frames:
        if not frame.paths or is_url(frame.paths[0]):
            return None
        try:
            place, is_file = _of_file(frame.paths[0])
        except OSError:
            return None
        *_, size_bytes, mtime_ns, _ = place.marks
        if not is_file or (size_bytes, mtime_ns) != frame.marks[0]:
            return None
        found[frame.frame_id] = place
    return found


@contextlib.contextmanager
def proof(frames: Sequence[Frame], *, threads: int) -> Iterator[Proof]:
    """A proof by the frames' digests, found beside other work once it is begun."""
    aside = ThreadPoolExecutor(threads)
    try:
        yield Proof(frames, aside)
    finally:
        aside.shutdown(cancel_futures=True)


class Proof:
    """Digests that other threads find, or whoever needs them."""

    def __init__(self, frames: Sequence[Frame], aside: Executor) -> None:
        self._frames = frames
        self._aside = aside
        self._found: list[Future[Place | None]] = []

    def begin(self) -> None:
        self._found = [self._aside.submit(_place, frame) for frame in self._frames]

    def places(self) -> Places:
        """As `locate`: whoever asks does a share of what is left."""
        if not self._found:
            return locate(self._frames)
        of_last_first = [
            _place(frame) if future.cancel() else future.result()
            for frame, future in zip(reversed(self._frames), reversed(self._found), strict=True)
        ]
        return _of_all(self._frames, of_last_first[::-1])


def _of_all(frames: Sequence[Frame], places: Iterable[Place | None]) -> Places:
    found = {frame.frame_id: place for frame, place in zip(frames, places, strict=True) if place}
    lost = [frame for frame in frames if frame.frame_id not in found]
    if lost:
        names = [f"{frame.name} has {'changed' if _is_changed(frame) else 'vanished'}" for frame in lost[:5]]
        more = f", and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise FrameChanged(
            f"{', '.join(names)}{more} since the ingest; no mask of this campaign was stored.",
            next_step=(
                "Bring the files back, ingest them at their new place, or take them out with "
                "`hotpix-registry frames exclude`."
            ),
        )
    return found


def _place(frame: Frame, known: Place | None = None) -> Place | None:
    for path, then in itertools.zip_longest(frame.paths, frame.marks):
        if is_url(path):
            with contextlib.suppress(NoObject), naming(path):
                now = marks_at(path)
                place = Place(path, now[:2])
                unchanged = now.certain and now[:2] == then
                if place == known or unchanged or sha256_of(path) == frame.sha256:
                    return place
            continue
        with contextlib.suppress(OSError):
            place, is_file = _of_file(path)
            if place == known or (is_file and sha256_of(path) == frame.sha256):
                return place
    return None


def _of_file(path: str) -> tuple[Place, bool]:
    about = os.stat(path)
    marks = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return Place(path, marks), stat.S_ISREG(about.st_mode)


def _is_changed(frame: Frame) -> bool:
    """Whether something still lies at a place of a frame."""
    for path in frame.paths:
        with contextlib.suppress(OSError, NoObject):
            if is_url(path) or os.path.isfile(path):
                marks_at(path)
                return True
    return False


def in_threads(function: Callable[[Frame], Result], frames: Sequence[Frame]) -> list[Result]:
    """Results in order, by as many threads as there are processors: reading and hashing let them run.

    By more where each waits for a network.
    """
    waits = any(map(is_url, itertools.chain.from_iterable(frame.paths for frame in frames)))
    with ThreadPoolExecutor(16 if waits else min(8, processors())) as pool:
        return list(pool.map(function, frames))
