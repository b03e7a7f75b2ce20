"""From a campaign's files to a mask in memory: nothing here touches the database."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING, Any

from hotpix_registry.cameras import CameraProfile, Sections
from hotpix_registry.domain import ALGORITHM_VERSION, Defect, Frame, Recipe, digest
from hotpix_registry.errors import HotpixError, NothingToBuild
from hotpix_registry.instants import iso
from hotpix_registry.planning import Campaign, DarkSet, Role
from hotpix_registry.registry import frame_files
from hotpix_registry.work import processors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.fits.maskfile import MaskContent
    from hotpix_registry.fits.packing import PackedMask
    from hotpix_registry.science.detection import Detection
    from hotpix_registry.science.inputs import Detector, ExposureGroup
    from hotpix_registry.science.limit import Limit

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of <malloc.h>

_WORTH_SHARING = 1 << 23
"""pixels of all frames, below which a second process costs more than it takes off the first"""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """Everything that decides a mask, before any pixel is read."""

    campaign: Campaign
    recipe: Recipe
    sections: Sections
    gain_e_per_adu: float | None
    """None: neither profile nor headers know it; it is measured from the darks"""
    defects: tuple[Defect, ...]
    build_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltMask:
    """A mask packed for storage, with what was measured on the way: small, wherever it was made."""

    ingredients: Ingredients
    packed: PackedMask
    shape: tuple[int, int]
    """(ny, nx)"""
    counts: dict[str, int]
    """flag name → pixels"""
    limit: Limit
    exposures_s: tuple[float, ...]
    bias_method: str
    report: dict[str, Any]
    """`Detection.report`"""
    numbers: bytes
    software: dict[str, str]
    """versions of what computed it"""

    @property
    def dq(self) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, unpacked anew."""
        from hotpix_registry.fits.packing import unpack_dq

        return unpack_dq(self.packed.encoding, self.packed.blob, blob_sha256=self.packed.blob_sha256)


def gather(
    campaign: Campaign, profile: CameraProfile, recipe: Recipe, defects: Sequence[Defect] = ()
) -> Ingredients:
    """Settle gain, sections, defects and build key of a campaign.

    Raises
    ------
    NothingToBuild
        The headers disagree about the gain.
    """
    sections = profile.sections_on(campaign.first_night)
    gain_e_per_adu = sections.gain_e_per_adu or _header_gain(campaign)
    holding = tuple(d for d in defects if d.holds_in(campaign.first_night, campaign.last_night))
    key = {
        "camera": campaign.series.camera,
        "configuration": campaign.series.configuration.as_dict(),
        "set_point_c": campaign.series.set_point_c,
        "inputs": sorted([_input_key(frame, role, sections) for frame, role in campaign.inputs], key=str),
        "detector": dataclasses.asdict(sections) | {"gain_e_per_adu": gain_e_per_adu},
        "defects": sorted([d.x0, d.y0, d.width, d.height] for d in holding),
        "recipe": recipe.as_dict(),
        "algorithm": ALGORITHM_VERSION,
    }
    return Ingredients(
        campaign=campaign,
        recipe=recipe,
        sections=sections,
        gain_e_per_adu=gain_e_per_adu,
        defects=holding,
        build_key=digest(key),
    )


def _header_gain(campaign: Campaign) -> float | None:
    gains = sorted({f.facts.gain_e_per_adu for f in campaign.used if f.facts.gain_e_per_adu is not None})
    if len(gains) > 1:
        found = ", ".join(f"{gain:g}" for gain in gains)
        raise _no_gain(campaign, f"the headers of its frames disagree about the gain ({found} e-/adu)")
    return gains[0] if gains else None


def _no_gain(campaign: Campaign, problem: str) -> NothingToBuild:
    camera = campaign.series.camera
    return NothingToBuild(
        f"No mask of {campaign.series} can be built: {problem}.",
        next_step=(
            f"Write `hotpix-registry cameras show {camera} --toml > {camera}.toml`, add gain_e_per_adu "
            f"under [detector], and run `hotpix-registry cameras apply {camera}.toml`."
        ),
    )


def _input_key(frame: Frame, role: Role, sections: Sections) -> dict[str, Any]:
    facts = frame.facts
    return {
        "sha256": frame.sha256,
        "role": role,
        "kind": str(frame.kind),
        "exptime_s": frame.exptime_s,
        "start_us": frame.start_us,
        "ccd_temp_c": facts.ccd_temp_c,
        "n_combined": facts.n_combined,
        "unit": facts.unit,
        "bias_subtracted": facts.bias_subtracted,
        "gain_e_per_adu": facts.gain_e_per_adu,
        "read_noise_e": facts.read_noise_e,
        "saturation_adu": facts.saturation_adu,
        "sections": list(sections.sections_of(facts)),
    }


def compute(
    ingredients: Ingredients, *, progress: Progress | None = None, workers: int | None = None
) -> BuiltMask:
    """Read the frames in strips, combine them, compare the exposures, and write the mask file in memory.

    `workers` processes share the work where there is enough of it, by default two where there are as many
    processors: each takes some 50 MB of its own. Frames that lie where they were, with the size and time
    they had, are hashed while their flags are judged; all others before they are read.

    Raises
    ------
    FrameChanged
        A frame vanished, or its bytes are no longer those that were catalogued.
    UnreadableFrame, NothingToBuild
        As their sentences say.
    """
    _return_freed_memory()
    workers = workers or min(2, processors())
    frames = ingredients.campaign.used
    if workers > 1 and (seen := frame_files.untouched(frames)) is not None:
        with frame_files.proof(frames, threads=max(1, processors() - 1)) as proof:
            try:
                built = _build(ingredients, seen, progress, workers, reading_done=proof.begin)
            except HotpixError:
                if proof.places() == seen:
                    raise
            else:
                if proof.places() == seen:
                    return built
    places = frame_files.locate(frames)
    built = _build(ingredients, places, progress, workers)
    frame_files.locate(frames, places)
    return built


def _build(
    ingredients: Ingredients,
    places: frame_files.Places,
    progress: Progress | None,
    workers: int,
    reading_done: Callable[[], None] | None = None,
) -> BuiltMask:
    from hotpix_registry.fits import maskfile, packing
    from hotpix_registry.science.detection import detect

    campaign = ingredients.campaign
    with contextlib.ExitStack() as stack:
        groups = [_group(s, ingredients, places, stack) for s in campaign.sets]
        biases = None if campaign.biases is None else _group(campaign.biases, ingredients, places, stack)
        ny, nx = groups[0].frames[0].rows.shape
        if len(campaign.used) * ny * nx < _WORTH_SHARING:
            workers = 1
        detector, notes = _detector(ingredients, groups, biases, workers)
        detection = detect(
            groups,
            detector,
            ingredients.recipe,
            biases=biases,
            manual=_manual(ingredients, (ny, nx)),
            progress=progress,
            reading_done=reading_done,
            workers=workers,
        )
    _trim_heap()
    detection.report["warnings"] = [*notes, *detection.report.get("warnings", ())]
    content = _content(ingredients, detection)
    return BuiltMask(
        ingredients=ingredients,
        packed=packing.pack(maskfile.parts(content)),
        shape=(detection.dq.shape[0], detection.dq.shape[1]),
        counts=detection.counts,
        limit=detection.limit,
        exposures_s=detection.exposures_s,
        bias_method=detection.bias_method,
        report=detection.report,
        numbers=_npz(detection.numbers),
        software=software(),
    )


def _return_freed_memory() -> None:
    """Let large arrays go back to the system when they are freed.

    glibc raises its threshold for that with every large array up to 32 MiB, and keeps an arena for each
    thread: a build of 4096 x 4096 pixels then holds 120 MB more than it uses.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_TRIM_THRESHOLD, 64 << 20)
            mallopt(_M_MMAP_THRESHOLD, 8 << 20)
            mallopt(_M_ARENA_MAX, 1)


def _trim_heap() -> None:
    """Give back what the detection freed between arrays that live on, before the file is written."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _manual(ingredients: Ingredients, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    import numpy as np

    if not ingredients.defects:
        return None
    manual = np.zeros(shape, dtype=bool)
    for defect in ingredients.defects:
        rows, columns = defect.binned(ingredients.campaign.series.configuration.binning)
        if rows.stop > shape[0] or columns.stop > shape[1]:
            raise NothingToBuild(
                f"Defect {defect.defect_id} of camera {ingredients.campaign.series.camera} (a box of "
                f"{defect.width} x {defect.height} at {defect.x0},{defect.y0}) does not lie within the "
                f"{shape[1]} x {shape[0]} pixels of its frames.",
                next_step="Take it off with `hotpix-registry defects remove`, and add it anew.",
            )
        manual[rows, columns] = True
    return manual


def _group(
    dark_set: DarkSet, ingredients: Ingredients, places: frame_files.Places, stack: contextlib.ExitStack
) -> ExposureGroup:
    from hotpix_registry.fits.pixels import open_rows, overscan_level
    from hotpix_registry.science.inputs import DarkFrame, ExposureGroup

    def opened(frame: Frame) -> DarkFrame:
        path, (overscan, trim) = places[frame.frame_id].path, ingredients.sections.sections_of(frame.facts)
        pedestal = None
        if overscan is not None and not frame.facts.bias_subtracted:
            pedestal = overscan_level(path, overscan)
        return DarkFrame(
            rows=stack.enter_context(open_rows(path, trim=trim)),
            name=path,
            pedestal=pedestal,
            n_combined=frame.facts.n_combined,
            unit=frame.facts.unit,
            bias_subtracted=bool(frame.facts.bias_subtracted),
        )

    frames = frame_files.in_threads(opened, dark_set.frames)
    return ExposureGroup(exptime_s=dark_set.exptime_s, frames=tuple(frames), borrowed=dark_set.borrowed)


def _detector(
    ingredients: Ingredients,
    groups: Sequence[ExposureGroup],
    biases: ExposureGroup | None,
    workers: int,
) -> tuple[Detector, list[str]]:
    """What is known of the detector, and a sentence about a gain that had to be measured."""
    from hotpix_registry.science.detection import measure_gain
    from hotpix_registry.science.inputs import Detector

    campaign, sections = ingredients.campaign, ingredients.sections
    facts = [frame.facts for frame in campaign.used]
    known = Detector(
        gain_e_per_adu=ingredients.gain_e_per_adu or 1.0,
        read_noise_e=sections.read_noise_e or facts[0].read_noise_e,
        saturation_adu=sections.saturation_adu
        or min((f.saturation_adu for f in facts if f.saturation_adu is not None), default=65535.0),
        adc_step_adu=sections.adc_step_adu,
        bayer_pattern=campaign.series.configuration.bayer_pattern,
    )
    if ingredients.gain_e_per_adu is not None:
        return known, []
    measured = measure_gain(groups, known, biases, workers=workers)
    if measured is None:
        raise _no_gain(campaign, "its gain is not known, and these darks are too few to measure it")
    gain, sigma = measured
    note = (
        f"The gain is in no profile and no header; {gain:.4g} ± {sigma:.2g} e-/adu, measured from these "
        f"darks, was used. Put it into the profile of {campaign.series.camera}."
    )
    return dataclasses.replace(known, gain_e_per_adu=gain), [note]


def _content(ingredients: Ingredients, detection: Detection) -> MaskContent:
    from hotpix_registry.fits.maskfile import MaskContent, MaskInput, MaskLimit

    campaign, limit = ingredients.campaign, detection.limit
    first = campaign.sets[0].frames[0]
    return MaskContent(
        dq=detection.dq,
        camera=campaign.series.camera,
        configuration=campaign.series.configuration,
        set_point_c=campaign.series.set_point_c,
        first_night=campaign.first_night,
        last_night=campaign.last_night,
        exposures_s=detection.exposures_s,
        build_key=ingredients.build_key,
        recipe=ingredients.recipe.as_dict(),
        algorithm_version=ALGORITHM_VERSION,
        limit=MaskLimit(
            e_per_s=limit.e_per_s,
            source=limit.source,
            low_e_per_s=limit.low_e_per_s,
            high_e_per_s=limit.high_e_per_s,
            charge_e=limit.charge_e,
            exposures_s=limit.exposures_s,
            tolerance=limit.tolerance,
        ),
        trim_section=ingredients.sections.sections_of(first.facts)[1],
        inputs=tuple(
            MaskInput(
                role=role,
                sha256=frame.sha256,
                kind=str(frame.kind),
                exptime_s=frame.exptime_s,
                ccd_temp_c=frame.facts.ccd_temp_c,
                start=iso(frame.start_us),
                n_combined=frame.facts.n_combined,
            )
            for frame, role in campaign.inputs
        ),
    )


def _npz(numbers: dict[str, Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **numbers)
    return buffer.getvalue()


def empty_numbers() -> bytes:
    """What is stored for the plots of a mask that no build made."""
    return _npz({})


def software() -> dict[str, str]:
    """Versions of what computed a mask."""
    names = ("hotpix-registry", "numpy", "scipy", "astropy", "ccdproc", "sqlalchemy")
    return {"python": python_version()} | {name: version(name) for name in names}
