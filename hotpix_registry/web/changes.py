"""The route that mirrors follow: what was written after a transaction."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hotpix_registry.catalogue.changes import MOST_BYTES
from hotpix_registry.registry import mirror
from hotpix_registry.web import schemas as s
from hotpix_registry.web.lists import whole
from hotpix_registry.web.schemas import answers
from hotpix_registry.web.state import TheRegistry

router = APIRouter(prefix="/v1", tags=["history"])


class ChangesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: int = Field(ge=0, lt=2**62, description="A transaction: that up to which all is known.")
    at: str = Field(
        "", max_length=60, description="`next` of the page before, where it did not complete a transaction."
    )
    most_bytes: int = Field(
        MOST_BYTES,
        ge=mirror.LEAST_BYTES,
        le=mirror.MOST_BYTES,
        description="About how big the page may be.",
    )


@router.get(
    "/changes",
    summary="What was written after a transaction",
    responses=answers(s.ChangesPage, unchanged=False),
)
def changes(registry: TheRegistry, asked: Annotated[ChangesQuery, Query()]) -> Response:
    """Rows that were inserted and closed, by whole transactions or a part of one, with a digest of all.

    `hotpix-registry sync` keeps a mirror by it. Tokens and jobs are not among them.
    """
    content = registry.changes(asked.after, at=asked.at, most_bytes=asked.most_bytes)
    return whole(content, "application/json", {"Cache-Control": "no-store"})
