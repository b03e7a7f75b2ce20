"""The reading methods of class Registry as they go over HTTP: which there are, and how values are written.

The command line uses this against a server of its own version. What others may build on is the described
API, where records stand as `--format json` prints them; here are the registry's own values, so that
commands cannot tell a server from a database.
"""

from __future__ import annotations

import inspect
import json
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json, to_json

from hotpix_registry import __version__
from hotpix_registry.domain import Facts
from hotpix_registry.errors import UsageError
from hotpix_registry.registry import Registry
from hotpix_registry.registry.choose import Chosen
from hotpix_registry.registry.cite import Citation
from hotpix_registry.registry.compare import Affected
from hotpix_registry.registry.coverage import Coverage
from hotpix_registry.registry.fitting import Origin
from hotpix_registry.registry.identify import Identification, Seen
from hotpix_registry.registry.trend import Trend

PATH = "/v1/reading"
_NEXT = "Use the API that /docs describes."

METHODS = {
    "affected_frames",
    "camera",
    "cameras",
    "choose",
    "cite",
    "coverage",
    "defects",
    "diff_masks",
    "diff_states",
    "events",
    "frames",
    "history",
    "identify_seen",
    "keyword_profile_texts",
    "list_cameras",
    "list_defects",
    "list_events",
    "list_frames",
    "list_rejected",
    "list_releases",
    "log",
    "masks",
    "origin",
    "plan",
    "releases",
    "show",
    "state",
    "stored_numbers",
    "trend",
    "version_before",
}

_NAMES = {
    kind.__name__: kind
    for kind in (Affected, Chosen, Citation, Coverage, Facts, Identification, Origin, Seen, Trend)
}
"""what the facade names in annotations, and imports only where it is needed"""


def request_of(arguments: dict[str, Any]) -> Any:
    """A call as it is sent."""
    return {"version": __version__, "arguments": json.loads(to_json(arguments))}


def value_of(method: str, content: bytes) -> Any:
    """What a call returned.

    Raises
    ------
    ValueError
        It is no such value.
    """
    return _result(method).validate_json(content)


def answered(registry: Registry, method: str, body: bytes) -> bytes:
    """Call a method as `request_of` asks, and write its value.

    Raises
    ------
    UsageError
        There is no such method, its arguments do not fit, or another version asks.
    """
    if method not in METHODS:
        raise UsageError(f"There is no reading method '{method}'.", next_step=_NEXT)
    try:
        asked = from_json(body)  # which bounds its depth, and refuses halves of characters
        version, arguments = asked["version"], asked["arguments"]
    except (ValueError, TypeError, KeyError):
        raise UsageError("This is no call of a method.", next_step=_NEXT) from None
    if version != __version__:
        raise UsageError(
            f"The server runs version {__version__}, and a command line of version {version} asks.",
            next_step="Install the same version at both ends.",
        )
    try:
        given = _arguments(method).model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the arguments"
        raise UsageError(f"{where}: {first['msg']}.", next_step="Correct it.") from None
    values = {name: getattr(given, name) for name in given.model_fields_set}
    value = getattr(registry, method)(**values)
    return _result(method).dump_json(value)


def _annotations(method: str) -> dict[str, Any]:
    return get_type_hints(getattr(Registry, method), localns=_NAMES)


@cache
def _result(method: str) -> TypeAdapter[Any]:
    kind = _annotations(method)["return"]
    if kind is bytes:
        return TypeAdapter(bytes, config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"))
    return TypeAdapter(kind)


@cache
def _arguments(method: str) -> Any:
    kinds = _annotations(method)
    parameters = inspect.signature(getattr(Registry, method)).parameters.values()
    fields: dict[str, Any] = {
        p.name: (kinds[p.name], ... if p.default is p.empty else p.default)
        for p in parameters
        if p.name != "self"
    }
    return create_model(method, __config__=ConfigDict(extra="forbid"), **fields)
