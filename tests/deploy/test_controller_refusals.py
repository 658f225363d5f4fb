"""What cannot work is refused in one sentence, before anything is touched."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "dirname", "git", "cut", "head", "paste", "grep", "printf")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A small repository that has the scripts in it, with one commit."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "deploy/controller", folder / "deploy/controller")
    (folder / "README.md").write_text("One.\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "One"]):
        git(folder, *arguments)
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


def require(
    clone: Path, *needs: str, user: int = 0, debian: bool = True, version: str = ""
) -> tuple[int, str]:
    """Runs the check where only the tools exist that the machine is said to have."""
    tools = clone.parent / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    fakes = {"id": f"echo {user}"} | ({"apt-get": ":", "dpkg-query": ":"} if debian else {})
    for name, text in fakes.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    answer = subprocess.run(
        [str(clone / "deploy/controller/require.sh"), "demo", *needs],
        env={"PATH": str(tools), "VERSION": version, "HOME": str(clone.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == (1 if answer.returncode else 0)
    return answer.returncode, answer.stderr


def test_a_machine_that_has_all_is_accepted(clone: Path) -> None:
    assert require(clone, "root", "debian", "clean") == (0, "")


def test_without_root(clone: Path) -> None:
    code, sentence = require(clone, "root", "debian", "clean", user=1000)

    assert code == 1
    assert "needs root: run it as root (sudo make demo)" in sentence


def test_a_machine_without_apt(clone: Path) -> None:
    code, sentence = require(clone, "root", "debian", "clean", debian=False)

    assert code == 1
    assert "needs a Debian or Ubuntu machine" in sentence


def test_a_dirty_tree_is_named_and_new_files_are_none_of_it(clone: Path) -> None:
    (clone / "notes.txt").write_text("Mine.\n")
    assert require(clone, "clean") == (0, "")

    (clone / "README.md").write_text("Two.\n")
    code, sentence = require(clone, "clean")

    assert code == 1
    assert "(README.md)" in sentence
    assert "commit or stash" in sentence


def test_a_folder_that_is_no_clone(clone: Path) -> None:
    shutil.rmtree(clone / ".git")

    code, sentence = require(clone, "clean")

    assert code == 1
    assert "no clone of a git repository" in sentence


@pytest.mark.parametrize("version", ["", "1.2.3", "v1.2", "v01.2.3", "v1.2.3; reboot"])
def test_what_is_no_version(clone: Path, version: str) -> None:
    code, sentence = require(clone, "version", version=version)

    assert code == 1
    assert sentence == "Say which version: make demo VERSION=v1.4.2\n"


def test_a_version(clone: Path) -> None:
    assert require(clone, "version", version="v1.10.0") == (0, "")


def test_missing_packages_are_named_to_who_is_not_root(clone: Path) -> None:
    tools = clone.parent / "bin"
    tools.mkdir()
    for name, text in {"id": "echo 1000", "dpkg-query": "echo not-installed"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    answer = subprocess.run(
        [str(clone / "deploy/controller/packages.sh"), "lab"],
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert answer.returncode == 1
    assert re.fullmatch(
        r"Packages are missing: run `apt-get install .*mmdebstrap.* systemd-container` as root\.\n",
        answer.stderr,
    )


def test_help_tells_every_target() -> None:
    targets = set()
    for line in (ROOT / "Makefile").read_text().splitlines():
        if line.startswith(".PHONY:"):
            targets |= set(line.split()[1:])
    internal = {name for name in targets if name.startswith(("environment", "ready-"))}

    answer = subprocess.run(
        ["make", "-C", str(ROOT)], capture_output=True, text=True, check=True, timeout=30
    )
    told = set(re.findall(r"^  make ([a-z-]+) +\S", answer.stdout, re.MULTILINE))

    assert told == targets - internal
    assert {"demo", "demo-down", "dev", "test", "lint", "lab-up", "release"} <= told
