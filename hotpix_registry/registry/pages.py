"""Long lists in pages, each of which begins after the last record of the one before it.

A cursor is the key of that record, so that it stays right while others are written.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from hotpix_registry.errors import UsageError

T = TypeVar("T")
Key = tuple[int | str, ...]
Record = dict[str, Any]


class Page(NamedTuple):
    """Some records of a list, and the cursor of those that follow; None at its end."""

    items: list[Record]
    next: str | None = None


def write_cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).rstrip(b"=").decode()


def read_cursor(text: str | None, *kinds: type[int] | type[str]) -> Any:
    """The key of a cursor, of parts of these kinds; None where there is none.

    Raises
    ------
    UsageError
    """
    if text is None:
        return None
    try:
        key = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        fits = isinstance(key, list) and [type(part) for part in key] == list(kinds)
        if not fits or any(not _is_storable(part) for part in key):
            raise ValueError(f"{key} is no key")
    except (ValueError, binascii.Error, RecursionError):
        raise UsageError(
            f"'{text[:60]}' is no cursor of this list.", next_step="Take the `next` of an answer, or none."
        ) from None
    return tuple(key)


def _is_storable(part: int | str) -> bool:
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return "\x00" not in part and not any("\ud800" <= char <= "\udfff" for char in part)


def page(found: list[T], limit: int | None, *, key: Callable[[T], Key]) -> tuple[list[T], str | None]:
    """The first `limit` of what was found, which has one more where others follow, and the cursor."""
    if limit is None or len(found) <= limit:
        return found, None
    kept = found[:limit]
    return kept, write_cursor(key(kept[-1]))


def page_of(
    everything: Iterable[T],
    limit: int | None,
    cursor: str | None,
    *,
    key: Callable[[T], Key],
    kinds: tuple[type[int] | type[str], ...],
) -> tuple[list[T], str | None]:
    """A page of a list that is short enough to be read as a whole."""
    after = read_cursor(cursor, *kinds)
    ordered = sorted(everything, key=key)
    return page([one for one in ordered if after is None or key(one) > after], limit, key=key)


def one_more(limit: int | None) -> int | None:
    """How many to read so that it is seen whether others follow."""
    return None if limit is None else limit + 1
