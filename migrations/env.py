"""What Alembic runs: on the application's own connection, else on HOTPIX_DATABASE_URL for developers."""

import os

from alembic import context
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import engine, schema


def migrate(connection: Connection) -> None:
    schema.spell_out_indexes(connection.dialect.name)
    context.configure(
        connection=connection, target_metadata=schema.metadata, transactional_ddl=True, compare_type=True
    )
    with context.begin_transaction():
        context.run_migrations()


if (connection := context.config.attributes.get("connection")) is not None:
    migrate(connection)
else:
    with engine.writing(engine.connect(engine.parse_url(os.environ["HOTPIX_DATABASE_URL"]))) as connection:
        migrate(connection)
