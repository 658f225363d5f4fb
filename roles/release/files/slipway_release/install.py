"""The steps that bring a release onto the disk; what is complete there already stays."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

from slipway_release import deploy_user, durable, environment, restore, room
from slipway_release.errors import FailedError
from slipway_release.settings import Settings
from slipway_release.state import Release
from slipway_release.work import Work

# Isolated from the environment and the working directory of whoever calls.
_UNPACK = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from slipway_release.unpack import main; sys.exit(main(sys.argv[1:]))"
)
_PRESENT = "there already"


def require_room(work: Work) -> str:
    """Refuse a release that the disk cannot hold."""
    settings, release, manifest = work.settings, _known(work), work.manifest
    saved = restore.size(work)
    if manifest is None or is_installed(settings, release):
        return room.require_restore_point(settings, work.version, saved) if saved else _PRESENT
    return room.require(settings, manifest, work.kind, saved)


def unpack(work: Work) -> str:
    """Write the tree of the release and the wheels that it needs."""
    settings, release = work.settings, _known(work)
    if is_installed(settings, release):
        return _PRESENT
    work.save(dataclasses.replace(release, stage="incomplete", reason=""))
    remove_folder(settings, work.version)
    wheels = environment.wheels_folder(settings)
    deploy_user.own(settings, wheels)
    package = Path(__file__).parents[1]
    command: list[str | Path] = [
        *(sys.executable, "-I", "-B", "-c", _UNPACK, package),
        *(settings.artifact(work.version), work.kind, settings.release(work.version), wheels),
    ]
    deploy_user.run(settings, command, settings.state)
    return ""


def make_environment(work: Work) -> str:
    """Make the virtual environment and bring the whole release to the disk."""
    settings, release, manifest = work.settings, _known(work), work.manifest
    if is_installed(settings, release) or manifest is None:
        return _PRESENT
    folder = settings.release(work.version)
    environment.make(settings, manifest, work.kind)
    socket = settings.sockets / f"{work.version}.sock"
    deploy_user.run(settings, ["ln", "-sfn", socket, folder / "web.sock"], folder)
    durable.sync_filesystem(settings.releases)
    work.save(dataclasses.replace(release, stage="installed"))
    return ""


def is_installed(settings: Settings, release: Release) -> bool:
    """Tell whether the folder of a release is complete."""
    python = settings.release(release.version) / ".venv/bin/python"
    return release.stage == "installed" and python.exists()


def remove_folder(settings: Settings, version: str) -> None:
    """Remove the folder of a release, if there is one."""
    folder = settings.release(version)
    if folder.is_dir():
        shutil.rmtree(folder)


def _known(work: Work) -> Release:
    if work.release is None:
        raise FailedError("The release was not verified before it was installed.")
    return work.release
