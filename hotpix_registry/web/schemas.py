"""What answers look like, for the description of the API; no answer passes through these models."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from hotpix_registry.answers import Criterion
from hotpix_registry.registry.compare import DatesChange, FlagDiff, FrameChange
from hotpix_registry.registry.trend import Campaign as TrendCampaign
from hotpix_registry.web.problems import MEDIA_TYPE

T = TypeVar("T")
Instant = str
"""ISO, UTC, with Z"""


class _Model(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Listed(_Model, Generic[T]):
    items: list[T]
    next: str | None
    """the cursor of the page that follows; null at the end"""


class Configured(_Model):
    binning: tuple[int, int]
    """x, y"""
    readout_mode: str | None
    gain_setting: float | None
    offset_setting: float | None
    sub_frame: tuple[int, int, int, int] | None
    """x0, y0, nx, ny in binned pixels, 0-based"""
    row_order: str | None
    bayer_pattern: str | None


# --- answers ----------------------------------------------------------------------------


class WeighedMask(_Model):
    series: str
    mask_id: int | None
    version: int | None
    valid_from: Instant | None
    valid_to: Instant | None
    distance_days: float
    chosen: bool
    passed: bool
    criteria: list[Criterion]


class Links(_Model):
    mask: str
    file: str
    compressed: str
    provenance: str
    replay: str
    page: str


class AnswerRecord(_Model):
    mask_id: int
    version: int
    sha256: str
    camera: str
    series: str
    configuration: Configured
    set_point_c: float | None
    status: str
    """certified, or revoked where that was allowed"""
    rule: str
    preset: str
    valid_from: Instant
    valid_to: Instant | None
    first_night: str
    last_night: str
    temperature_difference_c: float | None
    age_days: int
    stale: bool
    extrapolated: bool
    exposures_tested_s: tuple[float, float] | None
    exposure_tested: bool | None
    flagged: int
    limit_e_per_s: float | None
    shape: tuple[int, int]
    """ny, nx"""
    newer_candidates: list[int]
    needs_rebuild: bool
    revoked_since: Instant | None
    warnings: list[str]
    receipt: str
    tx: int
    registry_id: str
    explanation: list[WeighedMask] | None = None
    """only when asked for"""


class LinkedAnswer(AnswerRecord):
    links: Links


class ErrorRecord(_Model):
    code: str
    message: str
    next_step: str


class Compared(_Model):
    criterion: str
    wanted: str
    found: str
    verdict: str
    reason: str


class HeaderResult(_Model):
    mask: LinkedAnswer | None
    steps: list[str]
    """how the mask is adapted to the frame"""
    error: ErrorRecord | None = None
    explanation: list[WeighedMask] | None = None
    geometry: list[Compared] | None = None
    """what of the frame's geometry was held against the mask's"""


class Resolved(_Model):
    results: list[HeaderResult]


# --- cameras ----------------------------------------------------------------------------


class CameraRecord(_Model):
    name: str
    aliases: list[str]
    status: str
    """provisional or confirmed"""
    frames: int
    masks: int
    gain_e_per_adu: float | None
    read_noise_e: float | None
    longitude_deg_east: float | None
    summary: str


class CameraProfileRecord(_Model):
    model_config = ConfigDict(extra="allow")

    name: str
    aliases: list[str]


class SeriesRecord(_Model):
    series_id: int
    camera: str
    series: str
    configuration: Configured
    set_point_c: float | None
    frames: int
    masks: int


class EventRecord(_Model):
    event_id: int
    at: Instant
    kind: str
    note: str
    tx: int


class DefectRecord(_Model):
    x0: int
    y0: int
    width: int
    height: int
    reason: str
    first_night: str | None
    last_night: str | None
    defect_id: int


class StretchRecord(_Model):
    valid_from: Instant
    valid_to: Instant | None
    mask_id: int | None
    """null: a gap"""
    version: int | None
    status: str
    darks: tuple[str, str] | None
    age_at_start_days: int | None
    age_at_end_days: int | None
    stale_from: Instant | None
    cures: list[str]


class SeriesCoverageRecord(_Model):
    series: str
    covered: float
    candidates: list[int]
    dark_nights: list[str]
    stretches: list[StretchRecord]


class CoverageEvent(_Model):
    date: Instant
    kind: str
    note: str


class CoverageRecord(_Model):
    camera: str
    from_: Instant = Field(alias="from")
    to: Instant
    tx: int
    events: list[CoverageEvent]
    series: list[SeriesCoverageRecord]


class TrendRecord(_Model):
    series: str
    made: str
    flag: str
    pixels: int
    campaigns: list[TrendCampaign]
    ever: int
    always: int
    intermittent: int
    half_life_years: float | None
    notes: list[str]


class PlanInput(_Model):
    frame_id: int
    role: str
    exptime_s: float
    path: str


class Stray(_Model):
    frame_id: int
    path: str
    reason: str


class PlanCampaign(_Model):
    series: str
    first_night: str
    last_night: str
    inputs: list[PlanInput]
    refused: list[Stray]


class PlanRecord(_Model):
    campaigns: list[PlanCampaign]
    strays: list[Stray]


# --- masks and frames -------------------------------------------------------------------


class Interval(_Model):
    from_: Instant = Field(alias="from")
    to: Instant | None


class MaskRecord(_Model):
    mask_id: int
    version: int
    camera: str
    series: str
    status: str
    """certified, candidate, superseded, decertified or revoked"""
    needs_rebuild: bool
    valid: list[Interval]
    first_night: str
    last_night: str
    exposures_tested_s: tuple[float, float] | None
    rule: str
    limit_e_per_s: float | None
    flagged: int
    pixels: int
    counts: dict[str, int]
    sha256: str
    build_key: str
    algorithm_version: str


class InputRecord(_Model):
    frame_id: int
    role: str
    sha256: str
    kind: str
    exptime_s: float
    ccd_temp_c: float | None
    start: Instant
    path: str


class MaskDetails(MaskRecord):
    warnings: list[str]
    built: Instant
    actor: str
    host: str
    reason: str | None
    recipe: dict[str, Any]
    report: dict[str, Any]
    software: dict[str, str]
    profile_digest: str
    profile: dict[str, Any]
    inputs: list[InputRecord]


class Provenance(_Model):
    """https://www.w3.org/submissions/prov-json/"""

    prefix: dict[str, str]
    entity: dict[str, dict[str, Any]]
    activity: dict[str, dict[str, Any]]
    agent: dict[str, dict[str, Any]]
    used: dict[str, dict[str, Any]]
    wasGeneratedBy: dict[str, dict[str, Any]]  # noqa: N815 - PROV's names
    wasDerivedFrom: dict[str, dict[str, Any]]  # noqa: N815
    wasAssociatedWith: dict[str, dict[str, Any]]  # noqa: N815
    actedOnBehalfOf: dict[str, dict[str, Any]]  # noqa: N815
    wasInvalidatedBy: dict[str, dict[str, Any]] | None = None  # noqa: N815


class ReportRecord(_Model):
    model_config = ConfigDict(extra="allow")

    mask_id: int
    verdict: dict[str, Any]


class Measured(_Model):
    exptime_s: float
    e_per_s: float


class PixelFlags(_Model):
    dq: int
    flags: list[str]
    masked: bool


class PixelVersion(PixelFlags):
    mask_id: int
    version: int
    status: str
    first_night: str
    last_night: str


class PixelRecord(PixelFlags):
    mask_id: int
    x: int
    y: int
    dark_current: list[Measured]
    """of each exposure time that was compared; empty for a normal pixel"""
    versions: list[PixelVersion]


class FrameRecord(_Model):
    frame_id: int
    camera: str
    kind: str
    night: str
    exptime_s: float
    start: Instant
    set_temp_c: float | None
    ccd_temp_c: float | None
    shape: tuple[int, int]
    """ny, nx"""
    n_combined: int
    configuration: Configured
    status: str
    """used, excluded, twin or missing"""
    excluded: str | None
    """why"""
    twin_of: int | None
    sha256: str
    paths: list[str]
    name: str
    sources: dict[str, str]
    """field → the keyword that said it"""


class RejectedFile(_Model):
    path: str
    reason: str


# --- history ----------------------------------------------------------------------------


class Act(_Model):
    at: Instant
    actor: str
    host: str
    software: str
    action: str
    reason: str | None


class HistoryRecord(_Model):
    mask_id: int
    series: str
    valid_from: Instant
    valid_to: Instant | None
    opened_tx: int
    opened: Act
    closed_tx: int | None
    closed: Act | None
    revoked: bool


class LogRecord(Act):
    tx: int
    did: list[str]


class ReleaseRecord(_Model):
    name: str
    tx: int
    at: Instant
    created: Instant
    note: str


class ChangesPage(_Model):
    schema_: str = Field(alias="schema")
    """the revision of the tables whose rows these are"""
    registries: list[list[Any]]
    """names of the registry: id, when it was made, from which transaction on"""
    after: int
    at: str
    before: str | None
    """digest of transaction `after`, by which it is known that both have the same history"""
    newest: int
    until: int | None
    """the last transaction that this page completes; null: none, and `next` leads on"""
    next: str
    counts: dict[str, int] | None
    """table → number of rows, when nothing is left"""
    records: list[dict[str, Any]]
    """in the order of writing: `row` of a `table`, ids that are `closed`, or a `piece` of a row's bytes"""
    sha256: str
    """of all else, as JSON with sorted keys"""


class MaskDiffRecord(_Model):
    a: MaskRecord
    b: MaskRecord
    flags: list[FlagDiff]
    presets: list[FlagDiff]
    jaccard: float
    pixels: int
    notes: list[str]


class AffectedRecord(_Model):
    since_tx: int
    tx: int
    dates: list[DatesChange]
    frames: list[FrameChange]
    frames_read: int
    rejected: list[RejectedFile]


class CitedMask(_Model):
    model_config = ConfigDict(extra="allow")

    mask_id: int
    version: int
    series: str
    status: str
    valid_from: Instant
    valid_to: Instant | None
    sha256: str


class CitationRecord(_Model):
    sentence: str
    registry_id: str
    tx: int
    answer: AnswerRecord | None
    release: ReleaseRecord | None
    masks: list[CitedMask]
    bibtex: str


# --- problems ---------------------------------------------------------------------------


class Problem(_Model):
    """RFC 9457; `code` is what scripts compare, `detail` and `next_step` what people read."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    next_step: str
    exit_code: int | None = None
    """of the command line for the same mistake"""
    explanation: list[WeighedMask] | None = None
    """of a miss: each mask that might have answered, by each criterion"""


def _problem(description: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": description, "content": content}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": _problem("What was asked cannot be answered; the problem says why, and what to do."),
    "5XX": _problem("Busy (503, with Retry-After), or the registry is damaged or away."),
}


def answers(model: Any, *media_types: str, unchanged: bool = True) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: JSON of a model, and the same as text of other media types."""
    others = {name.partition(";")[0]: {"schema": {"type": "string"}} for name in media_types}
    told: dict[int | str, dict[str, Any]] = {200: {"model": model, "content": others}}
    if unchanged:
        told[304] = {"description": "Nothing was written since the ETag of `If-None-Match`."}
    return told


def of_files(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that serves bytes."""
    content = {
        name.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for name in media_types
    }
    return {
        200: {"description": "The file.", "content": content},
        304: {"description": "The asker has these very bytes."},
    }
