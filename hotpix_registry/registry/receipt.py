"""Receipts: the text in every answer that replays it."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from hotpix_registry.errors import UsageError
from hotpix_registry.instants import parse_date, to_datetime
from hotpix_registry.registry.question import Question, configuration_value

_FORM = re.compile(r"hp:([0-9a-f]{8})/(\d{1,18})/(\d{1,18})/([0-9a-f]{12})\?(.*)")
_BY_NUMBER = re.compile(r"hp:[0-9a-f]{8}/\d{1,18}/(\d{1,18})/[0-9a-f]{12}")
"""what `apply` writes where a mask was named by its number"""
_FALLBACKS = {"p": "previous", "n": "nearest", "w": "warmer"}
_KEPT = "|~(),.:+-"
"""what may stand in a FITS card and in a query as it is"""

_PARTS = {
    "b": "binning",
    "m": "readout_mode",
    "g": "gain_setting",
    "o": "offset_setting",
    "s": "sub_frame",
    "w": "row_order",
    "y": "bayer_pattern",
}


class Receipt(NamedTuple):
    """What a receipt says: where, when, which mask, and the question."""

    registry_id: str
    tx: int
    mask_id: int
    sha256_start: str
    question: Question


def write_receipt(
    question: Question, camera: str, registry_id: str, tx: int, mask_id: int, sha256: str
) -> str:
    """The text that replays an answer: registry, transaction, mask, digest, and the canonical question.

    It fits one FITS card for cameras with names of up to 12 characters, as long as little is asked.
    """
    moment = parse_date(question.date)
    when = moment.isoformat().replace("-", "") if isinstance(moment, date) else f"{moment}us"
    parts: dict[str, Any] = {"c": camera, "d": when}
    if question.temperature_c is not None:
        parts["t"] = _written(question.temperature_c)
    if question.exposure_s is not None:
        parts["e"] = _written(question.exposure_s)
    for key, name in _PARTS.items():
        if name in question.configuration:
            parts[key] = _written(question.configuration[name])
        if question.preferred.get(name) is not None:
            parts[key.upper()] = _written(question.preferred[name])
    if silent := [key for key, name in _PARTS.items() if question.preferred.get(name, "") is None]:
        parts["N"] = "".join(silent)
    if question.allow_binning:
        parts["x"] = "bin"
    if question.preset != "default":
        parts["p"] = question.preset
    if question.fallback is not None:
        parts["f"] = question.fallback[0]
    if question.max_age_days is not None:
        parts["a"] = str(question.max_age_days)
    if question.allow_revoked:
        parts["r"] = "1"
    query = "&".join(f"{key}={quote(value, safe=_KEPT)}" for key, value in parts.items())
    return f"hp:{registry_id}/{tx}/{mask_id}/{sha256[:12]}?{query}"


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    # the last digit may decide whether a temperature lies within the tolerance
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def read_receipt(text: str) -> Receipt:
    """Read a receipt.

    Raises
    ------
    UsageError
        It is none, or has been changed.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        if named := _BY_NUMBER.fullmatch(text.strip()):
            raise UsageError(
                f"The receipt '{text}' asks for no date: mask {named[1]} was named by its number.",
                next_step=f"`hotpix-registry apply {named[1]} FILE` writes it into frames again.",
            )
        raise UsageError(
            f"'{text}' is no receipt.", next_step="A receipt begins with hp: and stands in every answer."
        )
    registry_id, tx, mask_id, sha256_start, query = match.groups()
    values = dict(pair.partition("=")[::2] for pair in query.split("&"))
    try:
        question = _question({key: unquote(value) for key, value in values.items()})
    except (KeyError, ValueError, OverflowError) as error:
        raise UsageError(
            f"The receipt '{text}' is damaged: {error}.", next_step="Copy it whole from the answer."
        ) from None
    return Receipt(registry_id, int(tx), int(mask_id), sha256_start, question)


def _question(values: dict[str, str]) -> Question:
    when = values.pop("d")
    if when.endswith("us"):
        when = to_datetime(int(when.removesuffix("us"))).isoformat().replace("+00:00", "Z")
    else:
        when = f"{when[:4]}-{when[4:6]}-{when[6:]}"
    parse_date(when)
    temperature, exposure, age = (values.pop(key, None) for key in "tea")
    camera, preset, letter = values.pop("c"), values.pop("p", "default"), values.pop("f", None)
    silent = {_PARTS[key]: None for key in values.pop("N", "")}
    allow_revoked = {"": False, "1": True}[values.pop("r", "")]
    allow_binning = {"": False, "bin": True}[values.pop("x", "")]
    return Question(
        camera=camera,
        date=when,
        temperature_c=None if temperature is None else float(temperature),
        exposure_s=None if exposure is None else float(exposure),
        preset=preset,
        fallback=_fallback(letter),
        max_age_days=None if age is None else int(age),
        allow_revoked=allow_revoked,
        allow_binning=allow_binning,
        configuration=_parts({key: value for key, value in values.items() if key.islower()}),
        preferred=_parts({key.lower(): value for key, value in values.items() if key.isupper()}) | silent,
    )


def _parts(values: dict[str, str]) -> dict[str, Any]:
    return {_PARTS[key]: configuration_value(_PARTS[key], value) for key, value in values.items()}


def _fallback(letter: str | None) -> Any:
    return None if letter is None else _FALLBACKS[letter]
