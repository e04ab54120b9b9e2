"""Alembic's environment: it gets an open connection, or writes the script out."""

from typing import Any

from alembic import context
from alembic.operations import Operations
from sqlalchemy.schema import CreateSchema

from gnomon_migrations.runner import SCHEMA
from gnomon_migrations.views import rebuild_views

options: dict[str, Any] = {
    "target_metadata": context.config.attributes.get("target_metadata"),
    "version_table": "alembic_version",
    "version_table_schema": SCHEMA,
    "include_schemas": True,
    "transaction_per_migration": False,
}

if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql", output_buffer=context.config.output_buffer, literal_binds=True, **options
    )
    with context.begin_transaction():
        context.execute(CreateSchema(SCHEMA, if_not_exists=True))
        context.run_migrations()
        with Operations.context(context.get_context()):
            rebuild_views()
else:
    context.configure(connection=context.config.attributes["connection"], **options)
    context.run_migrations()
