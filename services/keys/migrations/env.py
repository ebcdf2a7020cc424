"""Run by Alembic on the connection that `store.migrate` hands it; the transaction is the caller's."""

from alembic import context

from services.keys.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
