"""Tell the outside what came of an operation: a webhook, Grafana, and mail.

It is done by a unit of its own, when the operation is decided already, so that whoever listens
badly delays nothing and changes nothing. The text of a webhook is Slack's:
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, that of an annotation
Grafana's: https://grafana.com/docs/grafana/latest/developers/http_api/annotations
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from slipway_release import history, journal
from slipway_release.announcements import Announcements, load
from slipway_release.errors import RefusedError
from slipway_release.history import Entry
from slipway_release.settings import Settings

_PATIENCE_SECONDS = 5.0


def begin(settings: Settings, operation: str) -> None:
    """Have an entry of the history announced, without waiting for it."""
    try:
        if not settings.announcements.exists() or not load(settings.announcements):
            return
    except RefusedError as error:
        _warn(settings, str(error).rstrip("."))
        return
    program = [sys.executable, "-I", str(Path(sys.argv[0]).absolute())]
    command = [
        *("systemd-run", "--quiet", "--collect", "--no-block"),
        f"--unit=slipway-{settings.app}-announce-{operation}",
        f"--description=Announcement of a release of {settings.app}",
        # At boot the network may come later than the recovery of an interrupted release.
        *("--property=Wants=network-online.target", "--property=After=network-online.target"),
        *("--property=ProtectSystem=strict", "--property=NoNewPrivileges=yes"),
        f"--property=RuntimeMaxSec={2 * _PATIENCE_SECONDS + 5:g}",
        *("--", *program, f"--app={settings.app}", "_announce", operation),
    ]
    try:
        answer = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        _warn(settings, "systemd did not start the announcement of a release")
    else:
        if answer.returncode:
            _warn(settings, f"systemd did not start the announcement: {answer.stderr.strip()}")


def send(settings: Settings, operation: str) -> None:
    """Announce an entry of the history to everyone who is configured; troubles are only noted.

    Raises:
        RefusedError: There is no such entry, or the addresses cannot be read.
    """
    entries = [entry for entry in history.read(settings) if entry.id == operation]
    if not entries:
        raise RefusedError(f"The history of {settings.app} has no operation {operation}.")
    where, entry = load(settings.announcements), entries[-1]
    ways: dict[str, Callable[[], None]] = {}
    if where.webhook_url:
        ways["the webhook"] = lambda: _post(where, where.webhook_url, _message(settings, entry))
    if where.grafana_url:
        ways["Grafana"] = lambda: _annotate(where, settings, entry)
    if where.mail_host:
        ways["the mail"] = lambda: _mail(where, settings, entry)
    threads = [
        # Whoever does not answer is left behind: the process ends without such a thread.
        threading.Thread(target=_try, args=(settings, name, way), daemon=True)
        for name, way in ways.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for name, thread in zip(ways, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            _warn(settings, f"{name} took longer than {_PATIENCE_SECONDS:g} s")


def _try(settings: Settings, name: str, way: Callable[[], None]) -> None:
    try:
        way()
    except Exception as error:  # noqa: BLE001
        _warn(settings, f"{name} did not take the announcement: {_trouble(error)}")


def _trouble(error: BaseException) -> str:
    """Describe an error without its own words, which may hold the secret address."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        error = error.reason
    said = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f' ({said})' if said else ''}"


def _warn(settings: Settings, message: str) -> None:
    journal.send(
        f"{settings.app}: {message}.", journal.WARNING, APP=settings.app, EVENT="slipway.announce"
    )


def sentence(settings: Settings, entry: Entry) -> str:
    """Return what is announced, in a line."""
    traffic = "" if entry.traffic is None else f", traffic after {entry.traffic:.1f} s"
    return (
        f"{settings.app} on {socket.gethostname()}: {entry.what} by "
        f"{entry.who}: {entry.result} after {entry.seconds:.1f} s{traffic}"
        f"{'. ' + entry.reason if entry.reason else ''}"
    )


def _message(settings: Settings, entry: Entry) -> dict[str, Any]:
    # Slack gives a meaning to three characters, and takes their entities instead.
    text = html.escape(sentence(settings, entry), quote=False)
    fields = dataclasses.asdict(entry)
    return {"text": text, "app": settings.app, "host": socket.gethostname(), **fields}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What was meant for one address is not sent to another."""

    def redirect_request(self, *_: object) -> None:
        return None


def _annotate(where: Announcements, settings: Settings, entry: Entry) -> None:
    message = {
        "time": round(entry.started * 1000),
        "timeEnd": round((entry.started + entry.seconds) * 1000),
        "tags": ["slipway", settings.app, entry.verb, entry.result, entry.version],
        "text": html.escape(sentence(settings, entry)),
    }
    url = f"{where.grafana_url.rstrip('/')}/api/annotations"
    _post(where, url, message, {"Authorization": f"Bearer {where.grafana_token}"})


def _post(
    where: Announcements,
    url: str,
    message: dict[str, Any],
    headers: Mapping[str, str] | None = None,
) -> None:
    proxies = {"http": where.proxy, "https": where.proxy} if where.proxy else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect)
    request = urllib.request.Request(  # noqa: S310
        url,
        data=json.dumps(message).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "slipway", **(headers or {})},
    )
    with opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
        answer.read(1024)


def _mail(where: Announcements, settings: Settings, entry: Entry) -> None:
    message = EmailMessage()
    message["Subject"] = f"[{settings.app}] {entry.verb} of {entry.version}: {entry.result}"
    message["From"] = where.mail_from
    message["To"] = ", ".join(where.mail_to)
    steps = "".join(f"  {name:<13} {seconds:6.2f} s\n" for name, seconds in entry.steps.items())
    message.set_content(f"{sentence(settings, entry)}\n\n{steps}")
    host = socket.gethostname()
    server = smtplib.SMTP(where.mail_host, where.mail_port, host, timeout=_PATIENCE_SECONDS)
    with contextlib.closing(server):
        if where.mail_starttls:
            server.starttls(context=ssl.create_default_context())
        if where.mail_user:
            server.login(where.mail_user, where.mail_password)
        server.send_message(message)
        server.quit()
