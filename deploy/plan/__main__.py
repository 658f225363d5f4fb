"""The command: `python -m deploy.plan --tag … --from …` tells, and changes nothing."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.artifact.errors import ArtifactError
from deploy.plan.fleet import Fleet, Host, parse
from deploy.plan.plan import Question, make
from deploy.plan.schema import Workplace
from deploy.plan.text import lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0 told, 1 the tag may not be released, with one sentence on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        plan = make(_question(options))
    except (ArtifactError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(dataclasses.asdict(plan), indent=1))
    else:
        print(*lines(plan), sep="\n")
    return 0


def _question(options: argparse.Namespace) -> Question:
    signers = options.allowed_signers
    return Question(
        repository=options.repository,
        tag=options.tag,
        allowed_signers=Path(signers).absolute() if signers else None,
        fleet=_fleet(options),
        place=Workplace(options.command, options.plans, options.wheels),
    )


def _fleet(options: argparse.Namespace) -> Fleet:
    if options.fleet is None:
        return Fleet((Host("every host", options.live),))
    text = sys.stdin.read() if options.fleet == "-" else Path(options.fleet).read_text("utf-8")
    return parse(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.plan", description="Tell what a release would do."
    )
    parser.add_argument("--repository", type=Path, default=Path())
    parser.add_argument("--tag", required=True, help="such as v1.4.2")
    parser.add_argument(
        "--allowed-signers", help="file of those who may sign; empty or absent: unsigned is fine"
    )
    hosts = parser.add_mutually_exclusive_group()
    hosts.add_argument("--from", dest="live", help="the version that is live; absent: nothing is")
    hosts.add_argument("--fleet", help="file that says it of each host as JSON, - for the input")
    parser.add_argument(
        "--command",
        default="",
        help="of the tag's tree: prints its pending revisions as JSON; absent: no SQL is shown",
    )
    parser.add_argument("--plans", type=Path, default=Path(".slipway/plan"))
    parser.add_argument("--wheels", type=Path, default=Path(".slipway/wheels"))
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--text", action="store_true", help="print lines, which is the default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
