"""What the history of a registry needs: revocations, epoch events, releases, and where copies branch off."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_0002"
down_revision = "20261123_0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("registries", sa.Column("from_tx", sa.BigInteger(), nullable=False, server_default="0"))
    create_tables()
    if op.get_bind().dialect.name == "sqlite":
        guard_sqlite()
    else:
        guard_postgresql()


def create_tables() -> None:
    op.create_table(
        "revocations",
        sa.Column("id", ID, nullable=False),
        sa.Column("mask_id", ID, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_revocations_closed_tx")),
        sa.ForeignKeyConstraint(["mask_id"], ["masks.id"], name=op.f("fk_revocations_mask_id")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_revocations_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocations")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_revocations_open",
        "revocations",
        ["mask_id"],
        unique=True,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("camera_id", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_events_camera_id")),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_events_closed_tx")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_events_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_camera_id"), "events", ["camera_id"], unique=False)
    op.create_table(
        "releases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at_tx", ID, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_tx", ID, nullable=False),
        sa.ForeignKeyConstraint(["at_tx"], ["transactions.tx"], name=op.f("fk_releases_at_tx")),
        sa.ForeignKeyConstraint(["created_tx"], ["transactions.tx"], name=op.f("fk_releases_created_tx")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_releases")),
    )


def guard_sqlite() -> None:
    changes = {
        "revocations": "id mask_id reason opened_tx",
        "events": "id camera_id at_us kind note opened_tx",
        "releases": "",
    }
    taken = {
        "revocations": "id = NEW.id"
        " OR (mask_id = NEW.mask_id AND closed_tx IS NULL AND NEW.closed_tx IS NULL)",
        "events": "id = NEW.id",
        "releases": "name = NEW.name",
    }
    for table, columns in changes.items():
        unchanged = " AND ".join(f"OLD.{name} IS NEW.{name}" for name in columns.split())
        allowed = f"OLD.closed_tx IS NULL AND NEW.closed_tx IS NOT NULL AND {unchanged}" if columns else "0"
        op.execute(
            f"CREATE TRIGGER guard_{table}_update BEFORE UPDATE ON {table} WHEN NOT ({allowed}) "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
        )
        op.execute(
            f"CREATE TRIGGER guard_{table}_delete BEFORE DELETE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never deleted'); END"
        )
        # INSERT OR REPLACE deletes the row in its way without firing the trigger on deletes
        op.execute(
            f"CREATE TRIGGER guard_{table}_insert BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken[table]}) "
            f"BEGIN SELECT RAISE(ABORT, 'UNIQUE: this row of {table} exists already'); END"
        )


def guard_postgresql() -> None:
    for table, on_update in (
        ("revocations", "guard_closing"),
        ("events", "guard_closing"),
        ("releases", "guard_refuse"),
    ):
        for verb, each, function in (
            ("update", "ROW", on_update),
            ("delete", "ROW", "guard_refuse"),
            ("truncate", "STATEMENT", "guard_refuse"),
        ):
            op.execute(
                f"CREATE TRIGGER guard_{table}_{verb} BEFORE {verb.upper()} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION {function}()"
            )
