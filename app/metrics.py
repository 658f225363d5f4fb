"""Numbers for Prometheus, of all workers together.

With `PROMETHEUS_MULTIPROC_DIR` set, each worker keeps its numbers in files of that folder, and
whichever worker is asked adds them up
(https://prometheus.github.io/client_python/multiprocess/).
"""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"

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


def exposition() -> bytes:
    """Return all numbers in Prometheus' text format; reads files, so not for an event loop."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
