"""The tables of the main job, and the guards with which the database keeps its own promises."""

import sqlalchemy as sa
from alembic import op

revision = "20261123_0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

IMMUTABLE = ("registries", "transactions", "cameras", "series", "frames", "masks", "mask_inputs")
CLOSING = ("camera_names", "profiles", "locations", "readings", "overrides", "defects", "assignments")


def upgrade() -> None:
    create_tables()
    if op.get_bind().dialect.name == "sqlite":
        guard_sqlite()
    else:
        guard_postgresql()


def guard_sqlite() -> None:
    inspector = sa.inspect(op.get_bind())
    for table in (*IMMUTABLE, *CLOSING):
        columns = [column["name"] for column in inspector.get_columns(table)]
        unchanged = " AND ".join(f"OLD.{name} IS NEW.{name}" for name in columns if name != "closed_tx")
        allowed = (
            f"OLD.closed_tx IS NULL AND NEW.closed_tx IS NOT NULL AND {unchanged}"
            if table in CLOSING
            else "0"
        )
        op.execute(
            f"CREATE TRIGGER guard_{table}_update BEFORE UPDATE ON {table} WHEN NOT ({allowed}) "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
        )
        op.execute(
            f"CREATE TRIGGER guard_{table}_delete BEFORE DELETE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never deleted'); END"
        )
        # INSERT OR REPLACE deletes the row in its way without firing the trigger on deletes
        keys = [(inspector.get_pk_constraint(table)["constrained_columns"], "")]
        keys += [(constraint["column_names"], "") for constraint in inspector.get_unique_constraints(table)]
        keys += [
            (index["column_names"], " AND closed_tx IS NULL AND NEW.closed_tx IS NULL")
            for index in inspector.get_indexes(table)
            if index["unique"]
        ]
        taken = " OR ".join(
            f"EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(f'{c} = NEW.{c}' for c in key)}{where})"
            for key, where in keys
        )
        op.execute(
            f"CREATE TRIGGER guard_{table}_insert BEFORE INSERT ON {table} WHEN {taken} "
            f"BEGIN SELECT RAISE(ABORT, 'UNIQUE: this row of {table} exists already'); END"
        )
    op.execute(
        """
        CREATE TRIGGER guard_assignments_overlap BEFORE INSERT ON assignments
        WHEN NEW.closed_tx IS NULL AND EXISTS (
            SELECT 1 FROM (
                SELECT valid_to_us FROM assignments
                WHERE series_id = NEW.series_id AND closed_tx IS NULL
                    AND valid_from_us < coalesce(NEW.valid_to_us, 9223372036854775807)
                ORDER BY valid_from_us DESC LIMIT 1
            ) WHERE valid_to_us IS NULL OR valid_to_us > NEW.valid_from_us
        ) BEGIN SELECT RAISE(ABORT, 'current assignments of a series must not overlap'); END
        """
    )
    op.execute(
        "CREATE TRIGGER guard_transactions_order BEFORE INSERT ON transactions WHEN EXISTS ("
        "SELECT 1 FROM (SELECT tx, at_us FROM transactions ORDER BY tx DESC LIMIT 1)"
        " WHERE NEW.tx <= tx OR NEW.at_us < at_us) "
        "BEGIN SELECT RAISE(ABORT, 'transaction time never runs backwards'); END"
    )


def guard_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION guard_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION guard_closing() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.closed_tx IS NULL AND NEW.closed_tx IS NOT NULL
                AND to_jsonb(OLD) - 'closed_tx' = to_jsonb(NEW) - 'closed_tx' THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION guard_order() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT 1 FROM (SELECT tx, at_us FROM transactions ORDER BY tx DESC LIMIT 1) AS last
                       WHERE NEW.tx <= last.tx OR NEW.at_us < last.at_us) THEN
                RAISE EXCEPTION 'transaction time never runs backwards'
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    for table in (*IMMUTABLE, *CLOSING):
        on_update = "guard_closing" if table in CLOSING else "guard_refuse"
        for verb, each, function in (
            ("update", "ROW", on_update),
            ("delete", "ROW", "guard_refuse"),
            ("truncate", "STATEMENT", "guard_refuse"),
        ):
            op.execute(
                f"CREATE TRIGGER guard_{table}_{verb} BEFORE {verb.upper()} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION {function}()"
            )
    op.execute(
        "CREATE TRIGGER guard_transactions_order BEFORE INSERT ON transactions "
        "FOR EACH ROW EXECUTE FUNCTION guard_order()"
    )
    # a range of one number stands in for equality, which GiST knows only with an extension
    op.execute(
        "ALTER TABLE assignments ADD CONSTRAINT assignments_overlap EXCLUDE USING gist ("
        "int8range(series_id, series_id, '[]') WITH &&, int8range(valid_from_us, valid_to_us) WITH &&"
        ") WHERE (closed_tx IS NULL)"
    )


def create_tables() -> None:
    op.create_table(
        "passed_over",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("rules_digest", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("frame_type", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_passed_over")),
    )
    op.create_table(
        "registries",
        sa.Column("registry_id", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("registry_id", name=op.f("pk_registries")),
    )
    op.create_table(
        "transactions",
        sa.Column("tx", ID, autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tx", name=op.f("pk_transactions")),
    )
    op.create_table(
        "cameras",
        sa.Column("id", ID, nullable=False),
        sa.Column("created_tx", ID, nullable=False),
        sa.ForeignKeyConstraint(["created_tx"], ["transactions.tx"], name=op.f("fk_cameras_created_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cameras")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "frames",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("compression", sa.Text(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("created_tx", ID, nullable=False),
        sa.ForeignKeyConstraint(["created_tx"], ["transactions.tx"], name=op.f("fk_frames_created_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_frames")),
        sa.UniqueConstraint("sha256", name=op.f("uq_frames_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "camera_names",
        sa.Column("id", ID, nullable=False),
        sa.Column("camera_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_alias", sa.Boolean(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_camera_names_camera_id")),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_camera_names_closed_tx")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_camera_names_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_camera_names")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_camera_names_open",
        "camera_names",
        ["name"],
        unique=True,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_table(
        "defects",
        sa.Column("id", ID, nullable=False),
        sa.Column("camera_id", ID, nullable=False),
        sa.Column("x0", sa.Integer(), nullable=False),
        sa.Column("y0", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("first_night", sa.Text(), nullable=True),
        sa.Column("last_night", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_defects_camera_id")),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_defects_closed_tx")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_defects_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_defects")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_defects_camera_id"), "defects", ["camera_id"], unique=False)
    op.create_table(
        "locations",
        sa.Column("id", ID, nullable=False),
        sa.Column("frame_id", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_locations_closed_tx")),
        sa.ForeignKeyConstraint(["frame_id"], ["frames.id"], name=op.f("fk_locations_frame_id")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_locations_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locations")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_locations_frame_id"), "locations", ["frame_id"], unique=False)
    op.create_index(
        "uq_locations_open",
        "locations",
        ["path"],
        unique=True,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_table(
        "overrides",
        sa.Column("id", ID, nullable=False),
        sa.Column("frame_id", ID, nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_overrides_closed_tx")),
        sa.ForeignKeyConstraint(["frame_id"], ["frames.id"], name=op.f("fk_overrides_frame_id")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_overrides_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_overrides")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_overrides_frame_id"), "overrides", ["frame_id"], unique=False)
    op.create_table(
        "profiles",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("camera_id", ID, nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_profiles_camera_id")),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_profiles_closed_tx")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_profiles_opened_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profiles")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "series",
        sa.Column("id", ID, nullable=False),
        sa.Column("camera_id", ID, nullable=False),
        sa.Column("configuration_digest", sa.Text(), nullable=False),
        sa.Column("configuration", sa.JSON(), nullable=False),
        sa.Column("set_point_key", sa.Text(), nullable=False),
        sa.Column("set_point_c", sa.Double(), nullable=True),
        sa.Column("created_tx", ID, nullable=False),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_series_camera_id")),
        sa.ForeignKeyConstraint(["created_tx"], ["transactions.tx"], name=op.f("fk_series_created_tx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint(
            "camera_id",
            "configuration_digest",
            "set_point_key",
            name=op.f("uq_series_camera_id_configuration_digest_set_point_key"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "masks",
        sa.Column("id", ID, nullable=False),
        sa.Column("series_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("build_key", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("algorithm_version", sa.Text(), nullable=False),
        sa.Column("first_night", sa.Text(), nullable=False),
        sa.Column("last_night", sa.Text(), nullable=False),
        sa.Column("campaign_start_us", sa.BigInteger(), nullable=False),
        sa.Column("campaign_end_us", sa.BigInteger(), nullable=False),
        sa.Column("shortest_s", sa.Double(), nullable=True),
        sa.Column("longest_s", sa.Double(), nullable=True),
        sa.Column("nx", sa.Integer(), nullable=False),
        sa.Column("ny", sa.Integer(), nullable=False),
        sa.Column("flagged", sa.Integer(), nullable=False),
        sa.Column("limit_e_per_s", sa.Double(), nullable=True),
        sa.Column("profile_id", ID, nullable=False),
        sa.Column("created_tx", ID, nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("software", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("blob_sha256", sa.Text(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["created_tx"], ["transactions.tx"], name=op.f("fk_masks_created_tx")),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name=op.f("fk_masks_profile_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_masks_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_masks")),
        sa.UniqueConstraint("build_key", name=op.f("uq_masks_build_key")),
        sa.UniqueConstraint("series_id", "version", name=op.f("uq_masks_series_id_version")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "readings",
        sa.Column("id", ID, nullable=False),
        sa.Column("frame_id", ID, nullable=False),
        sa.Column("camera_id", ID, nullable=False),
        sa.Column("series_id", ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("exptime_s", sa.Double(), nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("ccd_temp_c", sa.Double(), nullable=True),
        sa.Column("nx", sa.Integer(), nullable=False),
        sa.Column("ny", sa.Integer(), nullable=False),
        sa.Column("n_combined", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("twin_of", ID, nullable=True),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name=op.f("fk_readings_camera_id")),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_readings_closed_tx")),
        sa.ForeignKeyConstraint(["frame_id"], ["frames.id"], name=op.f("fk_readings_frame_id")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_readings_opened_tx")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_readings_series_id")),
        sa.ForeignKeyConstraint(["twin_of"], ["frames.id"], name=op.f("fk_readings_twin_of")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_readings")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_readings_camera_start", "readings", ["camera_id", "start_us"], unique=False)
    op.create_index(
        "uq_readings_open",
        "readings",
        ["frame_id"],
        unique=True,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", ID, nullable=False),
        sa.Column("series_id", ID, nullable=False),
        sa.Column("mask_id", ID, nullable=False),
        sa.Column("valid_from_us", sa.BigInteger(), nullable=False),
        sa.Column("valid_to_us", sa.BigInteger(), nullable=True),
        sa.Column("opened_tx", ID, nullable=False),
        sa.Column("closed_tx", ID, nullable=True),
        sa.CheckConstraint(
            "valid_to_us IS NULL OR valid_to_us > valid_from_us", name=op.f("ck_assignments_not_empty")
        ),
        sa.ForeignKeyConstraint(["closed_tx"], ["transactions.tx"], name=op.f("fk_assignments_closed_tx")),
        sa.ForeignKeyConstraint(["mask_id"], ["masks.id"], name=op.f("fk_assignments_mask_id")),
        sa.ForeignKeyConstraint(["opened_tx"], ["transactions.tx"], name=op.f("fk_assignments_opened_tx")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_assignments_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_assignments_current",
        "assignments",
        ["series_id", "valid_from_us"],
        unique=False,
        sqlite_where=sa.text("closed_tx IS NULL"),
        postgresql_where=sa.text("closed_tx IS NULL"),
    )
    op.create_index("ix_assignments_history", "assignments", ["series_id", "valid_from_us"], unique=False)
    op.create_table(
        "mask_inputs",
        sa.Column("mask_id", ID, nullable=False),
        sa.Column("frame_id", ID, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["frame_id"], ["frames.id"], name=op.f("fk_mask_inputs_frame_id")),
        sa.ForeignKeyConstraint(["mask_id"], ["masks.id"], name=op.f("fk_mask_inputs_mask_id")),
        sa.PrimaryKeyConstraint("mask_id", "frame_id", name=op.f("pk_mask_inputs")),
    )
