"""The command: `python -m deploy.artifact build …`, its first half `check`, and `take`."""

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.artifact.build import Artifact, Order, build, check
from deploy.artifact.errors import ArtifactError
from deploy.artifact.given import take
from deploy.artifact.target import Target

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its last line on standard output is JSON, or a checksum where asked.

    Returns:
        The exit status: 0 done, 1 refused, with one sentence on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        print(_run(options))
    except (ArtifactError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> str:
    order = _order(options)
    if options.command == "check":
        _, tag = check(order)
        return json.dumps({"version": tag.name, "commit": tag.commit})
    if options.command == "take":
        taken = take(order, options.artifact, options.sha256)
        return json.dumps({**_answer(taken.artifact), "repository": taken.has_repository})
    artifact = build(order)
    if options.facts:
        _tell(artifact, options.facts)
    if options.checksum:
        return f"{artifact.sha256}  {artifact.path}"
    return json.dumps(_answer(artifact))


def _answer(artifact: Artifact) -> dict[str, str]:
    return {
        "path": str(artifact.path.absolute()),
        "sha256": artifact.sha256,
        "version": artifact.version,
        "commit": artifact.commit,
    }


def _tell(artifact: Artifact, path: Path) -> None:
    """Add what a later job has to know to a file of `NAME=value` lines."""
    with path.open("a", encoding="utf-8") as facts:
        facts.write(f"artifact_file={artifact.path.name}\nartifact_sha256={artifact.sha256}\n")


def _order(options: argparse.Namespace) -> Order:
    signers = options.allowed_signers
    order = Order(
        repository=options.repository,
        tag=options.tag,
        allowed_signers=Path(signers).absolute() if signers else None,
        allow_dirty=options.allow_dirty,
    )
    if options.command == "check":
        return order
    builds = options.command == "build"
    if (options.name or builds) and _NAME.fullmatch(options.name) is None:
        raise ArtifactError(f"{options.name!r} names no service: use a-z, 0-9, - and _.")
    targets = tuple(sorted({Target.parse(text) for text in options.target}))
    order = dataclasses.replace(order, name=options.name, targets=targets)
    if not builds:
        return order
    return dataclasses.replace(order, output=options.output, wheels=options.wheels)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.artifact", description="Build what hosts take as a release."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="only check that the tag may be released")
    building = commands.add_parser("build", help="build the artifact of a tag")
    taking = commands.add_parser("take", help="check an artifact that was built before")
    for command in (checking, building, taking):
        command.add_argument("--repository", type=Path, default=Path())
        command.add_argument("--tag", required=True, help="such as v1.4.2")
        command.add_argument(
            "--allowed-signers",
            help="file of those who may sign; empty or absent: unsigned is fine",
        )
        command.add_argument(
            "--allow-dirty", action="store_true", help="uncommitted changes do not matter"
        )
    building.add_argument("--name", required=True, help="name of the service")
    building.add_argument("--target", action="append", required=True, help="such as 3.11-x86_64")
    building.add_argument("--checksum", action="store_true", help="answer as sha256sum(1) does")
    building.add_argument("--facts", type=Path, help="file that gets the name and the checksum")
    taking.add_argument("--artifact", type=Path, required=True, help="the file")
    taking.add_argument("--sha256", default="", help="its checksum, as it was built")
    taking.add_argument("--name", default="", help="name of the service")
    taking.add_argument("--target", action="append", default=[], help="such as 3.11-x86_64")
    cache = Path(os.environ.get("SLIPWAY_CACHE", ".slipway"))
    building.add_argument("--output", type=Path, default=cache / "artifacts")
    building.add_argument("--wheels", type=Path, default=cache / "wheels")
    return parser


if __name__ == "__main__":
    sys.exit(main())
