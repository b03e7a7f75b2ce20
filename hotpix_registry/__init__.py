"""A registry of hot-pixel masks for astronomical cameras."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would take a third of the time that Python takes to start

if TYPE_CHECKING:
    from hotpix_registry.client import Client
    from hotpix_registry.registry import Mask, Registry

__version__ = "0.1.0"
__all__ = ["Client", "Mask", "Registry", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from hotpix_registry.client import Client

        return Client
    if name in ("Mask", "Registry"):
        from hotpix_registry import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
