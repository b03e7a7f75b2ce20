"""The API as its own OpenAPI describes it, put in the order of a page for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

_METHODS = ("get", "post", "put", "delete")
_BEARER = "$HOTPIX_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a member of a body."""

    name: str
    place: str
    """path, query, header or body"""
    type: str
    required: bool
    default: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked."""

    name: str
    method: str
    path: str
    summary: str
    meaning: str
    fields: tuple[Field, ...]
    answers: tuple[tuple[str, str], ...]
    """status and what it means"""
    curl: str


def described(
    document: Mapping[str, Any], *, base: str, examples: Mapping[str, Any]
) -> dict[str, list[Operation]]:
    """Operations by tag, as the document lists them.

    Parameters
    ----------
    base
        where the service is, without a slash at the end
    examples
        name of a parameter → what the examples say for it
    """
    found: dict[str, list[Operation]] = {}
    for path, operations in document["paths"].items():
        for method in (m for m in _METHODS if m in operations):
            told = operations[method]
            fields = tuple(_fields(document, told))
            found.setdefault((told.get("tags") or ["other"])[0], []).append(
                Operation(
                    name=f"{method}-{path}".replace("/", "-").replace("{", "").replace("}", ""),
                    method=method.upper(),
                    path=path,
                    summary=told.get("summary", ""),
                    meaning=told.get("description", ""),
                    fields=fields,
                    answers=tuple((s, str(a.get("description", ""))) for s, a in told["responses"].items()),
                    curl=_curl(document, told, method.upper(), base + path, fields, examples),
                )
            )
    return found


def _fields(document: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Field]:
    for parameter in told.get("parameters", ()):
        schema = parameter.get("schema", {})
        yield _field(
            document, parameter["name"], parameter["in"], schema, parameter.get("required", False), parameter
        )
    body = _body(document, told)
    for name, schema in body.get("properties", {}).items():
        yield _field(document, name, "body", schema, name in body.get("required", ()), schema)


def _field(
    document: Mapping[str, Any], name: str, place: str, schema: Any, required: bool, told: Mapping[str, Any]
) -> Field:
    default = schema.get("default")
    return Field(
        name=name,
        place=place,
        type=_type(document, schema),
        required=required,
        default="" if default is None else json.dumps(default, ensure_ascii=False).strip('"'),
        meaning=told.get("description") or schema.get("description") or "",
    )


def _body(document: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    return _resolved(document, content.get("schema", {}))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    schema = _resolved(document, schema)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        kinds = [_type(document, one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " | ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _curl(
    document: Mapping[str, Any],
    told: Mapping[str, Any],
    method: str,
    url: str,
    fields: tuple[Field, ...],
    examples: Mapping[str, Any],
) -> str:
    """A line that works as it stands where the examples do."""
    query = {}
    for field in fields:
        if field.place == "path":
            url = url.replace(f"{{{field.name}}}", str(examples.get(field.name, field.name.upper())))
        elif field.place == "query" and field.required:
            query[field.name] = examples.get(field.name, field.name.upper())
    words = ["curl"]
    if method != "GET":
        words += ["-X", method]
    if told.get("security"):
        words += ["-H", f'"Authorization: Bearer {_BEARER}"']
    content = told.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        asked = {f.name: examples.get(f.name, _value(f)) for f in fields if f.place == "body" and f.required}
        words += ["-H", "'Content-Type: application/json'", "-d", f"'{json.dumps(asked)}'"]
    elif content:
        words += ["--data-binary", "@dark.fits"]
    elif any(word in url.rpartition("/")[2] for word in ("file.", ".fits", ".png")):
        words += ["-OJL"]
    words.append(f"'{url}{'?' + urlencode(query) if query else ''}'")
    return " ".join(words)


def _value(field: Field) -> Any:
    if field.type.startswith("list"):
        return []
    return {"boolean": False, "integer": 1, "number": 1.0}.get(field.type, field.name.upper())
