"""How Alembic runs the steps: on the connection it is handed, in that connection's transaction."""

from __future__ import annotations

from alembic import context

from bot.storage.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,  # SQLite cannot alter most things in place
    transactional_ddl=True,  # but it can roll back CREATE and DROP, whatever Alembic assumes
)
context.run_migrations()
