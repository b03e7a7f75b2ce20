"""A registry on a server, with the reading methods of class Registry: commands cannot tell the difference."""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hotpix_registry.client import Client, FrameMask, FromCache, RemoteMask
from hotpix_registry.errors import HotpixError, ServerUnreachable, UsageError
from hotpix_registry.registry import Mask, Registry
from hotpix_registry.registry.masks_for import MaskFor
from hotpix_registry.remote import protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.domain import Facts
    from hotpix_registry.registry.choose import Choose, Chosen
    from hotpix_registry.registry.compare import Affected
    from hotpix_registry.registry.identify import Identification
    from hotpix_registry.registry.science_frames import ScienceFrame

log = logging.getLogger(__name__)

_ROUTES = {
    "ingest": "POST /v1/frames",
    "build": "POST /v1/cameras/NAME/build",
    "compare_recipes": "POST /v1/recipes/diff",
    "roll_out": "POST /v1/recipes/rollout",
    "roll_back": "POST /v1/recipes/rollback",
    "certify": "POST /v1/masks/ID/certify",
    "decertify": "POST /v1/masks/ID/decertify",
    "revoke": "POST /v1/masks/ID/revoke",
    "add_event": "POST /v1/cameras/NAME/events",
    "create_release": "POST /v1/releases",
}
"""how a server is asked for what changes the registry, with a token that has the scope"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FarMaskFor(MaskFor):
    """The mask of one science frame, whose file the server has."""

    _mask: RemoteMask | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        if self._mask is None:
            raise self.error or ValueError("no mask")
        return self._mask.path


class RemoteRegistry(Registry):
    """A registry that `hotpix-registry serve` serves.

    Raises
    ------
    UsageError
        By every method that changes the registry, or needs its database.
    ServerUnreachable
        By every other, when the server cannot be reached; masks that were asked for before are given.
    """

    def __init__(self, url: str, *, client: Client | None = None) -> None:
        self._client = client or Client(url)
        self._digests: dict[int, str] = {}
        self._warned_of = ""

    @property
    def _engine(self) -> NoReturn:  # type: ignore[override]
        raise UsageError(
            f"This needs the database itself, and {self} is asked over HTTP.",
            next_step="Name the database with --database, where it can be reached.",
        )

    def close(self) -> None:
        self._client.close()

    def __str__(self) -> str:
        return self._client.server.url

    def _ask(self, method: str, arguments: dict[str, Any]) -> Any:
        if self._client.offline:
            raise ServerUnreachable(f"{self} is not to be asked (offline).", next_step="Ask it later.")
        reply = self._client.server.post(f"{protocol.PATH}/{method}", protocol.request_of(arguments))
        if reply.warning is not None and reply.warning != self._warned_of:
            self._warned_of = reply.warning
            log.warning("Warning: %s", reply.warning)
        try:
            return protocol.value_of(method, reply.content)
        except ValueError:
            raise self._client.server.nonsense(f"what it sent is no answer to {method}") from None

    # --- masks, which are kept for when the server cannot be reached ------------------------

    def mask(self, camera: str, date: str, **asked: Any) -> Mask:
        with _told_in_the_answer():
            return self._given(self._client.mask(camera, date, **asked))

    def replay(self, receipt: str, *, explain: bool = False) -> Mask:
        with _told_in_the_answer():
            return self._given(self._client.replay(receipt, explain=explain))

    def _given(self, mask: RemoteMask) -> Mask:
        self._digests[mask.answer.mask_id] = mask.answer.sha256
        state = mask.answer.registry_id, mask.answer.tx
        return Mask(answer=mask.answer, state=state, _registry=self)

    def mask_file(self, mask_id: int, *, preset: str = "default") -> bytes:
        return self.mask_as(mask_id, "fits", preset=preset)

    def mask_as(self, mask_id: int, file_format: str, *, preset: str = "default") -> bytes:
        if mask_id not in self._digests:
            self._digests[mask_id] = self.show(mask_id)["sha256"]
        content = self._client.mask_file(mask_id, self._digests[mask_id])
        if (file_format, preset) == ("fits", "default"):
            return content
        from hotpix_registry.fits import exports

        return exports.export(content, file_format, preset).content

    def mask_path(self, mask_id: int, *, preset: str = "default") -> Path:
        import hashlib

        from hotpix_registry.files import cache_file

        content = self.mask_file(mask_id, preset=preset)
        return cache_file(hashlib.sha256(content).hexdigest(), lambda: content)

    def mask_array(self, mask_id: int, *, preset: str = "default") -> NDArray[np.bool_]:
        from hotpix_registry.fits.exports import preset_mask

        return preset_mask(self.mask_dq(mask_id), preset)

    def mask_dq(self, mask_id: int) -> NDArray[np.uint16]:
        from hotpix_registry.fits.maskfile import decode

        return decode(self.mask_file(mask_id)).dq

    # --- science frames, whose files are here -------------------------------------------------

    def masks_for(
        self,
        files: Sequence[str | Path] | str | Path,
        *,
        recursive: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **asked: Any,
    ) -> list[MaskFor]:
        frames = self._read(files, recursive=recursive, progress=progress)
        with _told_in_the_answer():
            found = iter(self._client.masks_for([f.path for f in frames if f.error is None], **asked))
        return [
            _mask_for(next(found)) if frame.error is None else MaskFor(frame=frame.path, error=frame.error)
            for frame in frames
        ]

    def masks_for_headers(self, headers: Sequence[Mapping[str, Any]], **asked: Any) -> list[MaskFor]:
        with _told_in_the_answer():
            return [_mask_for(one) for one in self._client.masks_for(headers, **asked)]

    def _read(
        self,
        files: Sequence[str | Path] | str | Path,
        *,
        recursive: bool,
        progress: Callable[[int, int], None] | None,
    ) -> list[ScienceFrame]:
        from hotpix_registry.registry import ingest
        from hotpix_registry.registry.science_frames import read_facts

        named = [files] if isinstance(files, str | Path) else files
        found = ingest.find_files([str(file) for file in named], recursive=recursive)
        try:
            rules = self.header_rules()
        except ServerUnreachable:  # they only say which files of folders are darks
            rules = ingest.rules_with([])
        return read_facts(found, rules, progress=progress)

    def affected(
        self,
        since: str,
        files: Sequence[str | Path] = (),
        *,
        recursive: bool = False,
        camera: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Affected:
        frames: list[ScienceFrame] = []
        if files:
            reading = None if progress is None else functools.partial(progress, "Reading headers")
            frames = self._read(files, recursive=recursive, progress=reading)
        asked = [(frame.path, frame.facts) for frame in frames if frame.facts is not None]
        told = self.affected_frames(since, asked, camera=camera)
        reasons = dict(told.rejected) | {f.path: str(f.error) for f in frames if f.facts is None}
        rejected = tuple((f.path, reasons[f.path]) for f in frames if f.path in reasons)
        return replace(told, frames_read=len(frames), rejected=rejected)

    def _chooser(self, mask: int | str, **asked: Any) -> Chosen | Choose:
        if str(mask).strip() != "auto":
            return self.choose(mask, **asked)

        def of_frame(facts: Facts) -> Chosen:
            return self.choose("auto", facts=facts, **asked)

        return of_frame

    def identify_each(
        self,
        paths: Sequence[str | Path],
        *,
        camera: str | None = None,
        failed: Callable[[str, HotpixError], None] | None = None,
    ) -> Iterator[Identification]:
        from hotpix_registry.registry import identify

        rules = self.header_rules()
        seen = []
        for path in paths:
            try:
                seen.append(identify.see(str(path), rules))
            except HotpixError as error:
                if failed is None:
                    raise
                failed(str(path), error)
        yield from self.identify_seen(seen, camera=camera)


@contextmanager
def _told_in_the_answer() -> Iterator[None]:
    """The answer's own warnings say that it is from the cache; Python's need not say it again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FromCache)
        yield


def _mask_for(found: FrameMask) -> MaskFor:
    from hotpix_registry.errors import GeometryMismatch
    from hotpix_registry.fits.adapt import Criterion

    geometry = tuple(Criterion(**criterion) for criterion in found.geometry)
    if isinstance(found.error, GeometryMismatch):
        found.error.criteria = geometry
    return _FarMaskFor(
        frame=found.frame,
        answer=None if found.mask is None else found.mask.answer,
        error=found.error,
        steps=() if found.mask is None else found.mask.steps,
        geometry=geometry,
        _mask=found.mask,
    )


def _asking(name: str) -> Callable[..., Any]:
    """A reading method that asks the server."""
    method = getattr(Registry, name)
    signature = inspect.signature(method)

    @functools.wraps(method)
    def asking(self: RemoteRegistry, *positional: Any, **named: Any) -> Any:
        arguments = signature.bind(self, *positional, **named).arguments
        return self._ask(name, {key: value for key, value in arguments.items() if key != "self"})

    return asking


def _refusing(name: str, route: str) -> Callable[..., Any]:
    """A writing method, which says how else it is done."""

    @functools.wraps(getattr(Registry, name))
    def refusing(self: RemoteRegistry, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(
            f"This changes the registry, and {self} is asked over HTTP.",
            next_step=f"Name the database with --database, or use {route} there with a token of that scope.",
        )

    return refusing


for _name in protocol.METHODS:
    setattr(RemoteRegistry, _name, _asking(_name))
for _name, _route in _ROUTES.items():
    setattr(RemoteRegistry, _name, _refusing(_name, _route))
