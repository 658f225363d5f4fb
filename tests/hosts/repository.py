"""A clone of this repository in which a test may commit, tag and sign."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Repository:
    """A clone with a signing key of its own; `allowed_signers` trusts that key and no other."""

    path: Path
    allowed_signers: Path

    @classmethod
    def clone(cls, folder: Path) -> "Repository":
        """Clones what is committed here into `folder/repository`."""
        path = folder / "repository"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            command = ["git", "clone", "--quiet", "--no-tags", str(ROOT), str(path)]
            subprocess.run(command, check=True)
        return cls.adopt(folder)

    @classmethod
    def adopt(cls, folder: Path) -> "Repository":
        """Takes `folder/repository`, commits what is in it, makes the key that signs its tags."""
        key, signers = folder / "key", folder / "allowed_signers"
        if not key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(command, check=True)
            public = key.with_suffix(".pub").read_text().strip()
            signers.write_text(f'release@slipway.test namespaces="git" {public}\n')
        repository = cls(folder / "repository", signers)
        for name, value in {
            "user.name": "Release",
            "user.email": "release@slipway.test",
            "gpg.format": "ssh",
            "user.signingkey": str(key),
        }.items():
            repository.git("config", name, value)
        repository.git("add", "--all")
        if repository.git("status", "--porcelain"):
            repository.git("commit", "--quiet", "-m", "Begin")
        return repository

    def git(self, *arguments: str) -> str:
        """Runs git in the clone; answers what it printed."""
        return subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
        ).stdout.strip()

    def tag(self, version: str, changes: dict[str, str] | None = None) -> None:
        """Commits `changes` (path → whole text) and signs a tag over them; an old tag stays."""
        if version in self.git("tag").split():
            return
        for name, text in (changes or {}).items():
            (self.path / name).write_text(text)
        if changes:
            self.git("add", "--all")
            self.git("commit", "--quiet", "-m", f"Change for {version}")
        self.git("tag", "-s", "-m", version, version)

    def read(self, name: str) -> str:
        """The text of a file in the clone."""
        return (self.path / name).read_text()

    def newest_revision(self) -> str:
        """The newest revision of the schema in the clone."""
        files = self.git("ls-files", "migrations/versions/*.py").split()
        text = "\n".join(self.read(path) for path in files)
        found = set(re.findall(r'^revision = "(\w+)"', text, re.MULTILINE))
        before = set(re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE))
        (newest,) = found - before
        return str(newest)
