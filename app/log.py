"""Structured log lines: for the journal, for a terminal, or as JSON.

`structlog` makes the records, and the standard library's loggers (of Uvicorn, Gunicorn, SQLAlchemy)
are led into it, so every line has the same shape and goes the same way.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from app.journal import PRIORITIES, JournalSocket, encode, runs_under_journal
from app.settings import Settings

LEVELS = ("debug", "info", "warning", "error", "critical")
# An opened WebSocket, a refused one, and a client that sends broken UTF-8.
_SAID_BETTER = ('"WebSocket ', "without completing handshake", "Invalid UTF-8 sequence")
LIBRARY_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "gunicorn.error", "sqlalchemy")


def get_logger() -> FilteringBoundLogger:
    """Return a logger; its first argument names the event, `message` says it to people."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


class JournalRenderer:
    """The last processor on the way to the journal: from an event to an encoded record."""

    def __init__(self, settings: Settings) -> None:
        self._fixed = encode(
            {"SYSLOG_IDENTIFIER": settings.syslog_identifier, "RELEASE": settings.release}
        )

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> bytes:
        """Return the record of an event."""
        level = event.pop("level", "info")
        name = event.pop("event", "")
        message = event.pop("message", None)
        fields: MutableMapping[str, Any] = {"PRIORITY": PRIORITIES.get(level, 6)}
        if message is not None:
            fields["EVENT"] = name
        text = str(name if message is None else message)
        trace = event.get("exception")
        fields["MESSAGE"] = f"{text}\n{trace}" if trace else text
        fields.update((key, value) for key, value in event.items() if value is not None)
        return self._fixed + encode(fields)


class Sink:
    """What structlog takes for a logger: every level writes the rendered record to one place."""

    def __init__(self, journal: JournalSocket | None) -> None:
        self._journal = journal

    def msg(self, record: bytes | str) -> None:
        """Write one rendered record to the journal, or else as a line to standard error."""
        if self._journal is not None:
            self._journal.send(record if isinstance(record, bytes) else record.encode())
            return
        text = record.decode() if isinstance(record, bytes) else record
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = exception = fatal = log = msg


class LibraryHandler(logging.Handler):
    """Leads the records of the standard library's loggers into structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record again, with the name of its logger."""
        level = record.levelname.lower()
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(get_logger(), level if level in LEVELS else "info")(record.getMessage(), **fields)


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:
        # It knows neither integers beyond 64 bits nor lone surrogates; no line may be lost.
        return json.dumps(event, default=str).encode()


def _output(settings: Settings) -> str:
    if settings.log_output != "auto":
        return settings.log_output
    if runs_under_journal():
        return "journal"
    return "console" if sys.stderr.isatty() else "json"


def configure(settings: Settings, journal: JournalSocket | None = None) -> None:
    """Set up structlog and the standard library's loggers for the whole process.

    Args:
        settings: decide on the level and the output.
        journal: the socket to write to, for a journal that is not at the usual place.
    """
    output = _output(settings)
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    if output == "journal":
        journal = journal or JournalSocket()
        processors += [structlog.processors.format_exc_info, JournalRenderer(settings)]
    elif output == "json":
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        processors += [stamp, structlog.processors.format_exc_info, _render_json]
    else:
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        processors += [stamp, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    sink = Sink(journal if output == "journal" else None)
    level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    _lead_libraries(level)


def _is_news(record: logging.LogRecord) -> bool:
    """Pass over what Uvicorn says of WebSockets: the service's own lines say more."""
    return not any(text in str(record.msg) for text in _SAID_BETTER)


def _lead_libraries(level: int) -> None:
    handler = LibraryHandler()
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.INFO))
    for name in LIBRARY_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    # In the place of a filter that an application before this one has added.
    logging.getLogger("uvicorn.error").filters = [_is_news]
    # One access line a request is written by the service itself, with more fields.
    access = logging.getLogger("uvicorn.access")
    access.handlers = []
    access.propagate = False
