"""The command of the push repository: sshd, git and the set-up call it.

`set-up` is `make push-host`. `serve` is what sshd runs for a key, `pre-receive` and `post-receive`
are git's hooks, `run` is the release itself.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.push import hooks, release, runs
from deploy.push.errors import PushError
from deploy.push.serve import serve
from deploy.push.settings import load
from deploy.push.setup import Wish, set_up

KIT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 1 refused, with one sentence on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "set-up":
            set_up(_wish(options), _say)
            return 0
        return _on_host(options)
    except PushError as error:
        print(error, file=sys.stderr)
    except BrokenPipeError:
        # Nobody listens any more; the release goes on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _on_host(options: argparse.Namespace) -> int:
    if options.settings is None:
        raise PushError(f"{options.command} needs --settings=FILE.")
    settings = load(options.settings)
    match options.command:
        case "serve":
            wanted = os.environ.get("SSH_ORIGINAL_COMMAND", "")
            return serve(settings, options.settings, options.key, wanted, _say)
        case "pre-receive":
            return hooks.pre_receive(settings, sys.stdin)
        case "post-receive":
            return hooks.post_receive(settings, options.settings, sys.stdin, _say)
    run = runs.read(settings.runs / f"{options.name}.json")
    if run is None:
        raise PushError(f"There is no run {options.name} in {settings.runs}.")
    return release.carry_out(settings, run)


def _wish(options: argparse.Namespace) -> Wish:
    if os.geteuid() != 0:
        raise PushError("Making an account needs root: run `sudo make push-host …`.")
    inventory = options.inventory.absolute()
    if not inventory.exists():
        raise PushError(f"There is no inventory {options.inventory}.")
    beside = inventory if inventory.is_dir() else inventory.parent
    return Wish(
        name=options.name or None,
        kit=KIT,
        inventory=inventory,
        keys=options.keys,
        allowed_signers=options.allowed_signers or beside / "allowed_signers",
        arguments=tuple(shlex.split(options.arguments)),
        downgrades=options.downgrades == "yes",
        check=options.check,
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.push", description=__doc__)
    parser.add_argument("--settings", type=Path, help="file that the set-up wrote")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("set-up", help="make this machine take pushes (root)")
    making.add_argument("--inventory", type=Path, required=True, help="hosts of the service")
    making.add_argument("--keys", type=Path, required=True, help="public keys that may push")
    making.add_argument("--name", help="of the repository; app_name of the inventory by default")
    making.add_argument(
        "--allowed-signers", type=Path, help="who may sign; beside the inventory by default"
    )
    making.add_argument("--arguments", default="", help="further ones of ansible-playbook")
    making.add_argument("--downgrades", choices=("yes", "no"), default="no")
    making.add_argument("--check", action="store_true", help="only tell what would change")
    serving = commands.add_parser("serve", help="answer a client of sshd")
    serving.add_argument("--key", required=True, help="name of the client's key")
    commands.add_parser("pre-receive", help="judge a push")
    commands.add_parser("post-receive", help="release what was pushed")
    running = commands.add_parser("run", help="release, to the end")
    running.add_argument("name", help="of the run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
