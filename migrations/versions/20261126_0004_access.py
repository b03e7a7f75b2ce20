"""What writing over HTTP needs: tokens, jobs, and what becomes of each job."""

import sqlalchemy as sa
from alembic import op

revision = "20261126_0004"
down_revision = "20261125_0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    create_tables()
    if op.get_bind().dialect.name == "sqlite":
        guard_sqlite()
    else:
        guard_postgresql()


def create_tables() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=True),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_tokens_closed_tx")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_tokens_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_tokens_open",
        "tokens",
        ["name"],
        unique=True,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("camera_id", ID, nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_jobs_camera_id")),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_jobs_closed_tx")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_jobs_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["opened_tx"],
        unique=False,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_table(
        "job_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_job_events_job_id_id"), "job_events", ["job_id", "id"], unique=False)


def guard_sqlite() -> None:
    changes = {
        "tokens": "id name sha256 scopes expires_us opened_tx",
        "jobs": "id kind camera_id request opened_tx",
        "job_events": "",
    }
    taken = {
        "tokens": "id = NEW.id OR sha256 = NEW.sha256"
        " OR (name = NEW.name AND closed_tx IS NULL AND NEW.closed_tx IS NULL)",
        "jobs": "id = NEW.id",
        "job_events": "id = NEW.id",
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
        ("tokens", "guard_closing"),
        ("jobs", "guard_closing"),
        ("job_events", "guard_refuse"),
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
