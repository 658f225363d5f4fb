"""Numbers for Prometheus, of all workers together.

With `PROMETHEUS_MULTIPROC_DIR` set, each worker keeps its numbers in files of that folder, and
whichever worker is asked adds them up
(https://prometheus.github.io/client_python/multiprocess/).
"""

import contextlib
import os
import struct
import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"

# A worker that has just begun makes its files: for an instant they are empty, and cannot be read.
_RETRIES, _RETRY_SECONDS = 5, 0.02

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUESTS = Counter("http_requests", "Requests answered.", ("method", "route", "status"))
DURATION = Histogram(
    "http_request_duration_seconds",
    "Seconds from a request's arrival to the end of its answer.",
    ("method", "route"),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LIMITED = Counter("rate_limited", "Requests refused by a rate limit.", ("endpoint",))
LIMIT_STORE_FAILURES = Counter(
    "rate_limit_store_failures",
    "Rate limits that were counted in the worker's memory because the shared store was down.",
)

DATABASE_UNAVAILABLE = Counter(
    "database_unavailable", "Times that the database could not be used, by the reason.", ("kind",)
)

# The outcomes: hit, miss (loaded and kept), shared (another's load was waited for), bypass (the
# database was asked because the cache was down or the thing was being changed).
CACHE_READS = Counter("cache_reads", "Reads by way of the cache.", ("kind", "outcome"))
CACHE_FAILURES = Counter("cache_failures", "Times that the cache did not answer or was full.")

# Whichever worker is asked has counted them just now.
JOBS = Gauge(
    "jobs",
    "Jobs by what is with them: waiting, running, or dead, which is failed for good.",
    ("queue", "state"),
    multiprocess_mode="mostrecent",
)
WEBSOCKETS = Gauge("websockets_open", "WebSockets that are open.", multiprocess_mode="livesum")
WEBSOCKET_MESSAGES = Counter(
    "websocket_messages",
    "Messages of clients that were taken (in), and those handed to clients (out).",
    ("direction",),
)
WEBSOCKET_CLOSES = Counter("websocket_closes", "WebSockets that have ended.", ("code",))
WEBSOCKET_REFUSALS = Counter("websocket_refusals", "WebSockets that were not opened.", ("status",))
WEBSOCKET_LOST = Counter(
    "websocket_messages_unshared", "Messages that could not be told to the other workers."
)
WEBSOCKET_BUS = Gauge(
    "websocket_bus_up",
    "Whether every worker reaches the others: 0 while the store is away for one of them.",
    multiprocess_mode="livemin",
)
# The codes that may be counted each for itself: clients may send some thousand others.
_CODES = frozenset({1000, 1001, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4401})

_children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}


def observe_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request.

    Args:
        method: as the client sent it; unknown ones are counted together.
        route: the template of the path, so that the number of series stays bounded.
        status: HTTP status of the answer.
        seconds: how long it took.
    """
    key = (method if method in _METHODS else "OTHER", route or UNMATCHED, status)
    found = _children.get(key)
    if found is None:
        found = REQUESTS.labels(key[0], key[1], str(status)), DURATION.labels(key[0], key[1])
        _children[key] = found
    found[0].inc()
    found[1].observe(seconds)


def observe_close(code: int) -> None:
    """Count a WebSocket that has ended, by the code of RFC 6455, or one of ours."""
    WEBSOCKET_CLOSES.labels(str(code) if code in _CODES else "other").inc()


def exposition() -> bytes:
    """Return all numbers in Prometheus' text format; reads files, so not for an event loop."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for _ in range(_RETRIES):
        with contextlib.suppress(struct.error):
            return generate_latest(registry)
        time.sleep(_RETRY_SECONDS)
    return generate_latest(registry)
