"""The command: `python -m deploy.artifact build …`, and `check` for its first half alone."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.artifact.build import Order, build, check
from deploy.artifact.errors import ArtifactError
from deploy.artifact.target import Target

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its last line on standard output is JSON.

    Returns:
        The exit status: 0 done, 1 refused, with one sentence on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "check":
            _, tag = check(_order(options))
            answer = {"version": tag.name, "commit": tag.commit}
        else:
            artifact = build(_order(options))
            answer = {
                "path": str(artifact.path.absolute()),
                "sha256": artifact.sha256,
                "version": artifact.version,
                "commit": artifact.commit,
            }
    except (ArtifactError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


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
    if _NAME.fullmatch(options.name) is None:
        raise ArtifactError(f"{options.name!r} names no service: use a-z, 0-9, - and _.")
    return Order(
        repository=order.repository,
        tag=order.tag,
        allowed_signers=order.allowed_signers,
        allow_dirty=order.allow_dirty,
        name=options.name,
        targets=tuple(sorted({Target.parse(text) for text in options.target})),
        output=options.output,
        wheels=options.wheels,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.artifact", description="Build what hosts take as a release."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="only check that the tag may be released")
    building = commands.add_parser("build", help="build the artifact of a tag")
    for command in (checking, building):
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
    cache = Path(os.environ.get("SLIPWAY_CACHE", ".slipway"))
    building.add_argument("--output", type=Path, default=cache / "artifacts")
    building.add_argument("--wheels", type=Path, default=cache / "wheels")
    return parser


if __name__ == "__main__":
    sys.exit(main())
