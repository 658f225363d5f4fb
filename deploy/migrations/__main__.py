"""The command: `python -m deploy.migrations lint` judges the revisions of a tree.

Exit status: 0 safe, 1 unsafe, 2 they cannot be judged, with a sentence on standard error.
"""

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.artifact.errors import ArtifactError
from deploy.artifact.programs import last_line, run
from deploy.migrations import sources
from deploy.migrations.findings import Report, Revision
from deploy.migrations.lint import lint, read

COMMAND = "python -m migrations plan --json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    try:
        text = sys.stdin.read() if options.stdin else _ask(options.command, options.root)
        revisions = read(text)
        judged = _judged(revisions, options.since)
        reports = lint(revisions, sources.of_folder(options.root), judged)
    except (ArtifactError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([dataclasses.asdict(report) for report in reports], indent=1))
    else:
        print(*_lines(reports), sep="\n")
    return 1 if any(report.findings for report in reports) else 0


def _ask(command: str, root: Path) -> str:
    """Let a tree tell all of its revisions.

    Raises:
        ArtifactError: Its command failed.
    """
    words = [*shlex.split(command), "--from", "base"]
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    answer: subprocess.CompletedProcess[str] = run(words, folder=root, variables={"PATH": path})
    if answer.returncode:
        raise ArtifactError(f"`{shlex.join(words)}` failed: {last_line(answer)}")
    return answer.stdout


def _judged(revisions: list[Revision], since: str | None) -> set[str]:
    names = [revision.id for revision in revisions]
    if since is None:
        return set(names)
    if since not in names:
        raise ArtifactError(f"There is no revision {since} here: --since names one of the plan's.")
    return set(names[names.index(since) + 1 :])


def _lines(reports: list[Report]) -> Iterator[str]:
    for report in reports:
        where = report.path or "a file that is not here"
        if report.findings:
            yield f"{where}: revision {report.revision} ({report.phase}) is UNSAFE"
        for finding in report.findings:
            place = f"line {finding.line} of its SQL: {finding.statement}"
            at = place if finding.statement else f"line {finding.line} of the file"
            yield f"  {finding.rule}, {at}"
            yield f"    {finding.problem}"
            yield f"    Instead: {finding.advice}"
        for rule, reason in report.accepted:
            yield f"{where}: revision {report.revision} accepts {rule}: {reason}"
    unsafe = sum(bool(report.findings) for report in reports)
    if not unsafe:
        yield f"{len(reports)} {'revisions are' if len(reports) != 1 else 'revision is'} safe."
        return
    yield f"{unsafe} of {len(reports)} revisions are unsafe. One that is safe all the same says"
    yield f'why, in its file: {sources.ACCEPTS} = {{"the-rule": "the reason"}}'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.migrations", description=__doc__)
    commands = parser.add_subparsers(dest="verb", required=True)
    judging = commands.add_parser("lint", help="judge the SQL of revisions")
    judging.add_argument("--root", type=Path, default=Path(), help="of the service's tree")
    judging.add_argument("--since", metavar="REVISION", help="judge only those after this one")
    judging.add_argument("--json", action="store_true", help="print JSON")
    origin = judging.add_mutually_exclusive_group()
    origin.add_argument("--stdin", action="store_true", help="read a plan as JSON instead")
    origin.add_argument(
        "--command", default=COMMAND, help=f"prints the revisions as JSON; by default `{COMMAND}`"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
