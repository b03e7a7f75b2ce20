"""How a page comes to be shown: of one state of the registry, and only to whoever does not have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from starlette.responses import Response

from hotpix_registry import __version__
from hotpix_registry.domain import digest
from hotpix_registry.registry import Registry
from hotpix_registry.web.rendering import page
from hotpix_registry.web.state import tag_of, unchanged


def shown(
    request: Request,
    registry: Registry,
    template: str,
    read: Callable[[], Mapping[str, Any]],
    *,
    also: str = "",
) -> Response:
    """A page of one state of the registry under the ETag of that state, or 304.

    Parameters
    ----------
    also
        what else decides what is shown, such as the day; the version of the software always does
    """
    if (age := age_of(registry)) != _NO_COPY:
        also = digest([also, *map(str, age.values())])[:16]
    with registry.at_once() as state:
        tag = tag_of(state, f"{__version__}{also and '-'}{also}")
        if (same := unchanged(request, tag)) is not None:
            return same
        found = read()
    return page(template, headers={"ETag": tag}, state=state, **age, **found)


_NO_COPY: Mapping[str, Any] = {"copied": None, "lag": None}


def age_of(registry: Registry) -> Mapping[str, Any]:
    """What each page of a mirror says of when it was last brought up to date."""
    return {"copied": registry.freshness(), "lag": registry.lag()}


def this_minute() -> str:
    """What a page hangs on that says how things are now: masks may change within a day."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M}"
