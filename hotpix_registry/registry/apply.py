"""Masks into science frames: which mask, whether it fits each frame, and what was written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hotpix_registry.cameras import recognise
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import Facts
from hotpix_registry.errors import (
    AmbiguousMask,
    GeometryMismatch,
    HotpixError,
    NoMask,
    RevokedMask,
    StorageError,
    UnreadableFrame,
    UsageError,
)
from hotpix_registry.fits import headers
from hotpix_registry.places import is_url, resolved
from hotpix_registry.registry.choose import Choose, Chosen
from hotpix_registry.registry.fitting import Origin, geometry_of
from hotpix_registry.registry.frames import camera_named
from hotpix_registry.registry.ingest import find_files
from hotpix_registry.registry.science_frames import not_science

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.fits.adapt import Adaptation, Geometry
    from hotpix_registry.registry.facade.science import ScienceMethods

Status = Literal["applied", "unchanged", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one science frame."""

    path: str
    output: str | None
    """None: refused, or a dry run"""
    status: Status
    """unchanged: this very mask had been written into it before"""
    mask_id: int | None = None
    version: int | None = None
    added: int = 0
    """pixels that were not masked before"""
    masked: int = 0
    """pixels that are masked now"""
    steps: tuple[str, ...] = ()
    """how the mask was adapted to the frame"""
    warnings: tuple[str, ...] = ()
    reason: str = ""
    """why it was refused"""
    error: HotpixError | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "error"}


# --- which files ------------------------------------------------------------------------


def targets(
    files: Sequence[str], output: str | None, *, in_place: bool, dry_run: bool
) -> tuple[list[tuple[Path, Path | None]], Path | None]:
    """(frame, where the result goes) of the files behind arguments, and the folder of results, if any.

    Raises
    ------
    UsageError
        Nothing is named, or it is not said where results go, or two would get one name.
    """
    if urls := [path for path in files if is_url(path) and is_url(resolved(path))]:
        raise UsageError(
            f"{resolved(urls[0])} cannot be written to.", next_step="Copy the frame to this machine first."
        )
    found = [Path(f.path) for f in find_files(files, recursive=False)]
    folders = sorted({argument for argument in files if os.path.isdir(argument)})
    if folders:
        raise UsageError(f"{folders[0]} is a folder.", next_step=f"Name the frames: {folders[0]}/*.fits.")
    if not found:
        raise UsageError("No science frames were given.", next_step="Name them after the mask.")
    if output is not None and in_place:
        raise UsageError("-o and --in-place exclude each other.", next_step="Give one of them.")
    if output is None and not in_place and not dry_run:
        raise UsageError(
            "It is not said where the masked frames go.",
            next_step="Give -o FILE or FOLDER, or --in-place to change the frames themselves.",
        )
    if output is None:
        # links are followed: the file itself is replaced, not the link to it
        return [(path.resolve(), path.resolve() if in_place else None) for path in found], None
    place = Path(output)
    is_folder = os.path.isdir(place) or len(found) > 1 or output.endswith(("/", os.sep))
    if is_folder and os.path.isfile(place):
        raise UsageError(f"{output} is a file.", next_step="Name a folder for the masked frames.")
    pairs: list[tuple[Path, Path | None]] = []
    taken: dict[Path, Path] = {}
    for path in found:
        target = (place / path.name if is_folder else place).resolve()
        if target == path.resolve():
            raise UsageError(f"{path} would replace itself.", next_step="Give another folder, or --in-place.")
        if target in taken:
            raise UsageError(
                f"{taken[target]} and {path} have one name.", next_step="Write them to two folders."
            )
        taken[target] = path
        pairs.append((path.resolve(), target))
    return pairs, place if is_folder else None


# --- whether it fits, and what is written -------------------------------------------------


class Applier:
    """One run over science frames: each mask is read once, and adapted once for each geometry."""

    def __init__(
        self,
        registry: ScienceMethods,
        *,
        allow_binning: bool = False,
        camera: str | None = None,
        dry_run: bool = False,
    ) -> None:
        self._registry = registry
        self._allow_binning = allow_binning
        self._dry_run = dry_run
        self._rules = registry.header_rules()
        self._cameras = registry.cameras()
        self._camera = None if camera is None else camera_named(self._cameras, camera)
        self._masks: dict[int, _Mask] = {}

    def run(
        self,
        pairs: Sequence[tuple[Path, Path | None]],
        choose: Chosen | Choose,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Applied]:
        """Apply a mask, or the one that is chosen for each frame; what cannot be done is refused by name."""
        done = []
        for number, (path, output) in enumerate(pairs):
            if progress is not None:
                progress(number, len(pairs))
            try:
                done.append(self.apply_to(path, choose, output))
            except (UnreadableFrame, NoMask, AmbiguousMask, RevokedMask, StorageError, UsageError) as error:
                named = str(path) in error.message or (output is not None and str(output) in error.message)
                reason = str(error) if named else f"{path}: {error}"
                done.append(
                    Applied(path=str(path), output=None, status="refused", reason=reason, error=error)
                )
        if progress is not None:
            progress(len(pairs), len(pairs))
        return done

    def apply_to(self, path: Path, choose: Chosen | Choose, output: Path | None) -> Applied:
        """Write a mask into one science frame.

        Raises
        ------
        UnreadableFrame
            The file is no science frame that could take one.
        NoMask, AmbiguousMask
            No mask answers for it, or the one given does not fit it.
        StorageError
            The result cannot be written.
        """
        from hotpix_registry.fits.science_frame import Provenance, write_mask
        from hotpix_registry.fits.streams import naming

        with naming(path):
            header = headers.read_header(path)
            facts = self._rules.interpret(header)
            if header.shape is None:
                lengths = [header.cards.get(f"NAXIS{i}") for i in range(1, 10)]
                raise UnreadableFrame(
                    f"The file holds no single image but {' x '.join(str(n) for n in lengths if n)} pixels.",
                    next_step="Split colour images and cubes into planes first.",
                )
            _check_is_science(facts)
            chosen = choose if isinstance(choose, Chosen) else choose(facts)
            if output is not None and output != path:
                _check_is_free(output)
        mask = self._mask(chosen)
        self._check_camera(path, facts, mask)
        _check_settings(path, facts, mask)
        adaptation, dq = self._adapted(path, facts, mask)
        provenance = Provenance(
            registry_id=chosen.registry_id,
            mask_id=chosen.mask_id,
            version=chosen.version,
            sha256=chosen.sha256,
            preset=chosen.preset,
            receipt=chosen.receipt,
            steps=adaptation.sentences,
        )
        marked = write_mask(
            path,
            dq,
            mask.bad(dq, chosen.preset),
            provenance,
            output=None if self._dry_run else output,
        )
        return Applied(
            path=str(path),
            output=None if self._dry_run else str(output),
            status="applied" if marked.changed else "unchanged",
            mask_id=chosen.mask_id,
            version=chosen.version,
            added=marked.added,
            masked=marked.masked,
            steps=adaptation.sentences,
            warnings=(*chosen.warnings, *mask.warnings(facts)),
        )

    def _mask(self, chosen: Chosen) -> _Mask:
        if chosen.mask_id not in self._masks:
            self._masks.clear()  # one at a time: a plane of a large detector is 100 MB
            self._masks[chosen.mask_id] = _Mask.load(self._registry, chosen.mask_id)
        return self._masks[chosen.mask_id]

    def _check_camera(self, path: Path, facts: Facts, mask: _Mask) -> None:
        fitting = recognise(facts, [row.profile for row in self._cameras])
        names = {row.name for row in self._cameras if any(row.profile is p for p in fitting)}
        is_named = self._camera is not None and self._camera.name == mask.camera.name
        if not names and facts.instrument is not None and not is_named:
            raise NoMask(
                f"{path} is by its header a frame of {facts.instrument}, and mask {mask.mask_id} one of "
                f"camera {mask.camera.name}.",
                next_step=f"If that is the same, give --camera {mask.camera.name}.",
            )
        if names and mask.camera.name not in names:
            raise NoMask(
                f"{path} is a frame of camera {' or '.join(sorted(names))}, and mask {mask.mask_id} one of "
                f"{mask.camera.name}.",
                next_step="Take a mask of its own camera, or merge the two with `cameras merge`.",
            )

    def _adapted(self, path: Path, facts: Facts, mask: _Mask) -> tuple[Adaptation, NDArray[np.uint16]]:
        try:
            return mask.adapted(facts, allow_binning=self._allow_binning)
        except GeometryMismatch as error:
            parts = error.message.removeprefix("The mask does not fit the frame")
            message = f"Mask {mask.mask_id} does not fit {path}{parts}"
            raise GeometryMismatch(message, next_step=error.next_step, criteria=error.criteria) from None


def _check_is_science(facts: Facts) -> None:
    if (kind := not_science(facts)) is not None:
        raise UnreadableFrame(f"The file is a {kind}, no science frame.", next_step="Leave it out.")


def _check_is_free(output: Path) -> None:
    """Raise when something stands there that no earlier run wrote."""
    if not os.path.exists(output):
        return
    try:
        ours = "HPXSHA" in headers.read_header(output).cards
    except UnreadableFrame:
        ours = False
    if not ours:
        raise StorageError(
            f"{output} exists, and was not written by this command.",
            next_step="Remove it, or write elsewhere.",
        )


def _check_settings(path: Path, facts: Facts, mask: _Mask) -> None:
    """Raise when a setting that both name differs; geometry is another matter."""
    frame, darks = facts.configuration, mask.origin.series.configuration
    names = ("readout_mode", "gain_setting", "offset_setting")
    differing = [
        f"{name.replace('_', ' ')}: wanted {wanted}, found {found}"
        for name in names
        if (wanted := getattr(frame, name)) is not None
        and (found := getattr(darks, name)) is not None
        and wanted != found
    ]
    if differing:
        raise NoMask(
            f"Mask {mask.mask_id} is for other settings than {path}: {'; '.join(differing)}.",
            next_step="Build a mask from darks taken like this frame.",
        )


@dataclass(slots=True)
class _Mask:
    """A stored mask in memory, with its planes for the geometry that was asked for last."""

    origin: Origin
    dq: NDArray[np.uint16]
    _last: tuple[tuple[Geometry, Geometry], Adaptation, NDArray[np.uint16]] | None = None
    _bad: tuple[str, NDArray[np.bool_]] | None = None

    @classmethod
    def load(cls, registry: ScienceMethods, mask_id: int) -> _Mask:
        return cls(registry.origin(mask_id), registry.mask_dq(mask_id))

    @property
    def mask_id(self) -> int:
        return self.origin.mask.id

    @property
    def camera(self) -> CameraRow:
        return self.origin.camera

    def adapted(self, facts: Facts, *, allow_binning: bool) -> tuple[Adaptation, NDArray[np.uint16]]:
        """The plan for a frame, and its plane of flags."""
        from hotpix_registry.fits.adapt import adapt, plan_adaptation

        pair = self.origin.geometry(facts), geometry_of(facts, self.camera)
        if self._last is None or self._last[0] != pair:
            plan = plan_adaptation(*pair, allow_binning=allow_binning)
            self._last, self._bad = (pair, plan, adapt(self.dq, plan)), None
        return self._last[1:]

    def bad(self, dq: NDArray[np.uint16], preset: str) -> NDArray[np.bool_]:
        from hotpix_registry.fits.exports import preset_mask

        if self._bad is None or self._bad[0] != preset:
            self._bad = preset, preset_mask(dq, preset)
        return self._bad[1]

    def warnings(self, facts: Facts) -> tuple[str, ...]:
        """What speaks against this mask for a frame, and does not forbid it."""
        wanted_c, set_point_c = facts.temperature_c, self.origin.series.set_point_c
        profile = self.camera.profile
        if profile.temperature_grid_c is None or wanted_c is None or set_point_c is None:
            return ()
        if abs(wanted_c - set_point_c) <= profile.temperature_tolerance_c:
            return ()
        return (f"A frame at {wanted_c:g} °C has got mask {self.mask_id} of darks at {set_point_c:g} °C.",)
