"""The facade on history: the state of the registry, and releases of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hotpix_registry.catalogue import changes, queries
from hotpix_registry.catalogue.engine import reading, reading_once
from hotpix_registry.catalogue.queries import Release
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.facade.opened import Opened
from hotpix_registry.registry.view import View, moment


class HistoryMethods(Opened):
    """History: the newest transaction, releases."""

    def state(self) -> tuple[str, int]:
        """The registry's name, and the number of its newest transaction: what any answer hangs on."""
        with self.at_once() as state:
            return state

    @contextmanager
    def at_once(self) -> Iterator[tuple[str, int]]:
        """What is asked within is answered from one state of the registry, which is told as by `state`."""
        with reading_once(self._source) as connection:
            view = View(connection, memory=self._memory)
            yield view.registry_id, view.tx

    def changes(self, after: int, *, at: str = "", most_bytes: int = changes.MOST_BYTES) -> bytes:
        """A page of what was written after a transaction, as a mirror takes it.

        Parameters
        ----------
        at
            a place within the transaction that follows; empty is its beginning
        most_bytes
            about how big it may be

        Raises
        ------
        UsageError
            `at` is no place.
        """
        with reading(self._engine) as connection:
            return changes.page(connection, after, at, most_bytes).as_bytes()

    # --- releases -------------------------------------------------------------------

    def releases(self) -> list[Release]:
        """Named states of the registry, oldest first."""
        with reading(self._source) as connection:
            return queries.releases(connection)

    def create_release(self, name: str, *, as_of: int | str | None = None, note: str = "") -> Release:
        """Freeze the state of now, or of an earlier moment, under a name; it can never be changed.

        Raises
        ------
        UsageError
            The name is taken, or no name.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name.isdecimal():
            raise UsageError(
                f"'{name}' is no name for a release.", next_step="Use letters, digits, '-', '_' and '.'."
            )
        with self._writing("release", note or None) as (connection, tx):
            known = queries.releases(connection)
            if any(release.name == name for release in known):
                raise UsageError(
                    f"There is a release {name} already.",
                    next_step="A release is never changed; choose another name.",
                )
            at = moment(connection, as_of, None)
            if at == 0:
                raise UsageError(
                    f"Nothing had been written at {as_of}.", next_step="`hotpix-registry log` lists what was."
                )
            queries.add_release(connection, name, tx if at is None else at, note, tx)
            return next(release for release in queries.releases(connection) if release.name == name)
