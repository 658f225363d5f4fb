"""Unforeseen errors, told to a Sentry or to what speaks its protocol.

A report is made here of what may be told: the kinds of the exceptions and where they were raised,
the release, the operation or the job, the id of the request. Nothing is taken from a request, a
variable or the text of an exception, so that nothing has to be taken out again
(https://develop.sentry.dev/sdk/data-model/event-payloads/).
"""

import asyncio
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from app.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk import Client

_ROOT = f"{Path(__file__).resolve().parents[1]}/"
_PACKAGES = "/site-packages/"
_MINUTE = 60.0
_QUEUED = 50


class ErrorReports:
    """Sends reports from a thread of its own. Making it connects to nothing.

    Nobody waits for it: what the tracker does not take in time is lost, and so is what comes
    faster than the settings allow. Without a DSN it does nothing.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._client = _client(settings) if settings and settings.sentry_dsn else None
        self._flush_seconds = settings.sentry_flush_seconds if settings else 0.0
        self._allowance = _Allowance(settings.sentry_reports_per_minute if settings else 0)

    def report(
        self,
        error: BaseException,
        *,
        route: str | None = None,
        job: str | None = None,
        request_id: str | None = None,
        place: str | None = None,
    ) -> None:
        """Report an error; whatever happens to the report, this does not fail.

        Args:
            error: as it was caught.
            route: method and template of the path of the request that met it.
            job: name of the job that met it.
            request_id: of the request, also of the one that has asked for the job.
            place: what else met it, such as `realtime` or `worker`.
        """
        if self._client is None or not self._allowance.take():
            return
        tags = {"route": route, "job": job, "request_id": request_id, "place": place}
        if lost := self._allowance.lost():
            tags["not_reported_before"] = str(lost)
        # An error tracker must not become a cause of errors.
        with suppress(Exception):
            self._client.capture_event(
                {
                    "level": "error",
                    "transaction": route or job or place or "unknown",
                    "tags": {name: value for name, value in tags.items() if value is not None},
                    "exception": {"values": list(_exceptions(error))},
                }
            )

    async def close(self) -> None:
        """Send what is under way, for a bounded time."""
        if self._client is not None:
            client, self._client = self._client, None
            await asyncio.to_thread(client.close, timeout=self._flush_seconds)


class _Allowance:
    """How many reports may still go out in this minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._began = 0.0
        self._taken = 0
        self._lost = 0

    def take(self) -> bool:
        now = time.monotonic()
        if now - self._began >= _MINUTE:
            self._began, self._taken = now, 0
        if self._taken >= self._per_minute:
            self._lost += 1
            return False
        self._taken += 1
        return True

    def lost(self) -> int:
        """Return how many did not go out since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost


def _client(settings: Settings) -> "Client":
    # It takes memory in each process, which nobody without a tracker should spend.
    from sentry_sdk import Client  # noqa: PLC0415
    from sentry_sdk.consts import CompressionAlgo  # noqa: PLC0415
    from sentry_sdk.transport import HttpTransport  # noqa: PLC0415

    class Transport(HttpTransport):
        TIMEOUT = settings.sentry_timeout  # type: ignore[assignment]

    assert settings.sentry_dsn is not None  # noqa: S101
    return Client(
        dsn=settings.sentry_dsn.get_secret_value(),
        release=settings.release,
        environment=settings.sentry_environment,
        # The name of a host is no secret of a person, but nobody needs it.
        server_name="",
        # They would read requests, variables, the log and the environment.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        send_client_reports=False,
        auto_session_tracking=False,
        transport_queue_size=_QUEUED,
        transport=Transport,
        # Not every tracker that speaks the protocol knows what else might be installed.
        _experiments={"transport_compression_algo": CompressionAlgo.GZIP},
    )


def _exceptions(error: BaseException) -> Iterator[dict[str, Any]]:
    """Return an exception and what caused it, the first cause first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        context = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or context
    for one in reversed(chain):
        told: dict[str, Any] = {"type": type(one).__qualname__, "module": type(one).__module__}
        # What was found afterwards, such as a worker that has ended, was raised nowhere.
        if one.__traceback__ is not None:
            places = traceback.walk_tb(one.__traceback__)
            told["stacktrace"] = {"frames": [_frame(frame, line) for frame, line in places]}
        yield told


def _frame(frame: FrameType, line: int) -> dict[str, Any]:
    """Return a place in the code, told by its path below the release or the packages."""
    path = frame.f_code.co_filename
    shown = path.rpartition(_PACKAGES)[2].removeprefix(_ROOT)
    return {
        "filename": shown,
        "function": frame.f_code.co_qualname,
        "module": frame.f_globals.get("__name__", ""),
        "lineno": line,
        "in_app": path.startswith(_ROOT) and _PACKAGES not in path,
    }
