"""How pages are written: the templates, what they may say of dates and numbers, errors in words."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from hotpix_registry import __version__
from hotpix_registry.domain import DQ, DQ_DESCRIPTIONS
from hotpix_registry.instants import iso

_NOT_PAGES = ("/v1", "/static", "/healthz", "/readyz", "/metrics", "/openapi.json")
_CODE = re.compile(r"`([^`]+)`")
_INSTANT = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?Z")

FLAG_WORDS: Mapping[str, str] = {
    "BAD": "masked",
    "DARK_SATURATED": "saturated",
    "HOT": "hot",
    "WARM": "warm",
    "DARK_NONLINEAR": "non-linear",
    "UNSTABLE": "unstable",
    "PEDESTAL": "pedestal",
    "STUCK": "stuck",
    "COLUMN": "bad column",
    "MANUAL": "by hand",
}


def page(
    template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **shown: Any
) -> HTMLResponse:
    """A page; everything shown in it is escaped."""
    text = _environment().get_template(template).render(**shown)
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-cache"} | dict(headers or {}))


def wants_page(request: Request) -> bool:
    """Whether a person asks with a browser, for what is no part of the API."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(_NOT_PAGES)


def error_page(
    status: int,
    detail: str,
    next_step: str,
    *,
    explanation: Any = (),
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """What went wrong, in words."""
    return page(
        "error.html",
        status=status,
        headers=headers,
        title=HTTPStatus(status).phrase,
        status_code=status,
        detail=detail,
        next_step=next_step,
        explanation=explanation,
    )


def today() -> str:
    return datetime.now(UTC).date().isoformat()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hotpix_registry.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "commands": _commands,
        "typed": _typed,
        "count": lambda number: f"{number:,}",
        "day": lambda instant: "further notice" if instant is None else instant[:10],
        "minute": _minute,
        "part": lambda fraction: f"{fraction:.3%}" if fraction < 0.1 else f"{fraction:.1%}",
        "degrees": lambda c: "no set point" if c is None else f"{c:g} °C",
        "segment": lambda text: quote(str(text), safe=""),
        "instant": iso,
        "filename": lambda path: re.split(r"[/\\]", path)[-1],
        "number": lambda value: "–" if value is None else f"{value:g}",
    }
    environment.globals |= {
        "picture_words": _PICTURE_WORDS,
        "flag_words": FLAG_WORDS,
        "flag_meanings": _MEANINGS,
        "version": __version__,
    }
    return environment


_PICTURE_WORDS = {
    "limit": "Where the exposures part: dark current in one against the other, around the limit",
    "departure": "Median departure of the shorter from the longer exposure, with the tolerance",
    "threshold": "How many pixels lie above any threshold in dark current",
    "histogram": "Dark current of all pixels in each exposure",
    "scatter": "Do the exposures agree? Dark current in one against the other, with the ideal line",
    "z": "Is the noise model right? z-scores over the unit normal",
    "map": "Where the masked pixels lie",
}
_MEANINGS = {str(flag.name): meaning for flag, meaning in DQ_DESCRIPTIONS.items()}
FLAG_VALUES = {str(flag.name): flag.value for flag in DQ}


def _commands(text: str) -> Markup:
    """A sentence with what is to be typed set as code, and instants as people read them."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # a stray one is an ordinary character
        parts = ["`".join(parts)]
    return Markup(
        "".join(f"<code>{p}</code>" if i % 2 else _INSTANT.sub(_short, p) for i, p in enumerate(parts))
    )


def _typed(text: str) -> Markup:
    """A text with what is between backticks set as code, and nothing else changed."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _short(instant: re.Match[str]) -> str:
    return f"{instant[1]} {instant[2]} UTC"


def _minute(instant: str | None) -> str:
    """`2018-08-22 04:00 UTC`"""
    return "further notice" if instant is None else f"{instant[:10]} {instant[11:16]} UTC"
