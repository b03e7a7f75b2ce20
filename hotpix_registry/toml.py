"""What people write in TOML files, hostile texts included; every complaint is a ValueError with a clause."""

from __future__ import annotations

import re
import tomllib
from typing import Any

_MOST_CHARACTERS, _MOST_DOTS = 1 << 18, 100
"""the largest profile that ships has 8,000 characters, and none more than 9 dots in a line"""
_TOO_LARGE = "a whole number in it has more than 64 bits"


def tables(text: str) -> dict[str, Any]:
    """The tables of a TOML text, with whole numbers of 64 bits as TOML has them, and texts without zeros.

    Raises
    ------
    ValueError
        With a clause: what is wrong with it.
    """
    # tomllib takes time with the square of the parts of a dotted key
    if len(text) > _MOST_CHARACTERS or any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ValueError(
            f"it has more than {_MOST_CHARACTERS} characters, or {_MOST_DOTS} dots in one of its lines"
        )
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except ValueError:  # of a number of thousands of digits
        raise ValueError(_TOO_LARGE) from None
    waiting: list[Any] = [read]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += (*value, *value.values())
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(_TOO_LARGE)
        elif isinstance(value, str) and "\0" in value:  # which a database cannot keep
            raise ValueError("a text in it holds a zero character")
    return read


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression that ignores case.

    Raises
    ------
    ValueError
        With a clause: why it is none.
    """
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError) as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
