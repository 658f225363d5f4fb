"""One job, with the line that it leaves in the log."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from app.errors import ServiceError
from app.log import get_logger


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job.

    Attributes:
        job: Its name.
        job_id: Its number in the queue; None where there is no queue.
        number: 1 for the first attempt.
        is_last: Whether none follows when it fails.
        request_id: Of the request that has asked for it.
    """

    job: str
    job_id: int | None
    number: int
    is_last: bool
    request_id: str | None


@asynccontextmanager
async def logged(attempt: Attempt) -> AsyncIterator[None]:
    """Name the request in everything that is logged meanwhile, and log how it ended.

    What a job was given may name people: neither that nor the text of an exception is logged.
    """
    fields = {
        "job": attempt.job,
        "job_id": attempt.job_id,
        "attempt": attempt.number,
        "request_id": attempt.request_id,
    }
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(
        **{key: value for key, value in fields.items() if value is not None}
    )
    started = time.perf_counter()
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        _log_failure(attempt, error, _milliseconds(started))
        raise
    else:
        duration = _milliseconds(started)
        message = f"Job {_title(attempt)} done in {duration} ms."
        get_logger().info("job.done", message=message, duration_ms=duration)
    finally:
        structlog.contextvars.clear_contextvars()


def _log_failure(attempt: Attempt, error: BaseException, duration: float) -> None:
    title = _title(attempt)
    log = get_logger()
    if isinstance(error, asyncio.CancelledError):
        message = f"Job {title} was stopped with its worker: it is done again."
        log.warning("job.retried", message=message, duration_ms=duration)
        return
    kind = type(error).__name__
    # These are written for people, without anything secret; all others are told by their places.
    known = isinstance(error, ServiceError)
    reason = error.message if isinstance(error, ServiceError) else f"It met {kind}."
    what = "has failed for good" if attempt.is_last else "has failed and is tried again"
    write = log.error if attempt.is_last else log.warning
    write(
        "job.failed" if attempt.is_last else "job.retried",
        message=f"Job {title} {what}, attempt {attempt.number}. {reason}",
        duration_ms=duration,
        error=kind,
        exception=None if known else "\n".join(places(error)),
    )


def places(error: BaseException) -> Iterator[str]:
    """Tell where an exception and what caused it were raised, without their texts."""
    current: BaseException | None = error
    while current is not None:
        yield f"{type(current).__module__}.{type(current).__qualname__} at"
        for frame in traceback.extract_tb(current.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        context = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or context


def _title(attempt: Attempt) -> str:
    return attempt.job if attempt.job_id is None else f"{attempt.job_id} ({attempt.job})"


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
