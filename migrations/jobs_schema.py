"""The tables and functions of the job queue, read from the package that works with them.

They are procrastinate's own, so they are in no model and are not copied here. A comment on the
table of the jobs says which of the package's migrations a database has.
"""

from importlib import resources
from typing import Any

from alembic import op
from sqlalchemy import text

from migrations.phases import MigrationError

PREFIX = "procrastinate_"
_TABLE = "procrastinate_jobs"
_FOLDER = resources.files("procrastinate") / "sql"
# No script of the package has such a quote in it.
_QUOTE = "$jobs_schema$"

_REMOVE = """
DO $$
DECLARE
    found text;
BEGIN
    FOR found IN SELECT oid::regprocedure FROM pg_proc
        WHERE proname LIKE 'procrastinate\\_%' AND pronamespace = current_schema()::regnamespace
    LOOP EXECUTE 'DROP FUNCTION ' || found || ' CASCADE'; END LOOP;
    FOR found IN SELECT oid::regclass FROM pg_class
        WHERE relname LIKE 'procrastinate\\_%' AND relkind = 'r'
        AND relnamespace = current_schema()::regnamespace
    LOOP EXECUTE 'DROP TABLE ' || found || ' CASCADE'; END LOOP;
    FOR found IN SELECT oid::regtype FROM pg_type
        WHERE typname LIKE 'procrastinate\\_%' AND typnamespace = current_schema()::regnamespace
    LOOP EXECUTE 'DROP TYPE ' || found; END LOOP;
END
$$
"""


def migrations() -> list[str]:
    """Return the names of the package's migrations, oldest first."""
    folder = _FOLDER / "migrations"
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))


def install(newest: str) -> None:
    """Make the queue in a database that has none.

    Args:
        newest: The newest migration of the package when the revision was written; a later package
            makes a later schema, of which the comment tells the later revisions.

    Raises:
        MigrationError: The installed package is older than the revision.
    """
    _check(newest)
    if op.get_context().dialect.name != "postgresql":
        return
    _run_script((_FOLDER / "schema.sql").read_text(encoding="utf-8"))
    _execute(_comment(migrations()[-1]))


def upgrade(newest: str) -> None:
    """Run the package's migrations that a database lacks, up to one of them.

    A revision that runs a `pre` migration expands; one that runs a `post` migration contracts,
    because the package's version before still uses what it takes away.

    Args:
        newest: The last one that is run.

    Raises:
        MigrationError: The installed package does not have it.
    """
    _check(newest)
    if op.get_context().dialect.name != "postgresql":
        return
    for name in migrations():
        if name > newest:
            break
        script = (_FOLDER / "migrations" / name).read_text(encoding="utf-8")
        # One block, so that what is printed before is what runs, whatever the database has.
        _execute(
            f"DO {_QUOTE}\nBEGIN\n"
            f"IF coalesce(obj_description('{_TABLE}'::regclass), '') < '{name}' THEN\n"
            f"EXECUTE {_QUOTE[:-1]}_script$\n{script}\n{_QUOTE[:-1]}_script$;\n"
            f"{_comment(name)};\nEND IF;\nEND\n{_QUOTE}"
        )


def remove() -> None:
    """Take the queue away, with the jobs in it."""
    if op.get_context().dialect.name == "postgresql":
        _execute(_REMOVE)


def _check(newest: str) -> None:
    if newest not in migrations():
        message = (
            f"The installed procrastinate has no migration {newest}: install the version that is "
            "in uv.lock."
        )
        raise MigrationError(message)


def _comment(name: str) -> str:
    return f"COMMENT ON TABLE {_TABLE} IS '{name}'"


def _execute(statement: str) -> None:
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(f"{statement.strip()};")
    else:
        # What follows a colon would be taken for a parameter.
        op.execute(text(statement.strip().replace(":", r"\:")))


def _run_script(script: str) -> None:
    """Run several statements in the transaction of the revision, or print them."""
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(script)
        return
    connection = op.get_bind()
    # The driver begins the transaction with the first statement that SQLAlchemy itself sends.
    connection.execute(text("SELECT 1"))
    driver: Any = connection.connection.dbapi_connection

    async def send(raw: Any) -> None:  # noqa: ANN401
        await raw.execute(script)

    driver.run_async(send)
