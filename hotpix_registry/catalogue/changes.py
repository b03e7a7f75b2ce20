"""What a registry's transactions wrote, as records that a copy of it can write again, in their order.

Rows are only inserted and closed, each by a transaction whose number they bear. So a transaction is the
row that tells of it, the rows that it closed, and the rows that it inserted; and who has all up to one
lacks exactly those after it. Records come in pages of bounded size, so a transaction may need several; bytes
are cut into pieces, so that no mask is too big for a page. Ids are given by one writer at a time, so they
grow with the transactions: what is new in a table is found without reading what is old.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import copying
from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries import last_tx
from hotpix_registry.catalogue.queries.common import chunks
from hotpix_registry.domain import digest
from hotpix_registry.errors import IntegrityError, UsageError

Record = dict[str, Any]
"""A row (`row`), ids that are closed (`closed`), or bytes of the row that follows (`piece`) of a `table`"""

MOST_BYTES = 1 << 20
"""of a page; one record is sent whatever it takes"""
_PIECE = 36 << 10
_TRANSACTIONS = 1000
"""at most, of one page"""
_ROWS = 200

_TABLES = [table for table in copying.tables() if table not in (t.registries, t.transactions, t.mask_inputs)]
"""whose rows follow that of their transaction; the inputs of a mask go along with it"""
_CLOSING = [table for table in _TABLES if table in t.CLOSING]
_BY_NAME = {table.name: table for table in (t.transactions, *_TABLES)}


class Place(NamedTuple):
    """How far within a transaction."""

    stage: int = 0
    """0: its own row; then each table of which rows are closed, and each into which they are inserted"""
    key: int = 0
    """the last id; it is done with, unless pieces of the next row were sent"""
    pieces: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, self)) if any(self) else ""

    @classmethod
    def read(cls, text: str) -> Self:
        """The place that a text names; an empty one is the beginning.

        Raises
        ------
        UsageError
        """
        parts = text.split(".") if text else ["0", "0", "0"]
        if len(parts) != 3 or not all(p.isascii() and p.isdecimal() and len(p) < 19 for p in parts):
            raise UsageError(
                f"'{text}' is no place within a transaction.", next_step="Take `next` of the page before."
            )
        return cls(*map(int, parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of what was written after a transaction: whole transactions, or a part of one."""

    schema: str
    """the revision whose tables the records are of"""
    registries: list[list[Any]]
    """names of the registry, as rows of its table, up to the transaction that the page ends with"""
    after: int
    at: str
    before: str | None
    """digest of the row of transaction `after`; null where there is none"""
    newest: int
    """the newest transaction there is"""
    until: int | None
    """the last transaction that is complete with this page; null: the first is not"""
    next: str
    """`at` of the page that follows, where the transaction is not complete"""
    counts: dict[str, int] | None
    """how many rows each table has, when nothing is left"""
    records: list[Record]

    def as_bytes(self) -> bytes:
        """JSON, with the digest of all of it."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(told | {"sha256": digest(told)}, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The page that `as_bytes` wrote.

        Raises
        ------
        ValueError
            It is none, or a byte of it has changed.
        """
        try:
            told = json.loads(content)
            if not isinstance(told, dict) or told.pop("sha256", None) != digest(told):
                raise ValueError("it does not have its digest")
            page = cls(**told)
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if not all(isinstance(getattr(page, name), kind) for name, kind in _KINDS.items()):
            raise ValueError("it holds other things than a page does")
        return page


_KINDS = {
    "schema": str,
    "registries": list,
    "after": int,
    "at": str,
    "before": str | None,
    "newest": int,
    "until": int | None,
    "next": str,
    "counts": dict | None,
    "records": list,
}


def transaction_digest(connection: Connection, tx: int) -> str | None:
    """The digest of who did what and when in a transaction; None where there is none of that number."""
    row = connection.execute(sa.select(t.transactions).where(t.transactions.c.tx == tx)).first()
    return None if row is None else digest(list(row))


def names(connection: Connection, until: int) -> list[list[Any]]:
    """The names under which a registry went up to a transaction, as rows."""
    r = t.registries.c
    statement = sa.select(t.registries).where(r.from_tx <= until).order_by(r.from_tx, r.created_us)
    return [list(row) for row in connection.execute(statement)]


def counts(connection: Connection) -> dict[str, int]:
    """How many rows transactions have written into each table."""
    found = copying.counts(connection)
    return {name: number for name, number in found.items() if name != t.registries.name}


# --- out of a registry ------------------------------------------------------------------


def page(connection: Connection, after: int, at: str = "", most_bytes: int = MOST_BYTES) -> Page:
    """What was written after a transaction, beginning at a place within the first.

    Raises
    ------
    UsageError
        `at` is no place.
    """
    records: list[Record] = []
    whole, until, size, place, ends_within = 0, None, 0, Place.read(at), False
    for tx, then, record in _after(connection, after, place):
        if record is None:  # all of a transaction
            whole, until = len(records), tx
            continue
        size += len(json.dumps(record))
        if records and size > most_bytes:
            ends_within = True
            break
        records.append(record)
        place = then
    if until is not None:
        records = records[:whole]
    newest = last_tx(connection)
    return Page(
        schema=t.REVISION,
        registries=names(connection, until if until is not None else after),
        after=after,
        at=at,
        before=transaction_digest(connection, after),
        newest=newest,
        until=until,
        next=str(place) if ends_within and until is None else "",
        counts=counts(connection) if until == newest else None,
        records=records,
    )


def _after(connection: Connection, after: int, place: Place) -> Iterator[tuple[int, Place, Record | None]]:
    """(transaction, place after the record, record), and None in its place when a transaction is complete."""
    x = t.transactions
    acts = connection.execute(sa.select(x).where(x.c.tx > after).order_by(x.c.tx).limit(_TRANSACTIONS))
    found = [dict(row) for row in acts.mappings()]
    if not found:
        return
    closed = {table.name: _closings(connection, table, after, found[-1]["tx"]) for table in _CLOSING}
    inserted = [
        _Inserted(connection, table, found[0]["tx"] if stage < place.stage else after, stage, place)
        for stage, table in enumerate(_TABLES, start=1 + len(_CLOSING))
    ]
    for number, act in enumerate(found):
        tx, start = act["tx"], place if number == 0 else Place()
        if start == Place():
            yield tx, Place(1), {"table": x.name, "row": act}
        for stage, table in enumerate(_CLOSING, start=1):
            ids = [one for one in closed[table.name][tx] if (stage, one) > start[:2]]
            for chunk in chunks(ids):
                yield tx, Place(stage, chunk[-1]), {"table": table.name, "closed": list(chunk)}
        for rows in inserted:
            for then, record in rows.of(tx):
                yield tx, then, record
        yield tx, Place(), None


def _closings(connection: Connection, table: sa.Table, after: int, until: int) -> dict[int, list[int]]:
    """Transaction → ids of the rows that it closed, and that an earlier one had inserted."""
    c = table.c
    statement = sa.select(c.id, c.closed_tx).where(
        c.closed_tx > after, c.closed_tx <= until, c.opened_tx < c.closed_tx
    )
    found = defaultdict(list)
    for row in connection.execute(statement.order_by(c.id)):
        found[row.closed_tx].append(row.id)
    return found


class _Inserted:
    """The rows that each of some transactions inserted into a table, asked for in their order."""

    def __init__(self, connection: Connection, table: sa.Table, after: int, stage: int, place: Place) -> None:
        self._connection, self._table, self._stage = connection, table, stage
        self._born = copying.born(table)
        self._within = place if place.stage == stage else Place()
        self._rows = self._read(after)
        self._next: dict[str, Any] | None = None
        self._step()

    def _step(self) -> None:
        self._next = next(self._rows, None)

    def _read(self, after: int) -> Iterator[dict[str, Any]]:
        if "id" not in self._table.c:  # releases: one of a transaction, and few
            statement = sa.select(self._table).where(self._born > after).order_by(self._born)
            rows = self._connection.execute(statement).mappings().all()
            yield from map(dict[str, Any], islice(rows, 1 if self._within.stage else 0, None))
            return
        last = max(_last_id(self._connection, self._table, after), self._within.key)
        what = [t.masks.c.id, self._born] if self._table is t.masks else [self._table]
        statement = sa.select(*what).order_by(self._table.c.id).limit(_ROWS)
        while rows := self._connection.execute(statement.where(self._table.c.id > last)).mappings().all():
            yield from map(dict[str, Any], rows)
            last = rows[-1]["id"]

    def of(self, tx: int) -> Iterator[tuple[Place, Record]]:
        """The records of a transaction, and the place after each."""
        while (row := self._next) is not None and row[self._born.name] == tx:
            key, before = row.get("id", 0), self._within.key
            if self._table is t.masks:  # up to some MB, which are read when it is their turn
                (row,) = copying.rows_where(self._connection, t.masks, id=key)
            sent, self._within = self._within.pieces, Place(self._stage, key)
            pieces = list(self._in_pieces(row))
            for number, piece in enumerate(pieces[sent:], start=sent + 1):
                yield Place(self._stage, before, number), piece
            if "closed_tx" in row and row["closed_tx"] != tx:
                row["closed_tx"] = None  # that is told by the transaction that closed it
            record: Record = {"table": self._table.name, "row": row}
            if self._table is t.masks:
                inputs = copying.rows_where(self._connection, t.mask_inputs, mask_id=key)
                record["inputs"] = [[one["frame_id"], one["role"]] for one in inputs]
            yield Place(self._stage, key), record
            self._step()

    def _in_pieces(self, row: dict[str, Any]) -> Iterator[Record]:
        """The bytes of a row in pieces; in the row itself stands their digest."""
        for column in _of_bytes(self._table):
            content = bytes(row[column])
            row[column] = hashlib.sha256(content).hexdigest()
            for start in range(0, len(content), _PIECE):
                piece = base64.b64encode(content[start : start + _PIECE]).decode()
                yield {"table": self._table.name, "column": column, "piece": piece}


def _of_bytes(table: sa.Table) -> list[str]:
    return [str(column.name) for column in table.columns if isinstance(column.type, sa.LargeBinary)]


def _last_id(connection: Connection, table: sa.Table, tx: int) -> int:
    """The greatest id that was given up to a transaction."""
    if tx == 0:
        return 0
    c, born = table.c, copying.born(table)
    low, high = 0, connection.execute(sa.select(sa.func.coalesce(sa.func.max(c.id), 0))).scalar_one()
    while low < high:
        middle = (low + high + 1) // 2
        at = sa.select(c.id, born.label("born")).where(c.id >= middle).order_by(c.id).limit(1)
        found = connection.execute(at).first()
        if found is not None and found.born <= tx:
            low = found.id
        else:
            high = middle - 1
    return low


# --- into a copy ------------------------------------------------------------------------


def _add_names(connection: Connection, rows: Iterable[list[Any]]) -> None:
    known = {row[0] for row in names(connection, 2**62)}
    for row in rows:
        if row[0] not in known:
            values = dict(zip(t.registries.c.keys(), row, strict=True))
            connection.execute(t.registries.insert().values(values))


def write(connection: Connection, registries: Iterable[list[Any]], records: Iterable[Record]) -> Counter[str]:
    """Write whole transactions into a copy that has all before them; table → number of new rows.

    Parameters
    ----------
    registries
        names of the registry; those that the copy has already are passed over

    Raises
    ------
    IntegrityError
        A mask's bytes do not have their digest, or the records do not go on from what is here.
    """
    writing = _Writing(connection)
    try:
        _add_names(connection, registries)
        for record in records:
            writing.take(record)
        writing.flush()
    except (LookupError, TypeError, ValueError, OverflowError, sa.exc.SQLAlchemyError) as error:
        if isinstance(error, sa.exc.DBAPIError) and not isinstance(error, sa.exc.IntegrityError):
            raise  # the disk, not the records
        told = str(getattr(error, "orig", error)).partition("\n")[0]
        raise IntegrityError(
            f"What came does not go on from what the mirror has ({told}); nothing of it was written.",
            next_step="Let `hotpix-registry verify` look at both, or sync into a new file.",
        ) from error
    return writing.new


class _Writing:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tx = 0
        self._pieces: defaultdict[str, list[bytes]] = defaultdict(list)
        self._table: sa.Table = t.transactions
        self._rows: list[dict[str, Any]] = []
        self.new: Counter[str] = Counter()

    def take(self, record: Record) -> None:
        table = _BY_NAME[record["table"]]
        if table is not self._table or table in (t.transactions, t.masks):
            self.flush()
            self._table = table
        if "piece" in record:
            self._pieces[record["column"]].append(base64.b64decode(record["piece"], validate=True))
        elif "closed" in record:
            self._close(table, record["closed"])
        else:
            self._insert(table, record)

    def flush(self) -> None:
        """Insert the rows that wait."""
        if self._rows:
            self._connection.execute(self._table.insert(), self._rows)
            self.new[self._table.name] += len(self._rows)
            self._rows = []

    def _close(self, table: sa.Table, ids: list[int]) -> None:
        change = table.update().where(table.c["id"].in_(ids), table.c["closed_tx"].is_(None))
        if self._connection.execute(change.values(closed_tx=self._tx)).rowcount != len(ids):
            raise ValueError(f"rows of {table.name} to be closed are not here")

    def _insert(self, table: sa.Table, record: Record) -> None:
        row = record["row"]
        for column in _of_bytes(table):
            content = b"".join(self._pieces.pop(column, []))
            if hashlib.sha256(content).hexdigest() != row[column]:
                raise ValueError(f"bytes of {table.name} {row['id']} are missing")
            row[column] = content
        if table is t.transactions:
            self._tx = row["tx"]
        if table is t.masks and hashlib.sha256(row["blob"]).hexdigest() != row["blob_sha256"]:
            raise IntegrityError(
                f"The stored bytes of mask {row['id']} at the source are damaged; they were not taken.",
                next_step="Run `hotpix-registry verify --fix` there, then sync again.",
            )
        self._rows.append(row)
        if table is t.masks:
            self.flush()
            inputs = [{"mask_id": row["id"], "frame_id": f, "role": role} for f, role in record["inputs"]]
            if inputs:
                self._connection.execute(t.mask_inputs.insert(), inputs)
