"""What a pipeline imports to ask a registry on another machine: answers, mask files, arrays.

It works on with what it has when the server cannot be reached, and says so. Nothing here needs a database;
NumPy and astropy are imported when an array or a file is asked for.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from hotpix_registry import settings
from hotpix_registry.answers import Answer
from hotpix_registry.client import kept
from hotpix_registry.client.headers import Cards, batches, named_headers
from hotpix_registry.client.kept import Kept
from hotpix_registry.client.masks import FrameMask, RemoteMask, file_of
from hotpix_registry.client.server import Server, error_of
from hotpix_registry.errors import HotpixError, ServerUnreachable, UnreadableFrame, UsageError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Client", "FrameMask", "FromCache", "RemoteMask"]

Fallback = Literal["previous", "nearest", "warmer"]


class FromCache(UserWarning):
    """The server could not be reached, and what it had answered before is answered again."""


class Client:
    """A registry that `hotpix-registry serve` serves, as a pipeline asks it.

    Parameters
    ----------
    url
        `http://HOST:8471`; None takes HOTPIX_SERVER_URL or `server_url` of hotpix.toml
    token
        for a server that lets only those read who have one; None takes HOTPIX_SERVER_TOKEN
    cache_dir
        where mask files and answers are kept; None takes HOTPIX_CACHE_DIR, or the system's place
    offline
        ask nobody: answer with what is kept
    timeout_s
        how long the server may be silent

    Raises
    ------
    UsageError
        No server is named, or what is named is no address.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        offline: bool = False,
        timeout_s: float = 30.0,
    ) -> None:
        named = url or settings.setting("server_url")
        if not named:
            raise UsageError(
                "No server is named.", next_step="Give its URL, or set HOTPIX_SERVER_URL to http://HOST:8471."
            )
        self.server = Server(named, token=token or settings.setting("server_token"), timeout_s=timeout_s)
        self.offline = offline
        self._folder = settings.cache_dir() if cache_dir is None else Path(cache_dir).expanduser()

    def close(self) -> None:
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the mask of a date -----------------------------------------------------------

    def mask(
        self,
        camera: str,
        date: object,
        *,
        temperature_c: float | None = None,
        exposure_s: float | None = None,
        configuration: Mapping[str, Any] | None = None,
        preset: str = "default",
        fallback: Fallback | None = None,
        max_age_days: int | None = None,
        allow_revoked: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
        explain: bool = False,
    ) -> RemoteMask:
        """The right mask for an observing date; the arguments are those of `Registry.mask`.

        Raises
        ------
        NoMask, AmbiguousMask, RevokedMask, UnknownCamera, UsageError
            As the registry itself raises them, with what to do next, and the explanation of a miss.
        ServerUnreachable
            The server cannot be reached, and this was never asked before.
        """
        from urllib.parse import quote

        asked = {
            "date": str(date),
            "temperature": temperature_c,
            "exposure": exposure_s,
            **_configuration_texts(configuration or {}),
            "preset": None if preset == "default" else preset,
            "fallback": fallback,
            "max_age": max_age_days,
            "allow_revoked": allow_revoked or None,
            "as_of": as_of,
            "release": release,
            "explain": explain or None,
        }
        return self._answered(f"/v1/cameras/{quote(camera, safe='')}/mask", asked)

    def replay(self, receipt: str, *, explain: bool = False) -> RemoteMask:
        """The very mask that an answer named in its receipt; warnings say when it was revoked since."""
        return self._answered("/v1/receipt", {"receipt": receipt, "explain": explain or None})

    def _answered(self, path: str, asked: Mapping[str, Any]) -> RemoteMask:
        asked = {name: value for name, value in asked.items() if value is not None}
        key = kept.key_of(self.server.url, [path, asked])
        known = kept.find(self._folder, key)
        try:
            self._check_reachable(known is not None)
            reply = self.server.get(path, asked, etag=known.etag if known else None)
        except ServerUnreachable as error:
            return self._from_cache(known, error)
        if reply.status == 304 and known is not None:
            return self._mask(known.told)
        told = self._object(reply.content)
        mask = self._mask(told)
        kept.keep(self._folder, key, told, reply.etag)
        return mask

    # --- the masks of frames ------------------------------------------------------------

    def mask_for(self, frame: Any, **asked: Any) -> RemoteMask:
        """The mask of one science frame by its header: a header, a CCDData, or a file.

        Raises
        ------
        NoMask, GeometryMismatch, AmbiguousMask, RevokedMask, UnreadableFrame
            There is none for this frame.
        """
        (found,) = self.masks_for([frame], **asked)
        return found.found()

    def masks_for(
        self,
        frames: Any,
        *,
        camera: str | None = None,
        allow_binning: bool = False,
        preset: str = "default",
        fallback: Fallback | None = None,
        max_age_days: int | None = None,
        allow_revoked: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
        explain: bool = False,
    ) -> list[FrameMask]:
        """The mask of each science frame by its header, in one request for each ten thousand.

        Parameters
        ----------
        frames
            a `ccdproc.ImageFileCollection`, or headers, files and CCDData in any order
        camera
            the camera that took them; None reads it from their headers
        allow_binning
            whether blocks of an unbinned mask are joined for a binned frame

        Raises
        ------
        UsageError, UnknownCamera, UnknownId, ServerUnreachable
            The question itself is wrong, or nobody answers; what is wrong with a frame stands in its result.
        """
        asked = {
            "camera": camera,
            "adapt": "bin" if allow_binning else None,
            "preset": None if preset == "default" else preset,
            "fallback": fallback,
            "max_age": max_age_days,
            "allow_revoked": allow_revoked or None,
            "as_of": None if as_of is None else str(as_of),
            "release": release,
            "explain": explain or None,
        }
        asked = {name: value for name, value in asked.items() if value is not None}
        results: list[FrameMask] = []
        sent: list[tuple[int, Cards]] = []
        for number, (name, header) in enumerate(named_headers(frames)):
            error = header if isinstance(header, UnreadableFrame) else None
            results.append(FrameMask(frame=name, error=error))
            if not isinstance(header, UnreadableFrame):
                sent.append((number, header))
        for batch in batches(sent):
            found = self._resolved([cards for _, cards in batch], asked)
            for (number, _), one in zip(batch, found, strict=True):
                results[number] = dataclasses.replace(one, frame=results[number].frame)
        return results

    def _resolved(self, headers: list[Cards], asked: Mapping[str, Any]) -> list[FrameMask]:
        keys = [kept.key_of(self.server.url, ["/v1/resolve", asked, cards]) for cards in headers]
        try:
            self._check_reachable(self.server.is_down and any(kept.find(self._folder, key) for key in keys))
            reply = self.server.post("/v1/resolve", {"headers": headers, **asked})
        except ServerUnreachable as error:
            return self._resolved_before(keys, error)
        told = self._object(reply.content).get("results")
        if not isinstance(told, list) or len(told) != len(headers):
            raise self.server.nonsense("not one result for each header")
        results = [self._frame_mask(one) for one in told]
        for key, one, result in zip(keys, told, results, strict=True):
            if result.error is None:
                kept.keep(self._folder, key, one)
        return results

    def _resolved_before(self, keys: list[str], error: ServerUnreachable) -> list[FrameMask]:
        found = [kept.find(self._folder, key) for key in keys]
        if not any(found):
            raise self._never_asked(error)
        self._warn(next(one for one in found if one is not None), error)
        return [
            FrameMask(frame="", error=self._never_asked(error))
            if one is None
            else self._frame_mask(one.told, warning=self._told_before(one, error))
            for one in found
        ]

    def _frame_mask(self, told: Mapping[str, Any], *, warning: str | None = None) -> FrameMask:
        try:
            geometry = tuple(told.get("geometry", ()))
            if "error" in told:
                return FrameMask(frame="", error=error_of(told), geometry=geometry)
            mask = self._mask(
                told["mask"], warning=warning, steps=told["steps"], adaptation=told.get("adaptation")
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self.server.nonsense("a result that is neither a mask nor an error") from None
        return FrameMask(frame="", mask=mask, frame_type=told.get("frame_type"), geometry=geometry)

    # --- into images --------------------------------------------------------------------

    def apply(self, ccd: Any, **asked: Any) -> RemoteMask:
        """Join the right mask with that of a CCDData, by its own header, and name it in the header.

        `ccd.mask` is masked besides where the mask is; HPXREG, HPXMASK, HPXVER, HPXSHA, HPXPRE, HPXRCPT
        and HISTORY say which mask that was, as `hotpix-registry apply` writes them. The same mask again
        changes nothing.

        Parameters
        ----------
        asked
            as for `masks_for`

        Raises
        ------
        UnreadableFrame
            It is a dark or a bias, which take no mask.
        NoMask, GeometryMismatch, AmbiguousMask, RevokedMask
            There is none for this image.
        """
        (result,) = self.masks_for([ccd], **asked)
        found = result.found()
        if result.frame_type is not None:
            raise UnreadableFrame(
                f"The image is a {result.frame_type}, no science frame.", next_step="Leave it out."
            )
        from hotpix_registry.fits.science_frame import Provenance

        array: np.ndarray[Any, Any] = found.array
        ccd.mask = array if ccd.mask is None else ccd.mask | array
        answer = found.answer
        provenance = Provenance(
            registry_id=answer.registry_id,
            mask_id=answer.mask_id,
            version=answer.version,
            sha256=answer.sha256,
            preset=answer.preset,
            receipt=answer.receipt,
            steps=found.steps,
        )
        if not provenance.stands_in(ccd.header):
            provenance.enter(ccd.header)
        return found

    # --- files --------------------------------------------------------------------------

    def mask_file(self, mask_id: int, sha256: str) -> bytes:
        """The file of a mask by its number and digest, out of the cache or downloaded; verified always.

        Raises
        ------
        IntegrityError
            The server sent another file.
        ServerUnreachable
            It is not in the cache, and cannot be had.
        """

        def download() -> bytes:
            self._check_reachable(False)
            return self.server.get(f"/v1/masks/{mask_id}/file.fits.gz").content

        return file_of(sha256, self._folder, download, self.server.url)

    # --- what is shared -----------------------------------------------------------------

    def _mask(
        self,
        told: dict[str, Any],
        *,
        warning: str | None = None,
        steps: Iterable[str] = (),
        adaptation: Mapping[str, Any] | None = None,
    ) -> RemoteMask:
        if warning is not None:
            told = told | {"warnings": [*told["warnings"], warning]}
        try:
            answer = Answer.from_dict(told)
        except (KeyError, TypeError, ValueError):
            raise self.server.nonsense("an answer without what every answer has") from None
        return RemoteMask(
            answer=answer,
            meta=told,
            steps=tuple(steps),
            _file=lambda one: self.mask_file(one.mask_id, one.sha256),
            _folder=self._folder,
            _adaptation=adaptation,
        )

    def _object(self, content: bytes) -> dict[str, Any]:
        import json

        try:
            told = json.loads(content)
        except ValueError:
            raise self.server.nonsense("it sent no JSON") from None
        if not isinstance(told, dict):
            raise self.server.nonsense("it sent no object")
        return told

    def _check_reachable(self, known: bool) -> None:
        if self.offline or (known and self.server.is_down):
            why = "it is not to be asked (offline)" if self.offline else "it could not be a moment ago"
            raise ServerUnreachable(
                f"The server {self.server.url} cannot be reached: {why}.",
                next_step="Ask again when it can be reached.",
            )

    def _from_cache(self, known: Kept | None, error: ServerUnreachable) -> RemoteMask:
        if known is None:
            raise self._never_asked(error)
        self._warn(known, error)
        return self._mask(known.told, warning=self._told_before(known, error))

    def _warn(self, known: Kept, error: ServerUnreachable) -> None:
        warnings.warn(self._told_before(known, error), FromCache, stacklevel=5)

    def _told_before(self, known: Kept, error: ServerUnreachable) -> str:
        answer = known.told.get("mask") or known.told
        return (
            f"{error.message} This is from the cache: its answer of {known.at}, "
            f"transaction {answer.get('tx')} of registry {answer.get('registry_id')}."
        )

    def _never_asked(self, error: HotpixError) -> ServerUnreachable:
        return ServerUnreachable(
            f"{error.message} Of what is asked the cache has no earlier answer.", next_step=error.next_step
        )


def _configuration_texts(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Parts of a configuration as the server reads them: (2, 2) → 2x2."""
    texts = {}
    for name, value in configuration.items():
        joined = "x" if name == "binning" else ","
        text = joined.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        texts["bayer" if name == "bayer_pattern" else name] = text
    return texts
