"""A tag's tree with its packages on the controller, so that its own commands can be asked.

The wheels are those of the cache of artifacts: what a release fetches later is there then.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.markers import Marker

from deploy.artifact import requirements
from deploy.artifact.errors import ArtifactError
from deploy.artifact.programs import last_line, run, uv
from deploy.artifact.repository import Repository, Tag
from deploy.artifact.target import Target
from deploy.artifact.wheels import Cache

_KEPT = 3
_SECONDS = 120
# Where a command of the tag runs, there is nothing of the operator's: no key, no password.
_VARIABLES = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


class Tree:
    """The tree of one commit below a folder of plans."""

    def __init__(self, repository: Repository, tag: Tag, plans: Path, wheels: Path) -> None:
        """Make the tree and its virtual environment, or find those made before.

        Raises:
            ArtifactError: A package has no wheel for this controller, or cannot be fetched.
        """
        plans.mkdir(parents=True, exist_ok=True)
        self.folder = plans.absolute() / tag.commit
        if self.folder.is_dir():
            os.utime(self.folder)
            return
        temporary = self.folder.with_name(f".{tag.commit}.{os.getpid()}")
        try:
            files = _write(repository, tag, temporary / "tree")
            _install(files, temporary, wheels)
            temporary.rename(self.folder)
        except OSError:
            # Another plan of the same commit was faster.
            if not self.folder.is_dir():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _prune(plans)

    def run(self, command: list[str]) -> str:
        """Run a command of the tree and return what it printed.

        Raises:
            ArtifactError: It failed, took too long, or is not there; the message says which.
        """
        path = f"{self.folder / 'venv/bin'}:{os.environ.get('PATH', os.defpath)}"
        what = " ".join(command)
        program = shutil.which(command[0], path=path)
        if program is None:
            raise ArtifactError(f"there is no program {command[0]} for `{what}`")
        try:
            answer = subprocess.run(
                [program, *command[1:]],
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                cwd=self.folder / "tree",
                env={**_VARIABLES, "PATH": path, "HOME": str(self.folder)},
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise ArtifactError(f"`{what}` took longer than {_SECONDS} seconds") from error
        if answer.returncode:
            raise ArtifactError(f"`{what}` failed: {last_line(answer)}")
        return answer.stdout


def _write(repository: Repository, tag: Tag, folder: Path) -> dict[str, bytes]:
    """Write the tree, links last so that no file is written through one; return the lock files."""
    chosen, links = {}, {}
    for entry, contents in repository.contents(repository.tree(tag)):
        place = folder / entry.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_link:
            links[place] = contents.decode("utf-8", "surrogateescape")
            continue
        place.write_bytes(contents)
        place.chmod(entry.mode)
        if requirements.tells(entry.path):
            chosen[entry.path] = contents
    for place, target in links.items():
        place.symlink_to(target)
    return chosen


def _install(files: dict[str, bytes], folder: Path, wheels: Path) -> None:
    target = Target(sys.version_info.minor, platform.machine())
    pins = [
        pin
        for pin in requirements.for_target(requirements.of_tree(files), target)
        if not pin.marker or Marker(pin.marker).evaluate()
    ]
    found = Cache(wheels).get(pins, target)
    cache = os.environ.get("UV_CACHE_DIR") or wheels.absolute().parent / "cache/uv"
    variables = {"UV_CACHE_DIR": str(cache), "UV_PYTHON_DOWNLOADS": "never"}
    quiet = ("--quiet", "--offline", "--no-config")
    commands: list[list[str | Path]] = [
        [uv(), "venv", *quiet, "--relocatable", f"--python={sys.executable}", folder / "venv"],
        [
            *(uv(), "pip", "install", *quiet, "--no-deps", "--no-index"),
            f"--python={folder / 'venv/bin/python'}",
            *(wheel.path.absolute() for wheel in found.values()),
        ],
    ]
    # A service without packages has nothing to install.
    for command in commands if found else commands[:1]:
        answer = run(command, folder=folder, variables=variables)
        if answer.returncode:
            raise ArtifactError(f"uv cannot install the packages of the tag: {last_line(answer)}")


def _prune(plans: Path) -> None:
    found = sorted(
        (folder for folder in plans.iterdir() if not folder.name.startswith(".")),
        key=lambda folder: folder.stat().st_mtime,
    )
    for old in found[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
