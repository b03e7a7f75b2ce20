"""The tables, and nothing but the tables.

Three kinds of table, told apart by what the database itself lets happen to a row (the guards are
triggers and, on PostgreSQL, an exclusion constraint; they are written in the migrations):

- immutable: a row is inserted and stays as it is (`IMMUTABLE`);
- closing: a row is open from `opened_tx`, and its one change is that `closed_tx` is set (`CLOSING`);
- cache: rows that only save work and may be lost (`passed_over`).

What held at transaction `n` is what has `opened_tx <= n` and `closed_tx` null or above `n`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "20261126_0004"
"""The migration that makes these tables; a test holds it equal to the newest in `migrations/`."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself only for INTEGER."""


def _table(name: str, *columns: Column[object] | CheckConstraint | UniqueConstraint | Index) -> Table:
    return Table(name, metadata, *columns, sqlite_autoincrement=True)


def _index_of_open(name: str, *columns: Column[object], unique: bool = False) -> None:
    """An index on the rows that are open."""
    Index(name, *columns, unique=unique).info["of_open"] = True


def spell_out_indexes(dialect: str) -> None:
    """Give the indexes on open rows their WHERE clause in a dialect, for who compares tables with these.

    As arguments of the indexes they would load both dialects in every process.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            if index.info.get("of_open"):
                index.dialect_options[dialect]["where"] = table.c.closed_tx.is_(None)


def _id() -> Column[object]:
    return Column("id", Id, primary_key=True)


def _tx(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, ForeignKey("transactions.tx"), nullable=nullable)


registries = Table(
    "registries",
    metadata,
    Column("registry_id", Text, primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("from_tx", BigInteger, nullable=False, server_default="0"),
)
"""One row; a copy that was written to has another for each registry that it grew from, from which
transaction on it goes by that name."""

transactions = Table(
    "transactions",
    metadata,
    Column("tx", Id, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("software", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text),
)

cameras = _table("cameras", _id(), _tx("created_tx"))

camera_names = _table(
    "camera_names",
    _id(),
    Column("camera_id", ForeignKey("cameras.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("is_alias", Boolean, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)
_index_of_open(
    "uq_camera_names_open",
    camera_names.c.name,
    unique=True,
)

profiles = _table(
    "profiles",
    _id(),
    Column("kind", Text, nullable=False),  # camera | keywords
    Column("name", Text, nullable=False),
    Column("camera_id", ForeignKey("cameras.id")),
    Column("digest", Text, nullable=False),
    Column("body", JSON, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)

series = _table(
    "series",
    _id(),
    Column("camera_id", ForeignKey("cameras.id"), nullable=False),
    Column("configuration_digest", Text, nullable=False),
    Column("configuration", JSON, nullable=False),
    Column("set_point_key", Text, nullable=False),  # '-5.0' or 'none': NULL would defeat UNIQUE
    Column("set_point_c", Double),
    _tx("created_tx"),
    UniqueConstraint("camera_id", "configuration_digest", "set_point_key"),
)

frames = _table(
    "frames",
    _id(),
    Column("sha256", Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("compression", Text, nullable=False),
    Column("header", LargeBinary, nullable=False),  # zlib of the cards, for --reread without the file
    _tx("created_tx"),
)

locations = _table(
    "locations",
    _id(),
    Column("frame_id", ForeignKey("frames.id"), nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)
_index_of_open(
    "uq_locations_open",
    locations.c.path,
    unique=True,
)

readings = _table(
    "readings",
    _id(),
    Column("frame_id", ForeignKey("frames.id"), nullable=False),
    Column("camera_id", ForeignKey("cameras.id"), nullable=False),
    Column("series_id", ForeignKey("series.id")),
    Column("kind", Text, nullable=False),
    Column("exptime_s", Double, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("night", Text, nullable=False),
    Column("ccd_temp_c", Double),
    Column("nx", Integer, nullable=False),
    Column("ny", Integer, nullable=False),
    Column("n_combined", Integer, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("twin_of", ForeignKey("frames.id")),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)
_index_of_open(
    "uq_readings_open",
    readings.c.frame_id,
    unique=True,
)
Index("ix_readings_camera_start", readings.c.camera_id, readings.c.start_us)

overrides = _table(
    "overrides",
    _id(),
    Column("frame_id", ForeignKey("frames.id"), nullable=False, index=True),
    Column("field", Text, nullable=False),
    Column("value", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)

defects = _table(
    "defects",
    _id(),
    Column("camera_id", ForeignKey("cameras.id"), nullable=False, index=True),
    Column("x0", Integer, nullable=False),
    Column("y0", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("first_night", Text),
    Column("last_night", Text),
    Column("reason", Text, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)

passed_over = Table(
    "passed_over",
    metadata,
    Column("path", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("rules_digest", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # skipped | rejected
    Column("frame_type", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

masks = _table(
    "masks",
    _id(),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("build_key", Text, nullable=False, unique=True),
    Column("rule", Text, nullable=False),
    Column("algorithm_version", Text, nullable=False),
    Column("first_night", Text, nullable=False),
    Column("last_night", Text, nullable=False),
    Column("campaign_start_us", BigInteger, nullable=False),
    Column("campaign_end_us", BigInteger, nullable=False),
    Column("shortest_s", Double),  # null: no exposure times were compared, the mask was imported
    Column("longest_s", Double),
    Column("nx", Integer, nullable=False),
    Column("ny", Integer, nullable=False),
    Column("flagged", Integer, nullable=False),
    Column("limit_e_per_s", Double),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    _tx("created_tx"),
    Column("recipe", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("software", JSON, nullable=False),
    Column("report", JSON, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("blob_sha256", Text, nullable=False),
    Column("numbers", LargeBinary, nullable=False),  # .npz of what the plots draw
    Column("blob", LargeBinary, nullable=False),  # last: SQLite then reads the row without it
    UniqueConstraint("series_id", "version"),
)

mask_inputs = Table(
    "mask_inputs",
    metadata,
    Column("mask_id", ForeignKey("masks.id"), primary_key=True),
    Column("frame_id", ForeignKey("frames.id"), primary_key=True),
    Column("role", Text, nullable=False),
)

assignments = _table(
    "assignments",
    _id(),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("mask_id", ForeignKey("masks.id"), nullable=False, index=True),
    Column("valid_from_us", BigInteger, nullable=False),
    Column("valid_to_us", BigInteger),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
    CheckConstraint("valid_to_us IS NULL OR valid_to_us > valid_from_us", name="not_empty"),
)
_index_of_open(
    "ix_assignments_current",
    assignments.c.series_id,
    assignments.c.valid_from_us,
)
Index("ix_assignments_history", assignments.c.series_id, assignments.c.valid_from_us)

revocations = _table(
    "revocations",
    _id(),
    Column("mask_id", ForeignKey("masks.id"), nullable=False),
    Column("reason", Text, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)
_index_of_open(
    "uq_revocations_open",
    revocations.c.mask_id,
    unique=True,
)

events = _table(
    "events",
    _id(),
    Column("camera_id", ForeignKey("cameras.id"), nullable=False, index=True),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # anneal | warmup | repair | controller | swap
    Column("note", Text, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)

releases = Table(
    "releases",
    metadata,
    Column("name", Text, primary_key=True),
    _tx("at_tx"),
    Column("note", Text, nullable=False),
    _tx("created_tx"),
)

tokens = _table(
    "tokens",
    _id(),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),  # of the secret, which is stored nowhere
    Column("scopes", JSON, nullable=False),
    Column("expires_us", BigInteger),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)
_index_of_open(
    "uq_tokens_open",
    tokens.c.name,
    unique=True,
)

jobs = _table(
    "jobs",
    _id(),
    Column("kind", Text, nullable=False),  # build | ingest | compare | rollout
    Column("camera_id", ForeignKey("cameras.id")),
    Column("request", JSON, nullable=False),
    _tx("opened_tx"),
    _tx("closed_tx", nullable=True),
)
_index_of_open("ix_jobs_open", jobs.c.opened_tx)

job_events = _table(
    "job_events",
    _id(),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # queued | running | done | failed | interrupted
    Column("body", JSON, nullable=False),
)
Index("ix_job_events_job_id_id", job_events.c.job_id, job_events.c.id)

OF_THE_SERVICE = (tokens, jobs, job_events)
"""Who may write here, and what was asked of this service: no part of what the registry knows."""

IMMUTABLE = (registries, transactions, cameras, series, frames, masks, mask_inputs, releases, job_events)
CLOSING = (
    camera_names,
    profiles,
    locations,
    readings,
    overrides,
    defects,
    assignments,
    revocations,
    events,
    tokens,
    jobs,
)


def guards(dialect: str) -> set[str]:
    """Names of the triggers without which the database would not guard itself."""
    tables = {table.name for table in (*IMMUTABLE, *CLOSING)}
    names = {f"guard_{table}_{verb}" for table in tables for verb in ("update", "delete")}
    names.add("guard_transactions_order")
    if dialect == "sqlite":
        return names | {f"guard_{table}_insert" for table in tables} | {"guard_assignments_overlap"}
    return names | {f"guard_{table}_truncate" for table in tables}
