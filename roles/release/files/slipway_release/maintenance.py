"""Close the site of a service to the public, by a file that Nginx includes, and open it again."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime, timezone

from slipway_release import durable, journal, metrics, units
from slipway_release.errors import FailedError, RefusedError
from slipway_release.settings import Settings
from slipway_release.state import Store

_MARK = "# slipway: "
_LONGEST_REASON = 200
_NGINX = "nginx.service"


@dataclasses.dataclass(frozen=True)
class Closure:
    """Why, since when and for whom a site is closed.

    Attributes:
        reason: What the public is told besides; '' for nothing.
        who: The person who closed it.
        since: Unix time.
        allowed: Networks that reach the service all the same.
    """

    reason: str
    who: str
    since: float
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, tz=timezone.utc)
        reason = f" ({self.reason})" if self.reason else ""
        allowed = f", open to {', '.join(self.allowed)}" if self.allowed else ""
        return (
            f"closed for maintenance since {since:%Y-%m-%d %H:%M:%S} UTC by {self.who}"
            f"{reason}{allowed}"
        )


def state(settings: Settings) -> Closure | None:
    """Return how the site is closed; None when it is open."""
    try:
        first = settings.maintenance.read_text(encoding="utf-8").partition("\n")[0]
    except FileNotFoundError:
        return None
    values = json.loads(first.removeprefix(_MARK))
    return Closure(**{**values, "allowed": tuple(values["allowed"])})


def close(settings: Settings, reason: str, allow: Sequence[str], who: str) -> str:
    """Answer the public with 503 from now on, whatever is released meanwhile.

    Args:
        settings: The service's settings.
        reason: What the public is told besides; '' for nothing.
        allow: Addresses or networks that reach the service all the same.
        who: The person who asks for it.

    Raises:
        RefusedError: The reason or a network cannot be told to Nginx.
        FailedError: Nginx does not take it; the site is as it was.
    """
    text = " ".join(reason.split())
    if len(text) > _LONGEST_REASON or "$" in text:
        raise RefusedError(
            f"The reason must have at most {_LONGEST_REASON} characters and no $: shorten it."
        )
    closure = Closure(text, who, time.time(), tuple(_network(said) for said in allow))
    _replace(settings, _text(settings, closure))
    _note(settings, f"{settings.app} is {closure}", who)
    return f"{settings.app} is {closure}"


def open_again(settings: Settings, who: str) -> str:
    """Let the public in again; one that is open stays so.

    Raises:
        FailedError: Nginx does not take it; the site is as it was.
    """
    if not settings.maintenance.exists():
        return f"{settings.app} is open already"
    _replace(settings, None)
    _note(settings, f"{settings.app} is open again, by {who}", who)
    return f"{settings.app} is open"


def _network(said: str) -> str:
    try:
        return str(ipaddress.ip_network(said, strict=False))
    except ValueError as error:
        raise RefusedError(
            f"{said!r} is no address and no network: write it like 192.0.2.7 or 192.0.2.0/24."
        ) from error


def _text(settings: Settings, closure: Closure) -> str:
    said = json.dumps(dataclasses.asdict(closure))
    message = f"The service is under maintenance{': ' + closure.reason if closure.reason else '.'}"
    # Nginx puts the text into JSON as it stands.
    inside = json.dumps(message)[1:-1].replace("\\", "\\\\").replace('"', '\\"')
    # The smoke test of a release must get through.
    networks = dict.fromkeys((*_address(settings.smoke_address), *closure.allowed))
    return "\n".join(
        [
            f"{_MARK}{said}",
            f'set $slipway_maintenance "{inside}";',
            *(f"allow {network};" for network in networks),
            "deny all;",
            "error_page 403 = @maintenance;",
            "",
        ]
    )


def _address(said: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(said))]
    except ValueError:
        return []


def _replace(settings: Settings, text: str | None) -> None:
    """Change what Nginx includes, after it has judged the whole of it."""
    path = settings.maintenance
    before = path.read_text(encoding="utf-8") if path.exists() else None
    _put(settings, text)
    answer = subprocess.run(["nginx", "-t", "-q"], check=False, capture_output=True, text=True)
    if answer.returncode:
        _put(settings, before)
        lines = tuple(answer.stderr.strip().splitlines())
        raise FailedError("Nginx refuses its settings, so that nothing was changed.", lines)
    units.reload(_NGINX)


def _put(settings: Settings, text: str | None) -> None:
    path = settings.maintenance
    if text is None:
        durable.remove(path)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    durable.write(path, text)


def _note(settings: Settings, message: str, who: str) -> None:
    journal.send(
        message,
        journal.WARNING,
        APP=settings.app,
        EVENT="slipway.maintenance",
        RELEASE_BY=who,
    )
    metrics.write(settings, Store(settings))
