"""How commands open the registry: what they import for it, `--help` does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry


def open_registry(database: str | None, *, create: bool = False) -> Registry:
    """The registry at `--database`, or where settings say; close it, or use it in a `with`."""
    from hotpix_registry.registry import Registry

    return Registry(database, create=create)
