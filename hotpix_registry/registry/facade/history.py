"""The facade on history: who did what, releases, and what the registry answered earlier."""

from __future__ import annotations

import re
from typing import Any

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import Release
from hotpix_registry.domain import iso
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.facade.opened import Opened
from hotpix_registry.registry.masks import find_mask
from hotpix_registry.registry.view import View, moment


class HistoryMethods(Opened):
    """History: the log, the dates that masks ever held, releases."""

    def state(self) -> tuple[str, int]:
        """The registry's name, and the number of its newest transaction: what any answer hangs on."""
        with reading(self._engine) as connection:
            view = View(connection, memory=self._memory)
            return view.registry_id, view.tx

    def log(self, *, newest: int | None = 50) -> list[dict[str, Any]]:
        """What was written, oldest first: who, when, where, with what, why, and what it did to masks."""
        with reading(self._engine) as connection:
            rows = queries.transactions(connection, newest=newest)
            deeds = queries.touched(connection, rows[0].tx) if rows else {}
        return [row._asdict() | {"at": iso(row.at_us), "did": deeds.get(row.tx, [])} for row in rows]

    def history(self, *, camera: str | None = None, mask_id: int | None = None) -> list[dict[str, Any]]:
        """Every interval that masks of a camera, or one mask, ever held, and every revocation.

        Each has who wrote it, when and why, and who ended it.
        """
        with reading(self._engine) as connection:
            series = queries.series(connection)
            if mask_id is not None:
                series_ids = [find_mask(connection, mask_id).series_id]
            elif camera is not None:
                series_ids = list(queries.series(connection, View(connection).camera(camera).camera_id))
            else:
                series_ids = list(series)
            rows = queries.assignment_history(connection, series_ids)
            if mask_id is not None:
                rows = [row for row in rows if row.mask_id == mask_id]
            numbers = {tx for row in rows for tx in (row.opened_tx, row.closed_tx) if tx is not None}
            acts = {act.tx: act for act in queries.transactions(connection, numbers=sorted(numbers))}
            revoked = queries.revocations(connection, sorted({row.mask_id for row in rows}))
        return [
            {
                "mask_id": row.mask_id,
                "series": str(series[row.series_id]),
                "valid_from": iso(row.validity.start_us),
                "valid_to": iso(row.validity.end_us),
                "opened_tx": row.opened_tx,
                "opened": _told(acts[row.opened_tx]),
                "closed_tx": row.closed_tx,
                "closed": None if row.closed_tx is None else _told(acts[row.closed_tx]),
                "revoked": row.mask_id in revoked,
            }
            for row in rows
        ]

    # --- releases -------------------------------------------------------------------

    def releases(self) -> list[Release]:
        """Named states of the registry, oldest first."""
        with reading(self._engine) as connection:
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


def _told(act: queries.Transaction) -> dict[str, Any]:
    return {
        "at": iso(act.at_us),
        "actor": act.actor,
        "host": act.host,
        "software": act.software,
        "action": act.action,
        "reason": act.reason,
    }
