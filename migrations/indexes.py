"""Indexes that are made while the service writes.

`CREATE INDEX CONCURRENTLY` runs outside a transaction. When it fails it leaves an index behind that
nothing uses, and that `IF NOT EXISTS` takes for the one that is asked for
(https://www.postgresql.org/docs/current/sql-createindex.html).
"""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import ColumnElement, Connection, text

_INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND NOT EXISTS (
    SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
ORDER BY c.relname
"""


def invalid_indexes(connection: Connection) -> list[str]:
    """Return the names of indexes whose making has failed; those that are being made are not."""
    return [str(name) for name in connection.execute(text(_INVALID)).scalars()]


def create_index_concurrently(
    name: str,
    table: str,
    columns: Sequence[str | ColumnElement[Any]],
    **options: Any,  # noqa: ANN401
) -> None:
    """Make an index without keeping anyone from writing; the only operation of its revision.

    Args:
        name: Its name.
        table: The table.
        columns: Columns or expressions.
        options: As for `op.create_index`, for example `unique` and `postgresql_using`.
    """
    context = op.get_context()
    if context.dialect.name != "postgresql":
        op.create_index(name, table, list(columns), **options)
        return
    with context.autocommit_block():
        # An earlier attempt may have left an invalid one; a valid one was made by an earlier
        # attempt as well, one that was lost before its revision was noted.
        if context.as_sql or name in invalid_indexes(op.get_bind()):
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            name, table, list(columns), if_not_exists=True, postgresql_concurrently=True, **options
        )
