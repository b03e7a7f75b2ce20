"""How commands open the registry: what they import for it, `--help` does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotpix_registry import settings
from hotpix_registry.cli.garbage import expect_work
from hotpix_registry.cli.output import say

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry


def open_registry(
    database: str | None,
    *,
    create: bool = False,
    itself: bool = False,
    answers: bool = False,
    read_database: str | None = None,
) -> Registry:
    """The registry at `--database`, or where settings say, on a server too; use it in a `with`.

    A mirror that is too old is warned of.

    Parameters
    ----------
    itself
        only the database will do
    answers
        it is asked for answers, whose own warnings tell of that
    read_database
        a replica of it; None: where settings say
    """
    server = None if itself else settings.server_url(database)
    if server is not None:
        from hotpix_registry.remote import RemoteRegistry

        expect_work()
        return RemoteRegistry(server)
    from hotpix_registry.registry import Registry

    expect_work()
    registry = Registry(database, create=create, read_database=read_database)
    if not answers and (lag := registry.lag()) is not None:
        say(f"Warning: {lag}")
    return registry
