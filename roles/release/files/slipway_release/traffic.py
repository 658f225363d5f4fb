"""How the requests of the public went, counted from what the journal holds of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from slipway_release import journal, units
from slipway_release.settings import Settings

_SERVER_ERROR = 500


@dataclasses.dataclass(frozen=True)
class Traffic:
    """A number of requests, and how many of them the service failed to answer (status 5xx)."""

    requests: int = 0
    errors: int = 0

    @property
    def ratio(self) -> float:
        """Share of the failed requests, 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.errors + other.errors)

    def __str__(self) -> str:
        return f"{self.errors} of {self.requests} requests ({self.ratio:.1%})"


def of_service(settings: Settings, version: str, since: float, until: float) -> Traffic:
    """Count what a release recorded itself, in the journal's fields HTTP_STATUS and HTTP_ROUTE.

    Args:
        settings: The service's settings.
        version: The release.
        since: Unix time.
        until: Unix time.
    """
    match = f"_SYSTEMD_UNIT={units.service(settings.app, version)}"
    records = _objects(
        journal.between(
            since, until, match, "--output=json", "--output-fields=HTTP_STATUS,HTTP_ROUTE"
        )
    )
    own = {settings.health_path, settings.ready_path}
    return _count(
        record["HTTP_STATUS"]
        for record in records
        if "HTTP_STATUS" in record and record.get("HTTP_ROUTE") not in own
    )


def of_nginx(settings: Settings, since: float, until: float) -> Traffic:
    """Count what Nginx passed on to the service; it also notices workers that died on the way."""
    records = _objects(journal.between(since, until, "--identifier=nginx", "--output=cat"))
    own = {settings.health_path, settings.ready_path}
    return _count(
        record.get("status")
        for record in records
        if record.get("host") == settings.smoke_host
        and record.get("path") not in own
        # What Nginx answered by itself says nothing about the service.
        and record.get("upstream_status") not in {None, "", "-"}
    )


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def _count(statuses: Iterable[object]) -> Traffic:
    requests = errors = 0
    for status in statuses:
        with contextlib.suppress(ValueError):
            errors += int(str(status)) >= _SERVER_ERROR
            requests += 1
    return Traffic(requests, errors)
