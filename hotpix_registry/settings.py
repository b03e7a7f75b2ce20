"""What can be set from outside: flags over HOTPIX_* over hotpix.toml over defaults."""

from __future__ import annotations

import math
import os
from pathlib import Path

from hotpix_registry import toml
from hotpix_registry.errors import UsageError

KEYS = (
    "database_url",
    "database_read_url",
    "database_connections",
    "database_statement_timeout",
    "database_pooler",
    "cache_dir",
    "server_url",
    "server_token",
)
POOLERS = ("none", "pgbouncer")


def data_dir(name: str) -> Path:
    """A folder of data that ships with the package: `config` or `migrations`."""
    package = Path(__file__).parent
    shipped = package / "_data" / name
    return shipped if shipped.is_dir() else package.parent / name


def setting(key: str) -> str | None:
    """A value from the environment (`HOTPIX_DATABASE_URL`) or from hotpix.toml (`database_url`)."""
    return os.environ.get(f"HOTPIX_{key.upper()}") or _from_file().get(key)


def database_url(given: str | None) -> str:
    """The registry's address: the flag, the environment, hotpix.toml, or the user's data directory."""
    if chosen := given or setting("database_url"):
        return chosen
    import platformdirs

    return str(platformdirs.user_data_path("hotpix-registry") / "registry.sqlite")


def database_read_url() -> str | None:
    """Where look-ups, lists and pages of that database are read: a replica of it."""
    return setting("database_read_url")


def database_connections() -> int:
    """How many connections a process has to PostgreSQL at the most.

    One is for look-ups, and what a run has claimed holds another as long as it lasts.
    """
    return int(_number("database_connections", 15, least=3, most=1000))


def database_statement_timeout_s() -> float | None:
    """How long a statement of the service may take; None: for ever."""
    return _number("database_statement_timeout", 30, least=0, most=86_400) or None


def database_pooler() -> bool:
    """Whether pgbouncer stands before PostgreSQL, which may hand sessions on with each transaction."""
    chosen = setting("database_pooler") or POOLERS[0]
    if chosen not in POOLERS:
        raise UsageError(
            f"'{chosen}' is no pooler of a database.",
            next_step=f"HOTPIX_DATABASE_POOLER is {' or '.join(POOLERS)}.",
        )
    return chosen == "pgbouncer"


def _number(key: str, usual: float, *, least: float, most: float) -> float:
    text = setting(key)
    try:
        number = usual if text is None else float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise UsageError(
            f"'{text}' does not fit {key}.", next_step=f"Write a number from {least:g} to {most:g}."
        )
    return number


def server_url(database: str | None) -> str | None:
    """The server that is asked instead of a database: unless a database is named as near to the user.

    A flag is nearer than the environment, and that than hotpix.toml; of one place the database is taken.
    """
    if database:
        return None
    if os.environ.get("HOTPIX_DATABASE_URL"):
        return None
    if named := os.environ.get("HOTPIX_SERVER_URL"):
        return named
    values = _from_file()
    return None if "database_url" in values else values.get("server_url")


def cache_dir() -> Path:
    """Where served masks are kept as files; may be emptied at any time."""
    if chosen := setting("cache_dir"):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("hotpix-registry")


def _from_file() -> dict[str, str]:
    path = Path(os.environ.get("HOTPIX_CONFIG") or "hotpix.toml")
    if not path.is_file():
        if "HOTPIX_CONFIG" in os.environ:
            raise UsageError(
                f"HOTPIX_CONFIG names {path}, which is no file.", next_step="Correct or unset it."
            )
        return {}
    try:
        values = toml.tables(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.", next_step="Change its permissions."
        ) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path} is no valid TOML: {error}.", next_step="Correct it.") from None
    if unknown := sorted(set(values) - set(KEYS)):
        raise UsageError(
            f"{path} has the unknown key '{unknown[0]}'.", next_step=f"Known are {', '.join(KEYS)}."
        )
    return {key: str(value) for key, value in values.items()}
