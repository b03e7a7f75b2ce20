"""Recipes by name: how people say which one they mean, and the file in which they write one."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotpix_registry import toml
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.question import parse_recipe

CURRENT, DEFAULT = "current", "default"
BUILT = tuple(rule for rule in Rule if rule not in (Rule.IMPORT, Rule.EDIT))
"""rules that make masks of darks"""
_HINT = (
    f"Write {CURRENT}, {DEFAULT}, a rule ({', '.join(BUILT)}), a rule with its number (limit=4,"
    " evidence+limit=auto, cutoff=1.5), or a file of `hotpix-registry recipe show`."
)
_LEAST, _MOST = 0.0, 1e9
_FRACTIONS = ("tolerance", "false_discovery_rate", "min_effect")


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """A recipe as somebody named it."""

    name: str
    recipe: Recipe | None
    """None: whatever certified masks were made by, or what a build takes by itself"""

    @property
    def is_current(self) -> bool:
        return self.name == CURRENT

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "numbers": None if self.recipe is None else self.recipe.as_dict()}


def named_recipe(text: str, *, files: bool = True) -> NamedRecipe:
    """The recipe that `current`, `default`, `RULE`, `RULE=NUMBER` or a TOML or JSON file means.

    Parameters
    ----------
    files
        whether a file may be meant; not where others ask

    Raises
    ------
    UsageError
        With what to write instead.
    """
    text = text.strip()
    if text in (CURRENT, DEFAULT):
        return NamedRecipe(text, None)
    if files and Path(text).suffix.lower() in (".toml", ".json"):
        return NamedRecipe(text, _read_file(Path(text)))
    rule, equals, number = text.partition("=")
    if rule not in BUILT:
        if rule in (Rule.IMPORT, Rule.EDIT):
            raise UsageError(f"Rule {rule} makes no masks of darks.", next_step=_HINT)
        near = difflib.get_close_matches(rule, (CURRENT, DEFAULT, *BUILT), 1)
        raise UsageError(
            f"'{text}' is no recipe.", next_step=f"Did you mean {near[0]}{equals}{number}?" if near else _HINT
        )
    if not equals:
        return NamedRecipe(text, Recipe(rule=Rule(rule)))
    return NamedRecipe(text, _with_number(Rule(rule), number))


def _with_number(rule: Rule, number: str) -> Recipe:
    if rule in (Rule.LIMIT, Rule.EVIDENCE_AND_LIMIT):
        recipe = parse_recipe(rule, number, None)
    elif rule is Rule.CUTOFF:
        recipe = parse_recipe(rule, None, _cutoff(number))
    else:
        raise UsageError(f"Rule {rule} takes no number.", next_step=f"Write {rule} alone.")
    assert recipe is not None
    return recipe


def _cutoff(number: str) -> float:
    try:
        cutoff = float(number)
    except ValueError:
        cutoff = -1.0
    if not _LEAST <= cutoff <= _MOST:
        raise UsageError(f"'{number}' is no cut-off.", next_step="Write e-/s such as 1.5.")
    return cutoff


def _read_file(path: Path) -> Recipe:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", next_step=_HINT) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text.", next_step=_HINT) from None
    try:
        values: Any = toml.tables(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = path.suffix[1:].upper()
        raise UsageError(f"{path} is no valid {kind}: {error}.", next_step="Correct it.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no numbers by name.", next_step=_HINT)
    return Recipe(**{key: _checked(path, key, value) for key, value in values.items()})


def _checked(path: Path, key: str, value: Any) -> Any:
    known = [field.name for field in dataclasses.fields(Recipe)]
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
        raise UsageError(f"{path} has the unknown key '{key}'.", next_step=hint)
    if key == "rule":
        if value not in BUILT:
            raise UsageError(f"{path}: '{value}' is no rule.", next_step=f"Rules are {', '.join(BUILT)}.")
        return Rule(value)
    if key == "limit_e_per_s" and value is None:
        return None
    wanted = _wanted(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_whole = key != "max_cosmic_rays" or isinstance(value, int)
    most = 1.0 if key in _FRACTIONS else _MOST
    positive = key == "limit_e_per_s" or key in _FRACTIONS[:2]
    if not (is_number and is_whole and _LEAST <= value <= most and (value > 0 or not positive)):
        raise UsageError(f"{path}: {key} is {value!r}.", next_step=f"Write {wanted}.")
    return int(value) if key == "max_cosmic_rays" else float(value)


def _wanted(key: str) -> str:
    if key in _FRACTIONS:
        return "a number between 0 and 1"
    return "a whole number" if key == "max_cosmic_rays" else f"a number from 0 to {_MOST:g}"


def as_toml(recipe: Recipe) -> str:
    """A recipe's numbers as a file that `named_recipe` reads."""
    lines = []
    for key, value in recipe.as_dict().items():
        lines.append(f"# {key} is found in the darks" if value is None else f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"
