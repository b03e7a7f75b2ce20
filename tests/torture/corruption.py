"""One byte changes, anywhere in what is kept or under way: it is found on reading, and never served."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from hotpix_registry import Client
from hotpix_registry.answers import Answer
from hotpix_registry.catalogue import schema
from hotpix_registry.client import FromCache
from hotpix_registry.errors import FrameChanged, HotpixError, IntegrityError
from tests.cli.conftest import Hotpix
from tests.databases import PostgreSQL
from tests.lines import Line
from tests.serving import serving
from tests.small_camera import write_campaign
from tests.story import CAMERA
from tests.test_portability import damage_row
from tests.torture import place
from tests.torture.place import NIGHTS, Stage
from tests.torture.table import Row, row_of

NIGHT = NIGHTS[0]


def places(draw: random.Random, n_bytes: int, trials: int) -> list[int]:
    """A byte of each of `trials` regions of equal size."""
    edges = np.linspace(0, n_bytes, min(trials, n_bytes) + 1).astype(int)
    return [draw.randrange(start, max(end, start + 1)) for start, end in pairwise(edges)]


def flipped(content: bytes, at: int, draw: random.Random) -> bytes:
    other = content[at] ^ (1 << draw.randrange(8))
    return content[:at] + bytes([other]) + content[at + 1 :]


def corruption(server: PostgreSQL, *, kind: str, trials: int, seed: int) -> Iterator[Row]:
    draw = random.Random(f"{seed} {kind}")
    with place.new_stage(kind, server) as stage:
        place.lived(stage)
        with place.as_before(stage).opened() as registry:
            wanted = registry.mask(CAMERA, NIGHT).array
            sha256 = registry.mask(CAMERA, NIGHT).answer.sha256
        yield from _stored_masks(stage, trials, draw, sha256)
        yield _cached_file(stage, trials, draw, wanted)
        yield from _frames(stage, trials, draw)
        yield from _downloads(stage, trials, draw, wanted)
        yield _kept_answers(stage, trials, draw, wanted)


def _stored_masks(stage: Stage, trials: int, draw: random.Random, sha256: str) -> Iterator[Row]:
    """Masks in the database, of which the first can be built again and the second, imported, cannot."""
    served: list[str] = []
    unnamed: list[str] = []
    unmended: list[str] = []
    with stage.copy() as hotpix:
        columns = _row(hotpix, 1)
        at = places(draw, len(columns), trials)
        for byte in at:
            damage_row(str(hotpix.database), schema.masks, 1, {"blob": flipped(columns, byte, draw)})
            with hotpix.opened() as registry:
                if (told := _serves(lambda: registry.mask(CAMERA, NIGHT).array)) is not None:
                    served.append(f"byte {byte}: {told}")
                named = [finding.where for finding in registry.verify(frames=False).findings]
                if named != ["mask 1"]:
                    unnamed.append(f"byte {byte}: {named}")
                registry.verify(frames=False, fix=True)
                if (
                    registry.verify(frames=False).findings
                    or registry.mask(CAMERA, NIGHT).answer.sha256 != sha256
                ):
                    unmended.append(f"byte {byte}")
    yield row_of(f"a byte of a stored mask, {stage.kind}: served?", len(at), served)
    yield row_of(f"a byte of a stored mask, {stage.kind}: named by verify?", len(at), unnamed)
    yield row_of(f"a byte of a stored mask, {stage.kind}: mended from its darks?", len(at), unmended)


def _row(hotpix: Hotpix, mask_id: int) -> bytes:
    with hotpix.opened() as registry, registry._engine.connect() as connection:
        statement = sa.select(schema.masks.c.blob).where(schema.masks.c.id == mask_id)
        return bytes(connection.execute(statement).scalar_one())


def _serves(ask: Callable[[], NDArray[np.bool_]]) -> str | None:
    """What is wrong with how a damaged thing is served; None if it is refused in a sentence."""
    try:
        ask()
    except IntegrityError:
        return None
    except HotpixError as error:
        return f"{type(error).__name__}: {error}"
    return "a mask was served"


def _cached_file(stage: Stage, trials: int, draw: random.Random, wanted: NDArray[np.bool_]) -> Row:
    problems = []
    with stage.copy() as hotpix, hotpix.opened() as registry, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTPIX_CACHE_DIR", str(hotpix.cwd / "cache"))
        path = registry.mask(CAMERA, NIGHT).path
        whole = path.read_bytes()
        at = places(draw, len(whole), trials)
        for byte in at:
            path.write_bytes(flipped(whole, byte, draw))
            named = [finding.where for finding in registry.verify(frames=False).findings]
            if named != [str(path)]:
                problems.append(f"byte {byte}: verify names {named}")
            again = registry.mask(CAMERA, NIGHT)
            if again.path.read_bytes() != whole or not np.array_equal(again.array, wanted):
                problems.append(f"byte {byte}: it was served")
    return row_of(f"a byte of a cached file, {stage.kind}", len(at), problems)


def _frames(stage: Stage, trials: int, draw: random.Random) -> Iterator[Row]:
    """A dark, then a master, changes between its ingest and the build, and its size and time do not."""
    once = {30: 1, 120: 1}
    folder = stage.folder / "masters"
    write_campaign(folder, start=place.night(2022), darks=once, biases=1, header={"NCOMBINE": 4})
    with stage.copy() as hotpix, hotpix.opened() as registry:
        registry.ingest([folder])
        for what, path, night in (
            ("dark", stage.folder / "darks" / "dark_120s_02.fits", NIGHT),
            ("master dark", folder / "dark_120s_01.fits", f"{place.night(2022):%Y-%m-%d}"),
        ):
            problems = []
            whole, about = path.read_bytes(), path.stat()
            at = places(draw, len(whole), trials)
            before = len(registry.masks())
            for byte in at:
                path.write_bytes(flipped(whole, byte, draw))
                os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
                try:
                    registry.build(CAMERA, nights=(night, night), recipe=place.recipe(limit_e_per_s=5.0))
                except FrameChanged as error:
                    if path.name not in str(error):
                        problems.append(f"byte {byte}: {error}")
                else:
                    problems.append(f"byte {byte}: it was built from")
                named = [finding.where for finding in registry.verify().findings]
                if [name.endswith(path.name) for name in named] != [True]:
                    problems.append(f"byte {byte}: verify names {named}")
            if len(registry.masks()) != before:
                problems.append("a mask was stored")
            path.write_bytes(whole)
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
            registry.build(CAMERA, nights=(night, night), recipe=place.recipe(limit_e_per_s=5.0))
            yield row_of(f"a byte of a {what} between ingest and build, {stage.kind}", len(at), problems)


# --- on the way, and with a client -----------------------------------------------------------------


def _downloads(stage: Stage, trials: int, draw: random.Random, wanted: NDArray[np.bool_]) -> Iterator[Row]:
    """Each byte that a server sends is changed once on its way; the line is bad, the client is not misled."""
    with serving(stage.database) as url:
        for what, is_file in (("an answer", False), ("a mask's file", True)):
            with Line(url) as line, Client(line.url, cache_dir=stage.folder / "length") as client:
                mask = client.mask(CAMERA, NIGHT)
                sent = line.sent
                right = mask.answer
                if is_file:
                    mask.array  # noqa: B018
                    sent = line.sent - sent
            problems = []
            at = places(draw, sent, trials)
            for byte in at:
                cache = stage.folder / f"down{what[2]}{byte}"
                with Line(url) as line, Client(line.url, cache_dir=cache, timeout_s=2.0) as client:
                    if not is_file:
                        line.flip(byte, draw)
                    try:
                        mask = client.mask(CAMERA, NIGHT)
                        if is_file:
                            line.flip(line.sent + byte, draw)
                        if mask.answer != right or not np.array_equal(mask.array, wanted):
                            problems.append(f"byte {byte}: it was believed")
                    except HotpixError:
                        pass
            yield row_of(f"a byte of {what} on its way to a client, {stage.kind}", len(at), problems)


def _kept_answers(stage: Stage, trials: int, draw: random.Random, wanted: NDArray[np.bool_]) -> Row:
    """What a client keeps for when the line is down."""
    problems: list[str] = []
    cache = stage.folder / "kept"
    with serving(stage.database) as url, Client(url, cache_dir=cache) as client:
        client.mask(CAMERA, NIGHT).array  # noqa: B018
    right = _offline(url, cache)
    assert right is not None
    n = 0
    for path in (path for path in cache.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for byte in places(draw, len(whole), trials):
            n += 1
            path.write_bytes(flipped(whole, byte, draw))
            told = _offline(url, cache)
            if told is not None and (told[0] != right[0] or not np.array_equal(told[1], wanted)):
                problems.append(f"byte {byte} of {path.name}: it was believed")
            path.write_bytes(whole)
    return row_of(f"a byte of what a client keeps, {stage.kind}", n, problems)


def _offline(url: str, cache: Path) -> tuple[Answer, NDArray[np.bool_]] | None:
    """What a client says without a line; None where it knows that it does not know."""
    with warnings.catch_warnings(), Client(url, cache_dir=cache, offline=True) as client:
        warnings.simplefilter("ignore", FromCache)
        try:
            mask = client.mask(CAMERA, NIGHT)
            return mask.answer, mask.array
        except HotpixError:
            return None
