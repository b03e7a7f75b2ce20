"""An opened registry: the engine, the transactions, who acts; what all parts of the facade share."""

from __future__ import annotations

import copy
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy.engine import Connection

from hotpix_registry import __version__, settings
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.prompt import Prompt
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.errors import HotpixError
from hotpix_registry.registry.frames import camera_named
from hotpix_registry.registry.view import Memory, Remembered, Unremembered, View

T = TypeVar("T")


class Opened:
    """A registry that is open."""

    def __init__(self, database: str | None = None, *, create: bool = True) -> None:
        url = databases.parse_url(settings.database_url(database))
        self._engine = databases.open_database(url, create=create)
        self._memory, self._prompt = Memory(self.lag), Prompt(self._engine)
        self._on_behalf_of: Act | None = None

    def acting_for(self, actor: str, host: str, software: str) -> Self:
        """The same open registry, whose acts are recorded as those of somebody who asked from elsewhere."""
        other = copy.copy(self)
        other._on_behalf_of = Act(actor=actor, host=host, software=software)
        return other

    def _act(self) -> Act:
        return self._on_behalf_of or act()

    def close(self) -> None:
        self._prompt.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return databases.describe(self._engine)

    @property
    def data_folder(self) -> Path:
        """Where files of this registry are put: beside its own, or in the user's data directory."""
        if self._engine.dialect.name == "sqlite":
            return Path(str(self._engine.url.database)).parent
        import platformdirs

        return platformdirs.user_data_path("hotpix-registry")

    def lag(self) -> str | None:
        """That this is a mirror and older than it may be; None: it is not, or no mirror."""
        if not self._is_mirror:
            return None
        from hotpix_registry.registry import freshness

        return freshness.lag(Path(str(self._engine.url.database)))

    @cached_property
    def _is_mirror(self) -> bool:
        if self._engine.dialect.name != "sqlite":
            return False
        with reading(self._engine) as connection:
            return databases.copy_mark(connection) == databases.MIRROR

    def _refuse_mirror(self) -> None:
        """Say before long work that nothing may be written."""
        with reading(self._engine) as connection:
            databases.refuse_mirror(connection)

    @contextmanager
    def _writing(self, action: str, reason: str | None = None) -> Iterator[tuple[Connection, int]]:
        with writing(self._engine) as connection:
            yield (
                connection,
                queries.open_transaction(connection, self._act(), action, now_us=now_us(), reason=reason),
            )

    def _look_up(self, ask: Callable[[View], T]) -> T:
        """What is asked of the state of now: out of memory if that will do, else within a transaction."""
        with suppress(Unremembered, HotpixError, *self._prompt.failures):  # the view below tells errors
            return ask(Remembered(self._prompt, self._memory))
        with reading(self._engine) as connection:
            return ask(View(connection, None, self._memory))

    def _camera(self, name: str) -> CameraRow:
        with reading(self._engine) as connection:
            return named_camera(connection, name)


def act() -> Act:
    try:
        actor = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        actor = f"uid {os.getuid()}"
    return Act(actor=actor, host=socket.gethostname(), software=f"hotpix-registry {__version__}")


def now_us() -> int:
    return time.time_ns() // 1000


def named_camera(connection: Connection, name: str) -> CameraRow:
    return camera_named(queries.cameras(connection), name)
