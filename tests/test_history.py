"""Any history of acts, against an oracle that keeps a calendar of each transaction as a plain list."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries, schema
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.errors import HotpixError
from hotpix_registry.instants import iso
from hotpix_registry.registry.receipt import Receipt, read_receipt
from tests.oracle import (
    CELLS,
    NIGHTS,
    REACH_NIGHTS,
    SET_POINTS_C,
    Calendar,
    Mask,
    Oracle,
    Refused,
    State,
    cell_us,
    changes,
    night,
    runs,
)
from tests.plain_masks import SHAPE, add_camera, add_mask

EXAMPLES = int(os.environ.get("HOTPIX_HISTORIES", "6"))
"""how many histories are tried; set it high for a long run"""

# shrinking a failure takes minutes, which a search for failures may not have
PHASES = [Phase.explicit, Phase.generate] + ([] if "HOTPIX_NO_SHRINK" in os.environ else [Phase.shrink])
_GUARDED = (schema.transactions, schema.masks, schema.assignments, schema.events, schema.revocations)


class World:
    """One registry with a camera of its own; masks and transactions are counted from where it began."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        profile = CameraProfile(name=name, longitude_deg_east=0.0, reach_back_days=REACH_NIGHTS)
        self.camera: CameraRow = add_camera(registry, profile)
        self.base: dict[str, int] = defaultdict(int)
        rows = self.rows()
        self.base |= {table: rows[table][-1][0] for table in rows if rows[table]}

    def mask(self, number: int) -> int:
        return number + self.base["masks"]

    def number(self, mask_id: int | None) -> int | None:
        return None if mask_id is None else mask_id - self.base["masks"]

    def tx(self, number: int) -> int:
        return number + self.base["transactions"]

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Table → the rows written since the world began, without what is wide."""
        wide = ("blob", "numbers", "recipe", "counts", "warnings", "software", "report")
        with reading(self.registry._engine) as connection:
            return {
                table.name: [
                    tuple(row)
                    for row in connection.execute(
                        sa.select(*(c for c in table.c if c.name not in wide))
                        .where(table.c[0] > self.base[table.name])
                        .order_by(table.c[0])
                    )
                ]
                for table in _GUARDED
            }

    def do(self, act: Callable[[World], Any]) -> Any:
        """What an act returns, or the class of its refusal; a refused one must leave no trace."""
        before = self.rows()
        try:
            result = act(self)
        except HotpixError as error:
            assert self.rows() == before, error
            assert str(error).rstrip().endswith((".", "?")), error
            return type(error)
        self.only_closed(before, self.rows())
        return result

    @staticmethod
    def only_closed(
        before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]
    ) -> None:
        """Rows are added; of those that were there, nothing but an open end has changed."""
        newest = max((row[0] for row in after["transactions"]), default=0)
        for table, rows in before.items():
            for was, now in zip(rows, after[table], strict=False):
                assert was == now or (was[-1] is None and now == (*was[:-1], newest)), table
            assert len(after[table]) >= len(rows)

    def told(self, changes: Any) -> list[tuple[Any, ...]]:
        return [(c.valid_from, c.valid_to, self.number(c.before), self.number(c.after)) for c in changes]

    def held_at(self, tx: int) -> tuple[Calendar, ...]:
        """The calendar of each set point, read from the rows that held at a transaction."""
        calendars = []
        with reading(self.registry._engine) as connection:
            series = queries.series(connection, self.camera.camera_id)
            for set_point_c in SET_POINTS_C:
                ids = [s.series_id for s in series.values() if s.set_point_c == set_point_c]
                calendar: list[int | None] = [None] * (CELLS + 1)
                for row in queries.assignments(connection, ids, at=self.tx(tx)):
                    for cell in range(CELLS + 1):
                        if row.validity.contains(cell_us(cell)):
                            assert calendar[cell] is None, "an overlap"
                            calendar[cell] = self.number(row.mask_id)
                calendars.append(tuple(calendar))
        return tuple(calendars)


class Histories(RuleBasedStateMachine):
    """Acts on several registries at once and on the oracle; all must agree at every step."""

    registries: Sequence[Registry] = ()
    folder: Path
    numbers: Iterator[int] = count(1)

    def __init__(self) -> None:
        super().__init__()
        name = f"camera-{next(self.numbers)}"
        self.worlds = [World(registry, name) for registry in self.registries]
        self.camera = name
        self.oracle = Oracle()
        self.acts = 0
        self.receipts: list[tuple[Receipt, list[str]]] = []
        self.releases: dict[str, State] = {}
        self.bits: defaultdict[int, int] = defaultdict(int)

    # --- doing the same everywhere ------------------------------------------------------

    def everywhere(self, act: Callable[[World], Any]) -> Any:
        results = [world.do(act) for world in self.worlds]
        assert all(result == results[0] for result in results), results
        return results[0]

    def check(
        self, expected: Callable[[], State], act: Callable[[World], Any], *, number: int | None = None
    ) -> bool:
        """Do an act everywhere and hold it against the oracle; whether it was allowed.

        The act returns the changes that it tells, or None.
        """
        before = self.oracle.now
        try:
            after = expected()
        except Refused as refusal:
            assert self.everywhere(act) is refusal.kind
            return False
        result = self.everywhere(act)
        assert not isinstance(result, type), result
        if number is not None:
            told = changes(before, after, self.oracle.masks[number].series)
            assert result == told
            if after == before:
                return True
        self.acts += 1
        self.oracle.history[self.acts] = after
        return True

    def pick(self, index: int) -> int:
        return sorted(self.oracle.masks)[index % len(self.oracle.masks)]

    # --- acts ---------------------------------------------------------------------------

    @rule(
        first=st.integers(REACH_NIGHTS + 2, NIGHTS - 6),
        nights=st.sampled_from([1, 1, 1, 2, 3]),
        offsets=st.tuples(st.integers(0, 1), st.integers(0, 1)),
        series=st.sampled_from([0, 0, 0, 1]),
        gates_passed=st.sampled_from([True, True, True, True, False]),
    )
    def build(
        self, first: int, nights: int, offsets: tuple[int, int], series: int, gates_passed: bool
    ) -> None:
        number = len(self.oracle.masks) + 1
        campaign = (2 * first, 2 * (first + nights))
        darks = sorted((campaign[0] + offsets[0], campaign[1] - 2 + offsets[1]))
        self.oracle.masks[number] = Mask(
            series=series, campaign=campaign, darks=(darks[0], darks[1]), gates_passed=gates_passed
        )
        torn = self.oracle.is_torn(number)

        def act(world: World) -> None:
            mask_id = add_mask(
                world.registry,
                world.camera,
                (night(first), night(first + nights - 1)),
                sorted({cell_us(cell) + 3_600_000_000 for cell in darks}),
                set_point_c=SET_POINTS_C[series],
                gates_passed=gates_passed,
                certify=not torn,
                seed=number,
            )
            assert world.number(mask_id) == number

        self.check(lambda: self.oracle.build(number), act)

    @rule(first=st.integers(2, NIGHTS - 4), series=st.sampled_from([0, 0, 1]), supersede=st.booleans())
    def take_in(self, first: int, series: int, supersede: bool) -> None:
        """Import a mask that was made elsewhere."""
        number = len(self.oracle.masks) + 1
        pixels = np.array([(number >> bit) & 1 for bit in range(64)], np.uint8).reshape(SHAPE)
        path = self.folder / f"{self.camera}-{number}-{self.acts}.npy"
        np.save(path, pixels)
        campaign = (2 * first, 2 * first + 2)
        self.oracle.masks[number] = Mask(
            series=series, campaign=campaign, darks=None, compares=False, reach=0
        )

        def act(world: World) -> list[tuple[Any, ...]]:
            result = world.registry.import_mask(
                path,
                self.camera,
                valid_from=night(first),
                temperature_c=SET_POINTS_C[series],
                supersede=supersede,
            )
            assert world.number(result.mask_id) == number
            return world.told(result.changes)

        def expected() -> State:
            return self.oracle.certify(number, None, None, supersede=supersede, force=False)

        if not self.check(expected, act, number=number):
            del self.oracle.masks[number]

    @precondition(lambda self: self.oracle.masks)
    @rule(index=st.integers(0, 99))
    def edit(self, index: int) -> None:
        source, number = self.pick(index), len(self.oracle.masks) + 1
        pixel = (self.bits[source] % SHAPE[1], self.bits[source] // SHAPE[1] % SHAPE[0])
        self.bits[source] += 1
        known = self.oracle.masks[source]
        self.oracle.masks[number] = replace(known, darks=None, source=source)
        after = self.oracle.edit(number)
        told = changes(self.oracle.now, after, known.series)

        def act(world: World) -> None:
            result = world.registry.edit_mask(world.mask(source), mask=[pixel], reason="seen in flats")
            assert world.number(result.mask_id) == number
            assert world.told(result.changes) == told
            assert (result.status == "certified") == bool(told) == (not result.warnings)

        self.check(lambda: after, act)

    @precondition(lambda self: self.oracle.masks)
    @rule(
        index=st.integers(0, 99),
        start=st.none() | st.integers(0, CELLS - 2),
        end=st.none() | st.integers(1, CELLS - 1),
        supersede=st.booleans(),
        force=st.booleans(),
    )
    def certify(self, index: int, start: int | None, end: int | None, supersede: bool, force: bool) -> None:
        number = self.pick(index)
        self.check(
            lambda: self.oracle.certify(number, start, end, supersede=supersede, force=force),
            lambda world: world.told(
                world.registry.certify(
                    world.mask(number),
                    valid_from=None if start is None else iso(cell_us(start)),
                    valid_to=None if end is None else iso(cell_us(end)),
                    supersede=supersede,
                    force=force,
                    reason="as it is",
                )
            ),
            number=number,
        )

    @precondition(lambda self: self.oracle.masks)
    @rule(index=st.integers(0, 99), undo=st.sampled_from([False, False, True]))
    def revoke(self, index: int, undo: bool) -> None:
        number = self.pick(index)

        def act(world: World) -> None:
            if undo:
                world.registry.lift_revocation(world.mask(number), reason="it was not")
            else:
                world.registry.revoke(world.mask(number), reason="light leak")

        self.check(lambda: self.oracle.revoke(number, undo=undo), act)

    @precondition(lambda self: self.oracle.masks)
    @rule(index=st.integers(0, 99), restore=st.booleans())
    def decertify(self, index: int, restore: bool) -> None:
        number = self.pick(index)
        self.check(
            lambda: self.oracle.decertify(number, restore=restore),
            lambda world: world.told(
                world.registry.decertify(
                    world.mask(number), restore_previous=restore, reason="wrong gain"
                ).changes
            ),
            number=number,
        )

    @rule(
        cell=st.integers(3, CELLS - 8),
        near=st.none() | st.integers(0, 99),
        offset=st.integers(-1, 4),
        trim=st.booleans(),
    )
    def add_event(self, cell: int, near: int | None, offset: int, trim: bool) -> None:
        if near is not None and self.oracle.masks:
            cell = self.oracle.masks[self.pick(near)].campaign[0] + offset

        def act(world: World) -> None:
            world.registry.add_event(self.camera, iso(cell_us(cell)) or "", "warmup", trim=trim)

        self.check(lambda: self.oracle.add_event(cell, trim=trim), act)

    @precondition(lambda self: self.oracle.now.events)
    @rule(index=st.integers(0, 99))
    def remove_event(self, index: int) -> None:
        cell = self.oracle.now.events[index % len(self.oracle.now.events)]
        left = tuple(event for event in self.oracle.now.events if event != cell)

        def act(world: World) -> None:
            (event,) = [e for e in world.registry.events(self.camera) if e.at_us == cell_us(cell)]
            world.registry.remove_event(self.camera, event.id, reason="mistyped")

        self.check(lambda: replace(self.oracle.now, events=left), act)

    @rule(back=st.integers(0, 3))
    def release(self, back: int) -> None:
        name = f"{self.camera}-{len(self.releases)}"
        frozen = self.acts - back
        if frozen < 1:
            return

        def act(world: World) -> None:
            made = world.registry.create_release(name, as_of=world.tx(frozen) if back else None)
            assert made.at_tx == world.tx(frozen if back else self.acts + 1)

        self.check(lambda: self.oracle.now, act)
        self.releases[name] = self.oracle.at(frozen)

    # --- questions ----------------------------------------------------------------------

    @rule(
        cell=st.integers(0, CELLS),
        whole_night=st.booleans(),
        last_moment=st.booleans(),
        series=st.sampled_from([(0,), (0,), (1,), (0, 1)]),
        fallback=st.sampled_from([None, None, "previous", "nearest"]),
        back=st.sampled_from([0, 0, 1, 2, 5, 9]),
    )
    def ask(
        self,
        cell: int,
        whole_night: bool,
        last_moment: bool,
        series: tuple[int, ...],
        fallback: Any,
        back: int,
    ) -> None:
        tx = self.acts - back if 0 < back < self.acts else None
        state = self.oracle.at(self.acts if tx is None else tx)
        cells = [cell]
        if whole_night:
            cells = [2 * (cell // 2), min(2 * (cell // 2) + 1, CELLS)]
            date = night(cell // 2)
            fallback = None
        elif last_moment and fallback is None and cell < CELLS:
            date = iso(cell_us(cell + 1) - 1) or ""
        else:
            date = iso(cell_us(cell)) or ""
        self.hold(self.oracle.answer(state, cells, series, fallback), date, series, fallback, tx)

    def hold(
        self,
        expected: int | type[HotpixError],
        date: str,
        series: tuple[int, ...],
        fallback: Any,
        tx: int | None,
    ) -> None:
        """Hold the registries' answers against the oracle's and against each other, and keep the receipts."""
        receipts = []
        for world in self.worlds:
            try:
                mask = world.registry.mask(
                    self.camera,
                    date,
                    temperature_c=SET_POINTS_C[series[0]] if len(series) == 1 else None,
                    fallback=fallback,
                    as_of=None if tx is None else world.tx(tx),
                    explain=tx is not None,
                )
            except HotpixError as error:
                assert type(error) is expected, error
                continue
            assert world.number(mask.answer.mask_id) == expected, mask
            receipts.append(mask.answer.receipt)
        if receipts:
            read = [self.relative(world, r) for world, r in zip(self.worlds, receipts, strict=True)]
            assert all(receipt == read[0] for receipt in read)
            self.receipts.append((read[0], receipts))

    @staticmethod
    def relative(world: World, text: str) -> Receipt:
        receipt = read_receipt(text)
        return receipt._replace(
            registry_id="",
            tx=receipt.tx - world.base["transactions"],
            mask_id=receipt.mask_id - world.base["masks"],
        )

    # --- what always holds --------------------------------------------------------------

    @invariant()
    def what_is_held_now_is_what_the_oracle_holds(self) -> None:
        for world in self.worlds:
            held = world.held_at(self.acts)
            assert held == self.oracle.now.calendars
            for run in (run for calendar in held for run in runs(calendar)):
                end = CELLS + 1 if run.end is None else run.end
                assert not [event for event in self.oracle.now.events if run.start < event < end]

    def teardown(self) -> None:
        """At the end, every earlier state, receipt and release still says what it said."""
        for tx in range(1, self.acts + 1):
            state = self.oracle.at(tx)
            for world in self.worlds:
                assert world.held_at(tx) == state.calendars, tx
            for number in range(2):  # cells that lie apart, and others at each transaction
                cell, series = (17 * tx + 29 * number) % (CELLS + 1), ((0,), (0, 1))[number]
                expected = self.oracle.answer(state, [cell], series, None)
                self.hold(expected, iso(cell_us(cell)) or "", series, None, tx)
        for receipt, texts in self.receipts:
            for world, text in zip(self.worlds, texts, strict=True):
                answer = world.registry.replay(text).answer
                assert world.number(answer.mask_id) == receipt.mask_id
                assert answer.receipt == text
        for name, state in self.releases.items():
            for world in self.worlds:
                self.check_release(world, name, state)

    def check_release(self, world: World, name: str, state: State) -> None:
        for cell in range(0, CELLS + 1, 16):
            expected = self.oracle.answer(state, [cell], (0,), None)
            try:
                mask = world.registry.mask(
                    self.camera, iso(cell_us(cell)) or "", temperature_c=SET_POINTS_C[0], release=name
                )
            except HotpixError as error:
                assert type(error) is expected, error
            else:
                assert world.number(mask.answer.mask_id) == expected


def test_any_history_of_acts_gives_the_oracles_answers_on_both_databases(
    tmp_path: Path, postgresql_url: str
) -> None:
    with Registry(str(tmp_path / "registry.sqlite")) as one, Registry(postgresql_url) as other:
        Histories.registries, Histories.folder = (one, other), tmp_path
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=25,
                deadline=None,
                database=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
