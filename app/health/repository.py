"""The query on the database's own state."""

from sqlalchemy import column, select, table
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

_VERSIONS = table("alembic_version", column("version_num"))


async def current_revision(connection: AsyncConnection) -> str | None:
    """Return the schema's revision, or nothing when no migration has run yet."""
    try:
        result = await connection.execute(select(_VERSIONS.c.version_num))
    except (OperationalError, ProgrammingError) as error:
        if error.connection_invalidated:
            raise
        return None
    return result.scalar_one_or_none()
