"""What the host tells of its releases, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from typing import Any

from slipway_release import history, maintenance, schema, units
from slipway_release.lock import holder_of
from slipway_release.settings import Settings
from slipway_release.state import Store


def status(settings: Settings) -> dict[str, Any]:
    """Return what is live, what is installed, and what is under way."""
    store = Store(settings)
    running = units.serving(settings.app)
    holder = holder_of(settings.lock)
    closure = maintenance.state(settings)
    return {
        "app": settings.app,
        "current": store.current(),
        "back": store.last_good(),
        "releases": [
            {
                "version": release.version,
                "verdict": release.verdict,
                "stage": release.stage,
                "commit": release.commit,
                "activated": release.activated,
                "reason": release.reason,
                "running": release.version in running,
            }
            for release in store.all()
        ],
        "schema": _schema(settings, store),
        "operation": dataclasses.asdict(holder) if holder else None,
        "maintenance": dataclasses.asdict(closure) if closure else None,
    }


def _schema(settings: Settings, store: Store) -> dict[str, Any]:
    """Return what was contracted, what waits for it, and the oldest version that can come back."""
    known, live = schema.load(settings), store.current()
    revisions = schema.revisions_of(settings, live) if live else ()
    return {
        "contracted": list(known.contracted),
        "begun": list(known.begun),
        "pending": list(schema.uncontracted(settings, revisions)),
        "floor": schema.floor(settings, store) if known.gone else None,
    }


def status_text(settings: Settings) -> str:
    """Return the same for people."""
    values = status(settings)
    lines = [f"{values['app']}: {values['current'] or 'no release'} is live"]
    for release in values["releases"]:
        mark = "→" if release["version"] == values["current"] else " "
        verdict = release["verdict"] or "not proved"
        if release["stage"] != "installed":
            verdict += ", incomplete"
        running = "running" if release["running"] else "stopped"
        line = (
            f"{mark} {release['version']:<16} {verdict:<20} {running:<8} "
            f"{release['commit'][:12]:<12}  {_when(release['activated'])}"
        )
        lines.append(line.rstrip())
        if release["reason"]:
            lines.append(f"      {release['reason']}")
    lines += _schema_lines(values["schema"])
    if closure := maintenance.state(settings):
        lines.insert(1, f"  {closure}")
    if holder := holder_of(settings.lock):
        lines.append(f"Under way: {holder.verb} {holder.version} by {holder.who}, at {holder.step}")
    return "\n".join(lines)


def _schema_lines(values: dict[str, Any]) -> list[str]:
    lines = []
    if gone := values["contracted"] + values["begun"]:
        floor = values["floor"] or "no release"
        lines.append(f"Contracted: {', '.join(gone)}; the oldest that can come back is {floor}")
    if values["begun"]:
        lines.append(f"Begun and not seen to end: {', '.join(values['begun'])}: `slipway contract`")
    elif values["pending"]:
        lines.append(f"Waiting to be contracted: {', '.join(values['pending'])}")
    return lines


def history_text(settings: Settings, *, as_json: bool, last: int | None = None) -> str:
    """Return the history, oldest first; all of it, or its last entries."""
    entries = history.read(settings)
    if last is not None:
        entries = entries[-last:] if last > 0 else []
    if as_json:
        return json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1)
    return "\n".join(str(entry) for entry in entries) or "Nothing was released here yet."


def _when(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{datetime.fromtimestamp(seconds, tz=timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
