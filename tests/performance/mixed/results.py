"""Reads what locust wrote, and tells it in a table and two pictures."""

import csv
from dataclasses import dataclass
from pathlib import Path

import plotext

_WIDTH, _HEIGHT = 76, 11


@dataclass(frozen=True)
class Row:
    """What came of one kind of request; times are in milliseconds.

    Attributes:
        name: Of the kind; `together` for all of them.
        requests: Answered or failed.
        failed: Of them.
        rate: Requests a second.
        median: Of the times of the answers.
        p95: 95th percentile of them.
        p99: 99th percentile of them.
    """

    name: str
    requests: int
    failed: int
    rate: float
    median: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Moment:
    """What was so at one second: requests a second and milliseconds."""

    second: int
    rate: float
    p95: float


def read_rows(path: Path) -> list[Row]:
    """Return the kinds of requests, all of them together last."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            name = "together" if line["Name"] == "Aggregated" else line["Name"]
            times = [_number(line[column]) for column in ("50%", "95%", "99%")]
            counts = int(line["Request Count"]), int(line["Failure Count"])
            rows.append(Row(name, *counts, float(line["Requests/s"]), *times))
    return rows


def read_moments(path: Path) -> list[Moment]:
    """Return how it went, second by second, from when all visitors were there.

    The rate is counted from one line to the next: locust's own is a mean of ten seconds, and lags.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["Name"] == "Aggregated"]
    counts = [(int(line["Timestamp"]), int(line["Total Request Count"])) for line in lines]
    begin = 0
    moments: list[Moment] = []
    for (earlier, before), (now, count), line in zip(counts, counts[1:], lines[1:], strict=False):
        if count < before:
            # Locust forgets what it counted while visitors arrived.
            begin, moments = now, []
        elif now > earlier:
            rate = (count - before) / (now - earlier)
            moments.append(Moment(now - (begin or counts[0][0]), rate, _number(line["95%"])))
    return moments


def table(rows: list[Row]) -> list[str]:
    """Return the lines of the table."""
    lines = ["            requests  failed  requests/s    median       p95       p99"]
    lines += [
        f"{row.name:<10}{row.requests:10}{row.failed:8}{row.rate:12.1f}"
        f"{row.median:7.0f} ms{row.p95:7.0f} ms{row.p99:7.0f} ms"
        for row in rows
    ]
    return lines


def plots(moments: list[Moment]) -> str:
    """Return the requests a second and the 95th percentile over time, as text."""
    seconds = [moment.second for moment in moments]
    pictures = [
        ("requests a second", [moment.rate for moment in moments]),
        ("95th percentile of the answers, ms", [moment.p95 for moment in moments]),
    ]
    return "\n\n".join(_plot(title, seconds, values) for title, values in pictures)


def _plot(title: str, seconds: list[int], values: list[float]) -> str:
    figure = plotext.figure
    figure.clear()
    figure.plot_size(_WIDTH, _HEIGHT)
    figure.title(title)
    line = figure.signal(seconds, values)
    line.lines(True)
    figure.draw(line)
    text: str = plotext.uncolorize(figure.build())
    return text


def _number(text: str) -> float:
    """Read a number; a kind of request that was never answered has none."""
    return 0.0 if text == "N/A" else float(text)
