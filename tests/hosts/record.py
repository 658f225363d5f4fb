"""What became of releases that were hit, as a table of docs/reliability.md."""

import dataclasses

from tests.hosts.load import Report


@dataclasses.dataclass
class Row:
    """What became of the releases that one fault has hit."""

    finished: int = 0
    returned: int = 0
    requests: int = 0
    failed: int = 0


class Record:
    """What became of all releases, as the table of docs/reliability.md tells it."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def add(self, fault: str, finished: bool, report: Report | None) -> None:
        row = self.rows.setdefault(fault, Row())
        row.finished += finished
        row.returned += not finished
        row.requests += report.requests if report else 0
        row.failed += len(report.failures) if report else 0

    def __str__(self) -> str:
        lines = [
            "| What happens | Releases hit | Finished | Went back | Requests | Failed |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for fault, row in self.rows.items():
            hits = row.finished + row.returned
            asked = f"{row.requests:,} | {row.failed:,}" if row.requests else "not counted | "
            lines.append(f"| {fault} | {hits} | {row.finished} | {row.returned} | {asked} |")
        return "\n".join(lines) + "\n"
