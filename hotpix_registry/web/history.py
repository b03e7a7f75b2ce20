"""Routes of what happened: history, log, releases, states and masks compared, citations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hotpix_registry.errors import UsageError
from hotpix_registry.registry.compare import DatesChange, check_alike
from hotpix_registry.registry.pages import Page
from hotpix_registry.web import schemas as s
from hotpix_registry.web.lists import Form, Formatted, Paging, form_of, listed, tabled, told
from hotpix_registry.web.schemas import answers
from hotpix_registry.web.state import TheRegistry

router = APIRouter(prefix="/v1", tags=["history"])

Paged = Annotated[Paging, Query()]


class HistoryQuery(Paging):
    camera: str | None = Field(None, description="Only masks of this camera, by name or alias.")
    mask_id: int | None = Field(None, ge=1, lt=2**31, description="Only this mask.")


@router.get(
    "/history", summary="Every interval that masks ever held", responses=tabled(s.Listed[s.HistoryRecord])
)
def history(request: Request, registry: TheRegistry, asked: Annotated[HistoryQuery, Query()]) -> Response:
    """Who gave a mask its dates, when and why, and who took them, in the order of writing."""
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_history(
            camera=asked.camera, mask_id=asked.mask_id, limit=asked.limit, cursor=asked.cursor
        ),
        ("mask_id", "series", "valid_from", "valid_to", "opened_tx", "opened", "closed_tx", "closed"),
    )


@router.get("/log", summary="Who wrote what", responses=tabled(s.Listed[s.LogRecord]))
def log(request: Request, registry: TheRegistry, asked: Paged) -> Response:
    """Transactions, the newest first: who, when, from where, with what, why, and what it did to masks."""
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_log(limit=asked.limit, cursor=asked.cursor),
        ("tx", "actor", "host", "software", "action", "reason", "at", "did"),
    )


@router.get("/releases", summary="Named states of the registry", responses=tabled(s.Listed[s.ReleaseRecord]))
def releases(request: Request, registry: TheRegistry, asked: Paged) -> Response:
    """Releases, oldest first; what they name never changes."""
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_releases(limit=asked.limit, cursor=asked.cursor),
        ("name", "tx", "at", "created", "note"),
    )


# --- compared ---------------------------------------------------------------------------


class DiffQuery(Formatted):
    a: str = Field(max_length=200, description="A mask's number; or a release, tx12, or a time.")
    b: str = Field(max_length=200, description="Another of the same kind; or `now`.")
    camera: str | None = Field(None, description="Of two states, only this camera.")


@router.get(
    "/diff",
    summary="Two masks, or two states of the registry, compared",
    responses=tabled(s.MaskDiffRecord | s.Listed[DatesChange]),
)
def diff(request: Request, registry: TheRegistry, asked: Annotated[DiffQuery, Query()]) -> Response:
    """Of two masks the pixels by flag; of two states a list of the dates that are answered otherwise.

    As a table, the flags and presets, or the dates.
    """
    if not check_alike(asked.a, asked.b, camera=asked.camera):
        changes = registry.diff_states
        return listed(
            request,
            registry,
            asked,
            lambda: Page([one.as_dict() for one in changes(asked.a, asked.b, camera=asked.camera)]),
            DatesChange.__slots__,
        )
    a, b = int(asked.a), int(asked.b)
    if form_of(request, asked.format) is Form.JSON:
        return told(request, registry, lambda: registry.diff_masks(a, b).as_dict(), vary=True)
    return listed(
        request,
        registry,
        asked,
        lambda: Page(registry.diff_masks(a, b).rows()),
        ("of", "name", "vanished", "new", "common"),
    )


class AffectedQuery(Formatted):
    since: str = Field(max_length=200, description="A release, a transaction such as tx12, or a time.")
    camera: str | None = Field(None, description="Only this camera.")


@router.get(
    "/affected", summary="Dates that get another mask now than they did", responses=tabled(s.AffectedRecord)
)
def affected(request: Request, registry: TheRegistry, asked: Annotated[AffectedQuery, Query()]) -> Response:
    """What today's registry answers otherwise than an earlier state of it. As a table, the dates."""
    if form_of(request, asked.format) is Form.JSON:
        return told(
            request,
            registry,
            lambda: registry.affected(asked.since, camera=asked.camera).as_dict(),
            vary=True,
        )
    return listed(
        request,
        registry,
        asked,
        lambda: Page([one.as_dict() for one in registry.affected(asked.since, camera=asked.camera).dates]),
        DatesChange.__slots__,
    )


# --- cited ------------------------------------------------------------------------------


class CiteQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    camera: str | None = None
    date: str | None = Field(None, description="The night or instant of the science frames.")
    temperature: float | None = Field(None, description="Their detector temperature, °C.")
    binning: str | None = Field(None, description="Binning, such as 2x2.")
    readout_mode: str | None = None
    gain_setting: str | None = None
    offset_setting: str | None = None
    receipt: str | None = Field(None, description="What an earlier answer said; instead of all others.")
    release: str | None = Field(None, description="A release as a whole; with a date, the answer it gives.")
    as_of: str | None = Field(None, description="A time or a transaction number.")


@router.get("/cite", summary="The sentence for a paper", responses=answers(s.CitationRecord))
def cite(request: Request, registry: TheRegistry, asked: Annotated[CiteQuery, Query()]) -> Response:
    """A sentence for the methods section, BibTeX, and the masks: of a date, a receipt, or a release."""
    from hotpix_registry.registry.question import parse_configuration

    if asked.receipt is not None and asked.model_dump(exclude={"receipt"}, exclude_none=True):
        raise UsageError("A receipt says camera, date and state itself.", next_step="Give the receipt alone.")

    def read() -> object:
        return registry.cite(
            camera=asked.camera,
            date=asked.date,
            temperature_c=asked.temperature,
            configuration=parse_configuration(
                {
                    "binning": asked.binning,
                    "readout_mode": asked.readout_mode,
                    "gain_setting": asked.gain_setting,
                    "offset_setting": asked.offset_setting,
                }
            ),
            receipt=asked.receipt,
            release=asked.release,
            as_of=asked.as_of,
        ).as_dict()

    return told(request, registry, read)
