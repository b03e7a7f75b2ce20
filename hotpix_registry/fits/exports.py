"""Masks in the forms that others read.

Coordinates are 0-based, x first, except where a format counts otherwise; each function says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ
from hotpix_registry.errors import UsageError
from hotpix_registry.fits import canonical, maskfile
from hotpix_registry.fits.adapt import Adaptation, Geometry, adapt
from hotpix_registry.fits.presets import flag_names, flags_of

Boxes = NDArray[np.int64]
"""(n, 4): x0, y0, width, height, 0-based"""


# --- presets ----------------------------------------------------------------


def preset_mask(
    dq: NDArray[np.uint16], preset: str = "default", *, saturated_at: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Turn a DQ plane (ny, nx) uint16 into a boolean mask, True = masked.

    Parameters
    ----------
    preset
        `default`, `evidence`, `matched`, `all`, `none`, or an expression; see `flags_of`
    saturated_at
        (ny, nx), True where a pixel saturates at the exposure time of the science frame; for the preset
        `matched` only. Without it DARK_SATURATED stands for it, which was found in the longest darks:
        too many pixels for a shorter science frame, too few for a longer one.

    Raises
    ------
    UsageError
        When the preset or expression cannot be understood.
    """
    flags = flags_of(preset)
    if saturated_at is None or preset.strip().lower() != "matched":
        return _with_any(dq, flags)
    return _with_any(dq, flags & ~DQ.DARK_SATURATED) | saturated_at


def _with_any(dq: NDArray[np.uint16], flags: DQ) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (dq & np.uint16(flags.value)) != 0
    return mask


# --- exports ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file derived from a mask, with its digest and that of the mask file it comes from."""

    content: bytes
    suffix: str
    sha256: str
    source_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Derived:
    mask: NDArray[np.bool_]
    dq: NDArray[np.uint16]
    camera: str
    first_night: str | None
    preset: str
    source_sha256: str

    @property
    def pixels_sha256(self) -> str:
        return hashlib.sha256(self.mask.tobytes()).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        ny, nx = self.mask.shape
        return {
            "CAMERA": self.camera,
            "PRESET": self.preset,
            "NX": nx,
            "NY": ny,
            "SOURCE_SHA256": self.source_sha256,
            "PIXELS_SHA256": self.pixels_sha256,
        }


def export(
    fits_bytes: bytes,
    file_format: str,
    preset: str = "default",
    *,
    saturated_at: NDArray[np.bool_] | None = None,
) -> Export:
    """Write a mask file's pixels under a preset in another format.

    Formats: `fits` (uint8 0/1, nothing else), `npy` (boolean), `ecsv` (x, y, dq and flags of the masked
    pixels, 0-based), `ds9` (regions, counted from 1 as DS9 does), `lsst` (boxes as in LSST's defect
    lists, 0-based), `siril` (a bad-pixel list for `cosme`; 0-based, y counted from the last row).
    All but `npy`, which has no place for it, name the sha256 of the mask file they come from and that
    of their pixels (the plane as bytes of 0 and 1).

    Raises
    ------
    UsageError
        When the format or the preset is unknown.
    UnreadableFrame
        When the bytes are no mask file.
    """
    if file_format not in _WRITERS:
        raise UsageError(
            f"'{file_format}' is no format of masks.", next_step=f"Use one of {', '.join(_WRITERS)}."
        )
    suffix, write = _WRITERS[file_format]
    content = maskfile.decode(fits_bytes)
    source_sha256 = maskfile.digest(fits_bytes)
    written = write(
        _Derived(
            mask=preset_mask(content.dq, preset, saturated_at=saturated_at),
            dq=content.dq,
            camera=content.camera,
            first_night=content.first_night,
            preset=preset,
            source_sha256=source_sha256,
        )
    )
    return Export(
        content=written,
        suffix=suffix,
        sha256=hashlib.sha256(written).hexdigest(),
        source_sha256=source_sha256,
    )


def adapted_file(fits_bytes: bytes, adaptation: Adaptation, frame: Geometry) -> Export:
    """Write the mask file for frames of another geometry; it names its source by sha256, and the steps.

    Raises
    ------
    UnreadableFrame
        When the bytes are no mask file.
    """
    source = maskfile.decode(fits_bytes)
    source_sha256 = maskfile.digest(fits_bytes)
    configuration = dataclasses.replace(
        source.configuration,
        binning=frame.binning,
        sub_frame=frame.sub_frame,
        row_order=frame.row_order,
        bayer_pattern=frame.bayer_pattern,
    )
    steps = adaptation.sentences or ("Its pixels are taken as they are.",)
    derived = dataclasses.replace(
        source,
        dq=adapt(source.dq, adaptation),
        configuration=configuration,
        trim_section=frame.raw_section if adaptation.steps else source.trim_section,
        notes=(*source.notes, "Derived from the mask file with the sha256", source_sha256, *steps),
    )
    content = maskfile.encode(derived)
    return Export(
        content=content, suffix=".fits", sha256=maskfile.digest(content), source_sha256=source_sha256
    )


def _write_fits(derived: _Derived) -> bytes:
    ny, nx = derived.mask.shape
    data = derived.mask.astype(np.uint8).tobytes()
    data += canonical.padding(len(data))
    cards: list[canonical.Card] = [
        ("SIMPLE", True, "FITS standard 4.0"),
        ("BITPIX", 8, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", nx, ""),
        ("NAXIS2", ny, ""),
        ("IMAGETYP", "dark mask", "0 good, 1 masked"),
        ("BUNIT", "", "no unit"),
        ("CAMERA", derived.camera, ""),
        ("PRESET", derived.preset, "flags that mask"),
        ("SRCSHA", derived.source_sha256, ""),
        ("PIXSHA", derived.pixels_sha256, ""),
        ("HISTORY", "SRCSHA is the sha256 of the mask file this was derived from,", ""),
        ("HISTORY", "PIXSHA that of these pixels as bytes.", ""),
    ]
    return canonical.header(cards, data_sum=canonical.ones_complement_sum(data)) + data


def _write_npy(derived: _Derived) -> bytes:
    file = io.BytesIO()
    np.save(file, derived.mask, allow_pickle=False)
    return file.getvalue()


def _write_ecsv(derived: _Derived) -> bytes:
    from astropy.table import Table

    y, x = np.nonzero(derived.mask)
    values = derived.dq[y, x]
    distinct, where = np.unique(values, return_inverse=True)
    names = np.array([flag_names(int(value)) for value in distinct] or [""])
    table = Table(
        {"x": x, "y": y, "dq": values, "flags": names[where]},
        descriptions={
            "x": "column, from 0",
            "y": "row, from 0",
            "dq": "data-quality bits",
            "flags": "their names",
        },
        units={"x": "pix", "y": "pix"},
        meta=derived.provenance,
    )
    return _ecsv_bytes(table)


def _write_lsst(derived: _Derived) -> bytes:
    from astropy.table import Table

    meta = {
        "OBSTYPE": "defects",
        "INSTRUME": derived.camera,
        "DETECTOR": 0,
        "CALIBDATE": f"{derived.first_night or '1970-01-01'}T00:00:00",
        "DEFECTTYPE": "BADPIXEL",
        "DEFECTS_SCHEMA": "Simple",
        "DEFECTS_SCHEMA_VERSION": 1,
    }
    names = ("x0", "y0", "width", "height")
    boxes = boxes_of(derived.mask).astype(np.int32)
    table = Table(boxes, names=names, units=["pix"] * 4, meta=meta | derived.provenance)
    return _ecsv_bytes(table)


def _ecsv_bytes(table: Any) -> bytes:
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def _write_ds9(derived: _Derived) -> bytes:
    lines = ["# Region file format: DS9 version 4.1"]
    lines += [f"# {key}: {value}" for key, value in derived.provenance.items()]
    lines += ["global color=red width=1", "image"]
    for x0, y0, width, height in boxes_of(derived.mask).tolist():
        # DS9 counts pixels from 1 and puts whole numbers at their centres.
        lines.append(f"box({x0 + (width + 1) / 2:g},{y0 + (height + 1) / 2:g},{width},{height},0)")
    return "\n".join((*lines, "")).encode()


def _write_siril(derived: _Derived) -> bytes:
    # Siril reads lines of at most 62 characters, so a digest takes two.
    lines = [
        f"# {key}: {part}"
        for key, value in derived.provenance.items()
        for part in re.findall(".{1,32}", str(value))
    ]
    y, x = np.nonzero(derived.mask)
    top_down = derived.mask.shape[0] - 1 - y
    lines += [f"P {column} {row} H" for column, row in zip(x.tolist(), top_down.tolist(), strict=True)]
    return "\n".join((*lines, "")).encode()


_WRITERS: Mapping[str, tuple[str, Callable[[_Derived], bytes]]] = {
    "fits": (".fits", _write_fits),
    "npy": (".npy", _write_npy),
    "ecsv": (".ecsv", _write_ecsv),
    "ds9": (".reg", _write_ds9),
    "lsst": (".ecsv", _write_lsst),
    "siril": (".lst", _write_siril),
}
FORMATS = tuple(_WRITERS)


def boxes_of(mask: NDArray[np.bool_]) -> Boxes:
    """Cover a boolean mask (ny, nx) exactly with boxes that do not overlap.

    Pixels are joined along columns, and equal runs of neighbouring columns into one box.
    """
    y, x = np.nonzero(mask)
    y0, x0, heights = _runs(y, x)
    order = np.lexsort((x0, heights, y0))
    y0, x0, heights = y0[order], x0[order], heights[order]
    left, key, widths = _runs(x0, y0 * (mask.shape[0] + 1) + heights)
    return np.stack((left, key // (mask.shape[0] + 1), widths, key % (mask.shape[0] + 1)), axis=1).astype(
        np.int64
    )


def _runs(along: NDArray[Any], across: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Runs of consecutive numbers `along` with equal `across`: their first, their across, their length."""
    order = np.lexsort((along, across))
    along, across = along[order], across[order]
    starts = np.flatnonzero(np.diff(along, prepend=-2) - 1 | np.diff(across, prepend=-1))
    lengths = np.diff(starts, append=along.size)
    return along[starts], across[starts], lengths
