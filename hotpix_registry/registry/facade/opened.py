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
from typing import TYPE_CHECKING, Self, TypeVar

from sqlalchemy.engine import Connection, Engine

from hotpix_registry import __version__, settings
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import failures, opening, queries
from hotpix_registry.catalogue.engine import Source, reading, writing
from hotpix_registry.catalogue.prompt import Prompt
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.catalogue.replicas import Replicated, retried
from hotpix_registry.errors import HotpixError
from hotpix_registry.registry.frames import camera_named
from hotpix_registry.registry.view import Memory, Remembered, Unremembered, View

if TYPE_CHECKING:
    from hotpix_registry.registry.freshness import Age, Freshness

T = TypeVar("T")


class Opened:
    """A registry that is open."""

    def __init__(
        self,
        database: str | None = None,
        *,
        create: bool = True,
        read_database: str | None = None,
        statement_s: float | None = None,
    ) -> None:
        url = databases.parse_url(settings.database_url(database))
        self._engine = opening.open_database(url, create=create, statement_s=statement_s)
        self._replicated: Replicated | None = None
        # a replica that settings name is one of the database that settings name
        named = read_database or (settings.database_read_url() if database is None else None)
        if named is not None:
            try:
                self._replicated = opening.open_replica(
                    self._engine, databases.parse_url(named), statement_s=statement_s
                )
            except BaseException:
                self._engine.dispose()
                raise
        self._memory, self._prompt = Memory(self.lag), self._prompt_of(self._engine)
        both = self._replicated
        self._replica_prompt = None if both is None else self._prompt_of(both.replica)
        self._on_behalf_of: Act | None = None
        self._own_tokens: Engine | None = None

    @staticmethod
    def _prompt_of(engine: Engine) -> Prompt:
        if engine.dialect.name == "sqlite":
            return Prompt(engine)
        from hotpix_registry.catalogue.postgresql import prompt_connections

        return Prompt(engine, most=prompt_connections())

    @property
    def _source(self) -> Source:
        """Where look-ups are read: from a replica, where there is one that knows enough."""
        primary = self._engine
        return self._replicated or primary

    def acting_for(self, actor: str, host: str, software: str) -> Self:
        """The same open registry, whose acts are recorded as those of somebody who asked from elsewhere."""
        other = copy.copy(self)
        other._on_behalf_of = Act(actor=actor, host=host, software=software)
        return other

    def _act(self) -> Act:
        return self._on_behalf_of or act()

    def close(self) -> None:
        self._prompt.close()
        if self._own_tokens is not None:
            self._own_tokens.dispose()
        if self._replicated is not None and self._replica_prompt is not None:
            self._replica_prompt.close()
            self._replicated.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return failures.describe(self._engine)

    @property
    def data_folder(self) -> Path:
        """Where files of this registry are put: beside its own, or in the user's data directory."""
        if self._engine.dialect.name == "sqlite":
            return Path(str(self._engine.url.database)).parent
        import platformdirs

        return platformdirs.user_data_path("hotpix-registry")

    def lag(self) -> str | None:
        """That this is a mirror and older than it may be; None: it is not, or no mirror."""
        age = self._age()
        return None if age is None else age.lag

    def freshness(self) -> Freshness | None:
        """When and of what this mirror was last brought up to date; None: it is not known, or no mirror."""
        age = self._age()
        return None if age is None else age.known

    def _age(self) -> Age | None:
        if not self._is_mirror:
            return None
        from hotpix_registry.registry import freshness

        return freshness.age(Path(str(self._engine.url.database)))

    @contextmanager
    def held_age(self) -> Iterator[None]:
        """Within, a mirror's age is looked at once, so that all that is said of it agrees."""
        if not self._is_mirror:
            yield
            return
        from hotpix_registry.registry import freshness

        with freshness.held_age(Path(str(self._engine.url.database))):
            yield

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
    def _writing(
        self, action: str, reason: str | None = None, *, to: Engine | None = None
    ) -> Iterator[tuple[Connection, int]]:
        with writing(to or self._engine) as connection:
            yield (
                connection,
                queries.open_transaction(connection, self._act(), action, now_us=now_us(), reason=reason),
            )

    def _asked(self, ask: Callable[[Connection], T]) -> T:
        """What is asked of one state; of the primary's where a replica does not know it."""

        def look() -> T:
            with reading(self._source) as connection:
                return ask(connection)

        return retried(self._source, look)

    def _look_up(self, ask: Callable[[View], T]) -> T:
        """What is asked of the state of now: out of memory if that will do, else within a transaction."""
        if (prompt := self._prompt_to_ask()) is not None:
            with suppress(Unremembered, HotpixError, *prompt.failures):  # the view below tells errors
                return ask(Remembered(prompt, self._memory))
        return self._asked(lambda connection: ask(View(connection, None, self._memory)))

    def _prompt_to_ask(self) -> Prompt | None:
        """What answers out of memory; None where that is too old, or a replica has to be looked at first."""
        if (both := self._replicated) is None:
            return self._prompt
        if self._memory.state[0] < both.least_tx:
            return None
        if both.is_proven:
            return self._replica_prompt
        return None if both.is_usable else self._prompt

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
