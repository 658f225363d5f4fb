"""What a monitor asks of releases: a file in the format of Prometheus, for node_exporter to read.

The format is https://prometheus.io/docs/instrumenting/exposition_formats/, the reader the textfile
collector of node_exporter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from slipway_release import durable, history, journal
from slipway_release.history import Entry
from slipway_release.settings import Settings
from slipway_release.state import Store

_Samples = list[tuple[Mapping[str, str], float]]


def write(settings: Settings, store: Store) -> None:
    """Rewrite the file; where that fails, the journal says so and nothing else happens."""
    try:
        durable.write(settings.metrics, text(settings, store))
    except OSError as error:
        journal.send(
            f"{settings.app}: the metrics could not be written to {settings.metrics}: {error}",
            journal.WARNING,
            APP=settings.app,
        )


def text(settings: Settings, store: Store) -> str:
    """Return the metrics of a service's releases."""
    lines = []
    for name, kind, meaning, samples in _families(settings, store):
        lines += [f"# HELP slipway_{name} {meaning}", f"# TYPE slipway_{name} {kind}"]
        for labels, value in samples:
            pairs = {"app": settings.app, **labels}.items()
            inside = ",".join(f'{key}="{_escaped(said)}"' for key, said in pairs)
            lines.append(f"slipway_{name}{{{inside}}} {value:.15g}")
    return "\n".join(lines) + "\n"


def _families(settings: Settings, store: Store) -> Iterator[tuple[str, str, str, _Samples]]:
    live = store.get(store.current() or "")
    info: _Samples = [({"version": live.version, "commit": live.commit}, 1.0)] if live else []
    yield "release_info", "gauge", "The release that is live.", info
    closed = float(settings.maintenance.exists())
    yield "maintenance", "gauge", "Whether the site is closed for maintenance.", [({}, closed)]
    entries = history.read(settings)
    counts = Counter((entry.verb, entry.result) for entry in entries)
    totals: _Samples = [
        ({"verb": verb, "result": result}, float(number))
        for (verb, result), number in sorted(counts.items())
    ]
    yield "operations_total", "counter", "Releases and rollbacks that came to an end.", totals
    if entries:
        yield from _last(entries[-1])


def _last(entry: Entry) -> Iterator[tuple[str, str, str, _Samples]]:
    which = {"verb": entry.verb, "version": entry.version}
    good = float(entry.result == "good")
    yield "last_operation_success", "gauge", "Whether the last one was good.", [(which, good)]
    yield (
        "last_operation_end_timestamp_seconds",
        "gauge",
        "Unix time of its end.",
        [(which, entry.started + entry.seconds)],
    )
    yield (
        "last_operation_duration_seconds",
        "gauge",
        "Seconds from its command to its end.",
        [(which, entry.seconds)],
    )
    if entry.traffic is not None:
        yield (
            "last_operation_traffic_seconds",
            "gauge",
            "Seconds from its command to the switch.",
            [(which, entry.traffic)],
        )
    steps: _Samples = [({"step": step}, seconds) for step, seconds in entry.steps.items()]
    yield "last_operation_step_seconds", "gauge", "Seconds of each of its steps.", steps


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
