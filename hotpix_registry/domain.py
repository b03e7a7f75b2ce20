"""The values everybody speaks about, and their rules: standard library only."""

from __future__ import annotations

import base64
import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ALGORITHM_VERSION = "4"
"""of what makes flags of darks: raised whenever the same darks and recipe may give others"""


# --- data quality -----------------------------------------------------------


class DQ(enum.IntFlag):
    """Bits of the data-quality plane (uint16); 0 is a good pixel. Stable for ever."""

    BAD = 1
    DARK_SATURATED = 2
    HOT = 4
    WARM = 8
    DARK_NONLINEAR = 16
    UNSTABLE = 32
    PEDESTAL = 64
    STUCK = 128
    COLUMN = 256
    MANUAL = 512


DQ_DESCRIPTIONS: Mapping[DQ, str] = {
    DQ.BAD: "do not use: the union under the recipe's rule",
    DQ.DARK_SATURATED: "saturated in a dark of the set",
    DQ.HOT: "dark current above the consistency limit or the cut-off",
    DQ.WARM: "dark current significantly above the bulk",
    DQ.DARK_NONLINEAR: "dark current not proportional to exposure time",
    DQ.UNSTABLE: "telegraph, noisy or changed",
    DQ.PEDESTAL: "an intercept that bias subtraction removes",
    DQ.STUCK: "stuck or dead",
    DQ.COLUMN: "part of a bad column",
    DQ.MANUAL: "set by hand: the camera's static list of defects, or an imported mask",
}


class Rule(enum.StrEnum):
    """How a recipe turns what was measured into DQ.BAD."""

    EVIDENCE_AND_LIMIT = "evidence+limit"
    EVIDENCE = "evidence"
    LIMIT = "limit"
    CUTOFF = "cutoff"
    PERSIST = "persist"
    IMPORT = "import"
    EDIT = "edit"
    NONE = "none"


# --- access -----------------------------------------------------------------


class Scope(enum.StrEnum):
    """What a token lets its holder do."""

    READ = "read"
    INGEST = "ingest"
    BUILD = "build"
    CERTIFY = "certify"
    ADMIN = "admin"
    """everything"""


# --- how values are written -------------------------------------------------


def and_list(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces; what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def content_digest(content: bytes) -> str:
    """What the header Content-Digest of RFC 9530 says of bytes that are sent."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


# --- frames -----------------------------------------------------------------


class Kind(enum.StrEnum):
    """What a catalogued frame is; everything else is skipped."""

    DARK = "dark"
    BIAS = "bias"
    MASTER_DARK = "master dark"
    MASTER_BIAS = "master bias"

    @property
    def combined(self) -> bool:
        return self in (Kind.MASTER_DARK, Kind.MASTER_BIAS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What must agree between darks and science frame; None is "the header does not say"."""

    binning: tuple[int, int] = (1, 1)
    """(x, y)"""
    readout_mode: str | None = None
    gain_setting: float | None = None
    offset_setting: float | None = None
    sub_frame: tuple[int, int, int, int] | None = None
    """(x0, y0, nx, ny) in binned pixels, 0-based"""
    row_order: str | None = None
    """TOP-DOWN or BOTTOM-UP"""
    bayer_pattern: str | None = None

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Configuration:
        tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**tuples)

    @property
    def digest(self) -> str:
        return digest(self.as_dict())

    def __str__(self) -> str:
        parts = [f"bin {self.binning[0]}x{self.binning[1]}"]
        if self.readout_mode:
            parts.append(f"mode {self.readout_mode}")
        if self.gain_setting is not None:
            parts.append(f"gain {self.gain_setting:g}")
        if self.offset_setting is not None:
            parts.append(f"offset {self.offset_setting:g}")
        if self.sub_frame:
            x0, y0, nx, ny = self.sub_frame
            parts.append(f"{nx}x{ny} at {x0},{y0}")
        if self.row_order:
            parts.append(self.row_order.lower())
        if self.bayer_pattern:
            parts.append(self.bayer_pattern)
        return ", ".join(parts)


class Rows(Protocol):
    """An image that is read a strip of rows at a time; an ndarray wrapped is enough."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)"""
        ...

    def read(self, y0: int, y1: int) -> Any:
        """Rows `y0` to `y1` (exclusive) as an array (y1 - y0, nx), uint16 where the file holds that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a header says about a frame, in our words and units.

    `sources` names the keyword behind each field (`{"exptime_s": "EXPOSURE"}`); `problems` are
    the sentences for which the frame must be rejected if it is a dark at all.
    """

    kind: Kind | None
    """None: no dark, bias or master of them (`frame_type` says what)"""
    frame_type: str
    """the type as the header writes it, `''` when it writes none"""
    shape: tuple[int, int]
    """(ny, nx)"""
    exptime_s: float | None = None
    start_us: int | None = None
    start_precision_s: float = 1.0
    """86400 when the header gives a date without a time"""
    set_temp_c: float | None = None
    ccd_temp_c: float | None = None
    configuration: Configuration = Configuration()
    n_combined: int = 1
    unit: str = "adu"
    """adu, electron, adu/s or electron/s"""
    bias_subtracted: bool | None = None
    gain_e_per_adu: float | None = None
    read_noise_e: float | None = None
    saturation_adu: float | None = None
    overscan_section: str | None = None
    trim_section: str | None = None
    instrument: str | None = None
    """the camera's name as written; None when it is missing or names no camera"""
    serial: str | None = None
    software: str | None = None
    keyword_profile: str = ""
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def temperature_c(self) -> float | None:
        """The set temperature, or else the measured one."""
        return self.ccd_temp_c if self.set_temp_c is None else self.set_temp_c

    def as_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {
            "kind": None if self.kind is None else str(self.kind),
            "shape": list(self.shape),
            "configuration": self.configuration.as_dict(),
            "sources": dict(self.sources),
            "problems": list(self.problems),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Facts:
        return cls(
            **dict(values)
            | {
                "kind": None if values["kind"] is None else Kind(values["kind"]),
                "shape": tuple(values["shape"]),
                "configuration": Configuration.from_dict(values["configuration"]),
                "problems": tuple(values["problems"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A catalogued frame, as the build sees it: its bytes, where they lie, and what they mean."""

    frame_id: int
    sha256: str
    paths: tuple[str, ...]
    camera: str
    series_id: int | None
    """None: its temperature is unknown"""
    night: str
    facts: Facts
    """the header's, with an operator's corrections applied"""
    twin_of: int | None = None
    """the frame of which this one is the same exposure, saved again"""
    excluded: str | None = None
    """why an operator took it out"""
    marks: tuple[tuple[int, int], ...] = ()
    """(size_bytes, mtime_ns) at each of the paths when it was ingested there"""

    @property
    def name(self) -> str:
        return self.paths[0] if self.paths else f"frame {self.frame_id} ({self.sha256[:12]})"

    @property
    def kind(self) -> Kind:
        if self.facts.kind is None:
            raise ValueError("only darks, biases and masters are catalogued")
        return self.facts.kind

    @property
    def exptime_s(self) -> float:
        """Zero for a bias, whatever its header says."""
        return 0.0 if self.is_bias else float(self.facts.exptime_s or 0.0)

    @property
    def is_bias(self) -> bool:
        return self.kind in (Kind.BIAS, Kind.MASTER_BIAS)

    @property
    def start_us(self) -> int:
        return int(self.facts.start_us or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A box on a camera's static list: pixels of the trimmed, unbinned frame, 0-based, x first."""

    x0: int
    y0: int
    width: int
    height: int
    reason: str
    first_night: str | None = None
    """None: always"""
    last_night: str | None = None
    defect_id: int = 0

    def holds_in(self, first_night: str, last_night: str) -> bool:
        """Whether it holds in any night of a campaign."""
        begun = self.first_night is None or self.first_night <= last_night
        return begun and (self.last_night is None or first_night <= self.last_night)

    def binned(self, binning: tuple[int, int]) -> tuple[slice, slice]:
        """(y, x) slices of the binned pixels that it touches."""
        bx, by = binning
        return (
            slice(self.y0 // by, -(-(self.y0 + self.height) // by)),
            slice(self.x0 // bx, -(-(self.x0 + self.width) // bx)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Camera + configuration + set point: the line along which masks succeed each other."""

    series_id: int
    camera: str
    configuration: Configuration
    set_point_c: float | None

    def __str__(self) -> str:
        point = "no set point" if self.set_point_c is None else f"{self.set_point_c:g} °C"
        return f"{self.camera} at {point}, {self.configuration}"


# --- recipe -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every number that decides which pixels are flagged; stored with the mask."""

    rule: Rule = Rule.EVIDENCE_AND_LIMIT
    limit_e_per_s: float | None = None
    """given consistency limit; None estimates it from the darks"""
    cutoff_e_per_s: float = 1.0
    """excess over the local bulk that makes a pixel HOT with one exposure time"""
    cutoff_sigma: float = 5.0
    cosmic_ray_sigma: float = 6.0
    max_cosmic_rays: int = 2
    tolerance: float = 0.05
    """relative departure of the two dark currents that defines the consistency limit"""
    false_discovery_rate: float = 0.01
    bulk_false_flags: float = 1.0
    """expected false flags per frame in the bulk"""
    min_effect: float = 0.02
    """relative difference below which disagreement is no reason to mask"""

    def as_dict(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Rule) else v for k, v in dataclasses.asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateBounds:
    """Bounds of the quality gates; a camera's profile may tighten or loosen them."""

    max_flagged_fraction: float = 0.10
    min_frames: int = 1
    """of every exposure time, exposures behind a master counted; a build of fewer than three warns"""
    z_sd: tuple[float, float] = (0.90, 1.10)
    max_temperature_spread_k: float = 1.5
    min_jaccard: float = 0.3
    """overlap with the previous mask of the series"""
    count_ratio: tuple[float, float] = (0.5, 2.0)
    """flagged pixels relative to the previous mask"""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateBounds:
        tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**tuples)


USUAL_BOUNDS = GateBounds()
