"""Run a program of the live release as the service's user, inside the service's sandbox.

The role `app` writes what it runs with, so that a program that an operator starts can do, reach and
read what the service can, and nothing else.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
from collections.abc import Sequence

from slipway_release import units
from slipway_release.errors import FailedError, RefusedError
from slipway_release.settings import Settings
from slipway_release.state import Store


def run(settings: Settings, words: Sequence[str], who: str) -> int:
    """Run a program in the terminal, or with the files, of whoever calls.

    Args:
        settings: The service's settings.
        words: The program, by its name in the release's virtual environment, and its arguments.
        who: The person who asks for it, told to the program by SLIPWAY_OPERATOR.

    Returns:
        The exit status of the program.

    Raises:
        RefusedError: No release is live, or it has no such program.
    """
    version = Store(settings).current()
    if version is None:
        raise RefusedError(f"No release of {settings.app} is live here: release one first.")
    folder = settings.release(version) / ".venv/bin"
    name, *arguments = words
    if "/" in name or not (folder / name).is_file():
        raise RefusedError(f"{version} has no program {name!r}: choose one of those in {folder}.")
    unit = f"slipway-{settings.app}-run-{secrets.token_hex(4)}.service"
    command = [
        # With both, systemd-run takes the terminal where there is one, or else the files.
        *("systemd-run", "--wait", "--collect", "--quiet", "--pty", "--pipe"),
        *(f"--unit={unit}", f"--description={settings.app} {version}: {name}"),
        *(f"--property={line}" for line in _properties(settings, version)),
        *(f"--setenv=SLIPWAY_OPERATOR={who}", "--", str(folder / name)),
        # systemd would put a variable in the place of what stands after a dollar sign.
        *(argument.replace("$", "$$") for argument in arguments),
    ]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        with contextlib.suppress(FailedError):
            units.stop(unit)
        raise FailedError(f"{name} was interrupted.") from None


def console(settings: Settings, arguments: Sequence[str], who: str) -> int:
    """Run what the inventory calls the console of the service, with further arguments.

    Raises:
        RefusedError: It names none, or the program cannot be run.
    """
    if not settings.console_command:
        raise RefusedError(
            f"{settings.app} has no console: set app_console_command in the inventory and run "
            f"playbook.yml, or run a program of the release with `slipway run`."
        )
    return run(settings, [*shlex.split(settings.console_command), *arguments], who)


def _properties(settings: Settings, version: str) -> list[str]:
    path = settings.run_properties
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise RefusedError(f"{path} is missing: run playbook.yml first.") from error
    return [line.replace("%i", version) for line in lines if line and not line.startswith("#")]
