"""Alembic's entry: runs the migrations on the connection that storage.migrate hands over, inside its transaction."""

from alembic import context

from chatbotctl.core.storage.schema import metadata

connection = context.config.attributes["connection"]
# SQLite cannot alter a column in place: batch mode copies the table.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
