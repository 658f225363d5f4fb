"""What becomes of the database's failures: which of them pass, and what of them is told.

What a statement was given must not come into a log: hashes of passwords, addresses, names. The
database repeats it in the details of its errors, the driver in the arguments that it refuses.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncpg import InterfaceError, PostgresError  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import metrics
from app.errors import UnavailableError
from app.log import get_logger

# The same request may succeed later, as the database is now, or is soon to be again
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
PASSING_STATES = {
    "57014": "timeout",
    "57P01": "connection",
    "57P02": "connection",
    "57P03": "connection",
    "55P03": "lock",
    "40001": "deadlock",
    "40P01": "deadlock",
    "25006": "read_only",
}
# The disk or the memory is full, or there are too many connections.
_PASSING_CLASSES = {"53": "full"}
_QUIET_SECONDS = 10.0
_ARGUMENT = re.compile(r"(query argument \$\d+).*", re.DOTALL)

_told: dict[str, tuple[float, int]] = {}


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be used at the moment.

    Attributes:
        kind: why, in a word that numbers and log lines have.
        sqlstate: the code that the server gave, if it came that far.
        cause: the class of the error that was met.
    """

    def __init__(self, kind: str, sqlstate: str | None, cause: str) -> None:
        super().__init__()
        self.kind, self.sqlstate, self.cause = kind, sqlstate, cause


def sqlstate_of(error: BaseException) -> str | None:
    """Return the code that the server gave to an error; nothing when it did not come that far."""
    state: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state


def _kind_of(error: BaseException) -> str | None:
    """Name why the database cannot be used at the moment; nothing when it can."""
    if isinstance(error, PoolTimeoutError):
        return "pool_exhausted"
    state = sqlstate_of(error) or ""
    kind = PASSING_STATES.get(state) or _PASSING_CLASSES.get(state[:2])
    if kind is None and isinstance(error, DBAPIError) and error.connection_invalidated:
        return "connection"
    return kind


def unavailable(error: BaseException) -> DatabaseUnavailableError:
    """Return what is raised while the database cannot be used, and count it."""
    state = sqlstate_of(error)
    kind = _kind_of(error) or ("credentials" if (state or "").startswith("28") else "connection")
    metrics.DATABASE_UNAVAILABLE.labels(kind).inc()
    return DatabaseUnavailableError(
        kind, state, type(getattr(error, "orig", None) or error).__name__
    )


def tell(error: DatabaseUnavailableError) -> None:
    """Say in the log why a request could not be answered.

    An outage must not become a flood of lines: each kind is told every few seconds.
    """
    now = time.monotonic()
    last, passed_over = _told.get(error.kind, (-_QUIET_SECONDS, 0))
    if now - last < _QUIET_SECONDS:
        _told[error.kind] = last, passed_over + 1
        return
    _told[error.kind] = now, 0
    get_logger().warning(
        "database.unavailable",
        message=f"The database cannot be used: {error.kind}.",
        database_kind=error.kind,
        database_sqlstate=error.sqlstate,
        database_error=error.cause,
        suppressed=passed_over,
    )


@contextmanager
def translated_failures() -> Iterator[None]:
    """Turn a lost or a missing connection into an error that tells the caller to come back."""
    try:
        yield
    except (PoolTimeoutError, DBAPIError, PostgresError, InterfaceError) as error:
        _silence(error)
        if _kind_of(error):
            raise unavailable(error) from error
        raise


def _silence(error: BaseException) -> None:
    """Take what a statement was given out of an error, and of those that have led to it."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__, getattr(one, "orig", None)]
        if isinstance(one, PostgresError):
            one.detail = None
        if one.args and isinstance(one.args[0], str):
            text = one.args[0].partition("\nDETAIL:")[0]
            one.args = (_ARGUMENT.sub(r"\1", text), *one.args[1:])
