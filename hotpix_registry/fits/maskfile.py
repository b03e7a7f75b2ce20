"""The mask file: a plain FITS file that anyone can read, the same bytes for the same content.

PRIMARY is 0 for good and 1 for masked pixels, DQ the bit planes, DQDEF their meaning, INPUTS the frames.
What may change or differ between registries (ids, validity, file names, users, library versions) is not
in it. Its identity is the sha256 of these bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ, DQ_DESCRIPTIONS, Configuration
from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits import blocks, canonical
from hotpix_registry.fits.blocks import HDU, Value
from hotpix_registry.fits.canonical import Card, rounded
from hotpix_registry.fits.flagged import Flagged, Image

_WIDTH = 72
_FORMAT = 1

EQUIVALENTS: Mapping[DQ, tuple[str, str, str, str]] = {
    DQ.BAD: ("DO_NOT_USE 2^0", "4", "BAD", "BAD 2^0"),
    DQ.DARK_SATURATED: ("SATURATED 2^1", "256", "SAT", "SATURATED 2^3"),
    DQ.HOT: ("HOT 2^11", "16", "BAD/SUSPECT", "HOT 2^1"),
    DQ.WARM: ("WARM 2^12", "64", "SUSPECT", "-"),
    DQ.DARK_NONLINEAR: ("UNRELIABLE_DARK 2^23", "32", "BAD", "BAD 2^0"),
    DQ.UNSTABLE: ("TELEGRAPH 2^15", "32", "BAD", "HIGHVAR 2^7"),
    DQ.PEDESTAL: ("UNRELIABLE_BIAS 2^22", "128", "BAD", "BAD 2^0"),
    DQ.STUCK: ("DEAD 2^10", "4", "BAD", "DEAD 2^2"),
    DQ.COLUMN: ("DO_NOT_USE 2^0", "128", "BAD", "BAD 2^0"),
    DQ.MANUAL: ("DO_NOT_USE 2^0", "4", "BAD", "BAD 2^0"),
}
"""What each bit is called by JWST, HST (ACS value), LSST and DESI; '-' where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskInput:
    """A frame that went into a mask; known by its digest, since names differ between places."""

    role: str
    """what it served as: dark, bias, borrowed dark, mask, import…"""
    sha256: str
    kind: str = ""
    exptime_s: float | None = None
    ccd_temp_c: float | None = None
    start: str | None = None
    """ISO instant of the start of the exposure, UTC"""
    n_combined: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLimit:
    """The consistency limit of a mask, or why there is none (`e_per_s` is None)."""

    e_per_s: float | None
    source: str
    """given, automatic, cut-off, or the reason for none"""
    low_e_per_s: float | None = None
    high_e_per_s: float | None = None
    charge_e: float | None = None
    exposures_s: tuple[float, float] | None = None
    """the exposure times that were compared, shorter first"""
    tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskContent:
    """Everything a mask file says. Measured numbers are kept to six significant digits."""

    dq: NDArray[np.uint16]
    """(ny, nx), 0 is good; bits of `domain.DQ`"""
    camera: str
    configuration: Configuration
    build_key: str
    algorithm_version: str
    recipe: Mapping[str, Any]
    set_point_c: float | None = None
    first_night: str | None = None
    """ISO dates of the evenings of the darks"""
    last_night: str | None = None
    exposures_s: tuple[float, ...] = ()
    """the exposure times tested"""
    limit: MaskLimit | None = None
    trim_section: str | None = None
    """FITS section of the raw frame that this mask covers; None is the whole frame"""
    inputs: tuple[MaskInput, ...] = ()
    notes: tuple[str, ...] = ()
    """further lines for people, wrapped at 72 characters"""

    def __post_init__(self) -> None:
        if self.dq.ndim != 2 or self.dq.dtype != np.uint16:
            raise ValueError(f"a DQ plane is (ny, nx) uint16, not {self.dq.shape} {self.dq.dtype}")


# --- writing ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The canonical FITS file of a mask, its two images as the flagged pixels that they follow from."""

    flagged: Flagged
    before: bytes
    """the primary header"""
    bad: Image
    between: bytes
    """padding, and the header of DQ"""
    dq: Image
    after: bytes
    """padding, and the tables"""

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the file in their order."""
        yield self.before
        yield from self.bad.strips()
        yield self.between
        yield from self.dq.strips()
        yield self.after


def parts(content: MaskContent) -> Parts:
    """What the file of a mask is made of; strings that FITS cannot hold are escaped."""
    flagged = Flagged.of(content.dq)
    counts, bad, dq = flagged.counts(), flagged.bad_image(), flagged.dq_image()
    dq_header = canonical.header(_dq_cards(content), data_sum=dq.data_sum())
    tables = _dqdef_table(counts) + _inputs_table(content.inputs)
    return Parts(
        flagged=flagged,
        before=canonical.header(_primary_cards(content, counts), data_sum=bad.data_sum()),
        bad=bad,
        between=canonical.padding(bad.n_bytes) + dq_header,
        dq=dq,
        after=canonical.padding(dq.n_bytes) + tables,
    )


def encode(content: MaskContent) -> bytes:
    """Write the canonical FITS file of a mask; the same content gives the same bytes for ever."""
    file = io.BytesIO()
    file.writelines(parts(content).pieces())
    return file.getvalue()


def digest(fits_bytes: bytes) -> str:
    """sha256 of a mask file, its identity."""
    return hashlib.sha256(fits_bytes).hexdigest()


def _primary_cards(content: MaskContent, counts: Mapping[DQ, int]) -> list[Card]:
    ny, nx = content.dq.shape
    cards: list[Card] = [
        ("SIMPLE", True, "FITS standard 4.0"),
        ("BITPIX", 8, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", nx, ""),
        ("NAXIS2", ny, ""),
        ("EXTEND", True, ""),
        ("IMAGETYP", "dark mask", "0 good, 1 masked"),
        ("BUNIT", "", "no unit"),
        ("ORIGIN", "hotpix-registry", ""),
        ("MASKFORM", _FORMAT, "version of this file's format"),
        ("CAMERA", content.camera, ""),
        *_configuration_cards(content.configuration),
        ("RAWSEC", content.trim_section, "part of the raw frame"),
        ("SET-TEMP", _measured(content.set_point_c), "[degC] set point"),
        ("NIGHT1", content.first_night, "first night of the darks"),
        ("NIGHT2", content.last_night, "last night of the darks"),
        ("NEXPTEST", len(content.exposures_s), "exposure times tested"),
    ]
    for i, exptime_s in enumerate(content.exposures_s, start=1):
        cards.append((f"EXPTST{i}", rounded(exptime_s), "[s]"))
    cards += [
        ("RULE", str(content.recipe.get("rule", "")) or None, "how DQ became BAD"),
        *_limit_cards(content.limit),
        ("NMASKED", counts[DQ.BAD], "masked pixels"),
        ("ALGOVER", content.algorithm_version, "version of the algorithm"),
        ("BUILDKEY", content.build_key, ""),
        ("RECIPE", canonical.json_text(_round_all(content.recipe)), ""),
    ]
    lines = _history(content, counts)
    cards += [("HISTORY", line, "") for text in lines for line in textwrap.wrap(text, _WIDTH)]
    cards += [("COMMENT", line, "") for note in content.notes for line in textwrap.wrap(note, _WIDTH)]
    return cards


_CONFIGURATION_KEYWORDS = {
    "readout_mode": "READOUTM",
    "gain_setting": "GAINSET",
    "offset_setting": "OFFSTSET",
    "sub_frame": "SUBFRAME",
    "row_order": "ROWORDER",
    "bayer_pattern": "BAYERPAT",
}


def _configuration_cards(configuration: Configuration) -> list[Card]:
    cards: list[Card] = [
        ("XBINNING", configuration.binning[0], ""),
        ("YBINNING", configuration.binning[1], ""),
    ]
    for field, keyword in _CONFIGURATION_KEYWORDS.items():
        value = getattr(configuration, field)
        if field == "sub_frame" and value is not None:
            cards.append((keyword, ",".join(map(str, value)), "x0,y0,nx,ny in binned pixels, from 0"))
        else:
            cards.append((keyword, value, ""))
    return cards


def _limit_cards(limit: MaskLimit | None) -> list[Card]:
    if limit is None:
        return []
    short_s, long_s = limit.exposures_s or (None, None)
    return [
        ("LIMSRC", limit.source, "origin of the limit"),
        ("LIMIT", _measured(limit.e_per_s), "[e-/s] consistency limit"),
        ("LIMLOW", _measured(limit.low_e_per_s), "[e-/s] its lower bound"),
        ("LIMHIGH", _measured(limit.high_e_per_s), "[e-/s] its upper bound"),
        ("LIMCHRG", _measured(limit.charge_e), "[e-] the limit as charge"),
        ("LIMEXP1", _measured(short_s), "[s] shorter exposure compared"),
        ("LIMEXP2", _measured(long_s), "[s] longer exposure compared"),
        ("LIMTOL", _measured(limit.tolerance), "relative departure at the limit"),
    ]


def _dq_cards(content: MaskContent) -> list[Card]:
    ny, nx = content.dq.shape
    return [
        ("XTENSION", "IMAGE", "image extension"),
        ("BITPIX", 16, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", nx, ""),
        ("NAXIS2", ny, ""),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("BSCALE", 1, ""),
        ("BZERO", 32768, "unsigned 16-bit numbers"),
        ("EXTNAME", "DQ", "bit planes; DQDEF says what they mean"),
        ("BUNIT", "", "no unit"),
    ]


def _dqdef_table(counts: Mapping[DQ, int]) -> bytes:
    jwst, hst, lsst, desi = zip(*(EQUIVALENTS[flag] for flag in DQ), strict=True)
    return canonical.table(
        "DQDEF",
        [
            ("BIT", "J", "", [flag.value.bit_length() - 1 for flag in DQ]),
            ("VALUE", "J", "", [flag.value for flag in DQ]),
            ("NAME", "A", "", [str(flag.name) for flag in DQ]),
            ("DESCRIPTION", "A", "", [DQ_DESCRIPTIONS[flag] for flag in DQ]),
            ("COUNT", "K", "pix", [counts[flag] for flag in DQ]),
            ("JWST", "A", "", jwst),
            ("HST", "A", "", hst),
            ("LSST", "A", "", lsst),
            ("DESI", "A", "", desi),
        ],
    )


def _inputs_table(inputs: tuple[MaskInput, ...]) -> bytes:
    ordered = sorted(inputs, key=lambda one: (one.role, one.exptime_s or 0.0, one.start or "", one.sha256))
    return canonical.table(
        "INPUTS",
        [
            ("ROLE", "A", "", [one.role for one in ordered]),
            ("KIND", "A", "", [one.kind for one in ordered]),
            ("EXPTIME", "D", "s", [_or_nan(one.exptime_s) for one in ordered]),
            ("CCDTEMP", "D", "deg_C", [_or_nan(one.ccd_temp_c) for one in ordered]),
            ("START", "A", "", [one.start or "" for one in ordered]),
            ("NCOMBINE", "J", "", [one.n_combined for one in ordered]),
            ("SHA256", "A", "", [one.sha256 for one in ordered]),
        ],
    )


def _history(content: MaskContent, counts: Mapping[DQ, int]) -> list[str]:
    set_point = "" if content.set_point_c is None else f", set point {content.set_point_c:g} degC"
    lines = [f"Hot-pixel mask of camera {content.camera} ({content.configuration}){set_point}."]
    if content.exposures_s:
        times = " and ".join(f"{exptime_s:g}" for exptime_s in content.exposures_s)
        lines.append(
            f"Made from {len(content.inputs)} inputs; exposure times tested: {times} s; "
            f"nights {content.first_night} to {content.last_night}."
        )
    if content.limit is not None and content.limit.e_per_s is not None:
        lines.append(f"Consistency limit {content.limit.e_per_s:.4g} e-/s ({content.limit.source}).")
    masked, pixels = counts[DQ.BAD], content.dq.size
    lines.append(
        f"Rule {content.recipe.get('rule', 'unknown')}: {masked} of {pixels} pixels are masked "
        f"({100 * masked / max(1, pixels):.4g} %)."
    )
    lines.append("0 is good, 1 masked; extension DQ says why, table DQDEF what its bits mean.")
    return lines


def _measured(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else rounded(value)


def _round_all(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, Mapping):
        return {key: _round_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round_all(item) for item in value]
    return value


# --- reading ----------------------------------------------------------------


def decode(fits_bytes: bytes) -> MaskContent:
    """Read back what `encode` wrote.

    Raises
    ------
    UnreadableFrame
        When the bytes are no mask file of this kind.
    """
    try:
        primary, *extensions = blocks.hdus(lambda offset, size: fits_bytes[offset : offset + size])
        named = {unit.values.get("EXTNAME"): unit for unit in extensions}
        header = _Header(blocks.parse_cards(primary.text.split("\n"), strip=False)[0])
        return MaskContent(
            dq=_decode_dq(fits_bytes, named["DQ"]),
            camera=header.text("CAMERA"),
            configuration=_decode_configuration(header),
            build_key=header.text("BUILDKEY"),
            algorithm_version=header.text("ALGOVER"),
            recipe=_decode_recipe(header.text("RECIPE")),
            set_point_c=header.number_or_none("SET-TEMP"),
            first_night=header.text_or_none("NIGHT1"),
            last_night=header.text_or_none("NIGHT2"),
            exposures_s=tuple(header.number(f"EXPTST{i + 1}") for i in range(header.whole("NEXPTEST"))),
            limit=_decode_limit(header),
            trim_section=header.text_or_none("RAWSEC"),
            inputs=tuple(_decode_input(row) for row in canonical.read_table(fits_bytes, named["INPUTS"])),
            notes=tuple((header.text_or_none("COMMENT") or "").splitlines()),
        )
    except UnreadableFrame as error:
        raise _no_mask_file("The file", error.message) from error
    except KeyError as error:
        raise _no_mask_file("The file", f"{error} is missing") from error
    except ValueError as error:
        raise _no_mask_file("The file", str(error)) from error


def read_bad(source: bytes | str | Path) -> NDArray[np.bool_]:
    """The boolean mask (ny, nx), True = masked, of a mask file or its bytes.

    Raises
    ------
    UnreadableFrame
        When it is no FITS file with a primary image of bytes.
    """
    name, fits_bytes = ("The file", source) if isinstance(source, bytes) else (str(source), b"")
    try:
        fits_bytes = fits_bytes or Path(name).read_bytes()
        primary = next(blocks.hdus(lambda offset, size: fits_bytes[offset : offset + size]))
        shape = blocks.image_shape(primary.values)
        if shape is None or primary.values["BITPIX"] != 8:
            raise ValueError("its primary image is not of bytes")
        pixels = np.frombuffer(fits_bytes, np.uint8, shape[0] * shape[1], primary.start)
        return np.not_equal(pixels.reshape(shape), 0)
    except UnreadableFrame as error:
        raise _no_mask_file(name, error.message) from error
    except (OSError, ValueError) as error:
        raise _no_mask_file(name, str(error)) from error


def read_raw_section(fits_bytes: bytes) -> str | None:
    """The section of the raw frame that a mask file covers, by its primary header; None is all of it."""
    primary = next(blocks.hdus(lambda offset, size: fits_bytes[offset : offset + size]))
    section = primary.values.get("RAWSEC")
    return None if section is None else str(section)


@dataclass(frozen=True, slots=True)
class _Header:
    """Values of cards as what they are meant to be: KeyError where one is missing, else ValueError."""

    values: Mapping[str, Value]

    def text(self, keyword: str) -> str:
        value = self.values[keyword]
        if not isinstance(value, str):
            raise ValueError(f"{keyword} is no text")
        return value

    def number(self, keyword: str) -> float:
        value = self.values[keyword]
        if isinstance(value, str | bool) or not math.isfinite(value):
            raise ValueError(f"{keyword} is no number")
        return value

    def whole(self, keyword: str) -> int:
        number = blocks.whole(self.values[keyword])
        if number is None:
            raise ValueError(f"{keyword} is no whole number")
        return number

    def text_or_none(self, keyword: str) -> str | None:
        return self.text(keyword) if keyword in self.values else None

    def number_or_none(self, keyword: str) -> float | None:
        return self.number(keyword) if keyword in self.values else None


def _decode_dq(fits_bytes: bytes, unit: HDU) -> NDArray[np.uint16]:
    shape = blocks.image_shape(unit.values)
    if shape is None or unit.values["BITPIX"] != 16 or unit.values.get("BZERO") != 32768:
        raise ValueError("its DQ plane is not of unsigned 16-bit numbers")
    stored = np.frombuffer(fits_bytes, ">u2", shape[0] * shape[1], unit.start)
    return (stored ^ np.uint16(0x8000)).astype(np.uint16).reshape(shape)


def _decode_recipe(text: str) -> Mapping[str, Any]:
    try:
        recipe = json.loads(text)
    except RecursionError:
        raise ValueError("RECIPE is nested too deeply") from None
    if not isinstance(recipe, dict):
        raise ValueError("RECIPE is no object")
    return recipe


def _decode_configuration(header: _Header) -> Configuration:
    sub_frame = header.text_or_none("SUBFRAME")
    return Configuration(
        binning=(header.whole("XBINNING"), header.whole("YBINNING")),
        readout_mode=header.text_or_none("READOUTM"),
        gain_setting=header.number_or_none("GAINSET"),
        offset_setting=header.number_or_none("OFFSTSET"),
        sub_frame=None if sub_frame is None else _decode_sub_frame(sub_frame),
        row_order=header.text_or_none("ROWORDER"),
        bayer_pattern=header.text_or_none("BAYERPAT"),
    )


def _decode_sub_frame(text: str) -> tuple[int, int, int, int]:
    x0, y0, nx, ny = (int(part) for part in text.split(","))
    return x0, y0, nx, ny


def _decode_limit(header: _Header) -> MaskLimit | None:
    source = header.text_or_none("LIMSRC")
    if source is None:
        return None
    short_s = header.number_or_none("LIMEXP1")
    return MaskLimit(
        e_per_s=header.number_or_none("LIMIT"),
        source=source,
        low_e_per_s=header.number_or_none("LIMLOW"),
        high_e_per_s=header.number_or_none("LIMHIGH"),
        charge_e=header.number_or_none("LIMCHRG"),
        exposures_s=None if short_s is None else (short_s, header.number("LIMEXP2")),
        tolerance=header.number_or_none("LIMTOL"),
    )


_TEXTS, _NUMBERS = ("ROLE", "KIND", "START", "SHA256"), ("EXPTIME", "CCDTEMP")
_KINDS = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_NUMBERS, float) | {"NCOMBINE": int}
"""of the columns of INPUTS"""


def _decode_input(row: Mapping[str, Any]) -> MaskInput:
    for name, kind in _KINDS.items():
        if not isinstance(row[name], kind):
            raise ValueError(f"{name} of its inputs is of another kind")
    return MaskInput(
        role=row["ROLE"],
        sha256=row["SHA256"],
        kind=row["KIND"],
        exptime_s=_or_none(row["EXPTIME"]),
        ccd_temp_c=_or_none(row["CCDTEMP"]),
        start=row["START"] or None,
        n_combined=row["NCOMBINE"],
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _no_mask_file(name: str, why: str) -> UnreadableFrame:
    return UnreadableFrame(
        f"{name} is no mask file of hotpix-registry ({why}).",
        next_step="Use import for masks from elsewhere.",
    )
