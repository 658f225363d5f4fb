"""The key of the lab that signs release tags, and the tags that it signed.

A host takes only what a known key signed; this key is known to the lab and to nothing else, see
`gpg.ssh.allowedSignersFile` in https://git-scm.com/docs/git-config.
"""

import os
import re
import subprocess
from pathlib import Path

from deploy.demo.errors import DemoError

_VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_FIRST = "v0.1.0"
_PRINCIPAL = "lab@slipway.test"


class Signing:
    """Signs and verifies tags of a repository with the key of one lab."""

    def __init__(self, repository: Path, state: Path) -> None:
        """Take the repository and the folder of the lab's state."""
        self._repository = repository
        self._key = state / "signing/key"
        self.allowed_signers = state / "signing/allowed_signers"

    def ensure_key(self) -> None:
        """Make the key on the first run."""
        if self._key.exists() and self.allowed_signers.exists():
            return
        self._key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._key.exists():
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self._key))
        public = self._key.with_suffix(".pub").read_text().strip()
        self.allowed_signers.write_text(f'{_PRINCIPAL} namespaces="git" {public}\n')

    def newest(self) -> str | None:
        """Return the newest version that leads to HEAD and that the lab's key signed."""
        tags = self._versions("--merged", "HEAD")
        return next((tag for tag in reversed(tags) if self.signed(tag)), None)

    def mine(self) -> list[str]:
        """Return all versions that the lab's key signed."""
        if not self.allowed_signers.exists():
            return []
        return [tag for tag in self._versions() if self.signed(tag)]

    def next_version(self) -> str:
        """Return the first version, or the patch after the highest one that there is."""
        versions = self._versions()
        if not versions:
            return _FIRST
        major, minor, patch = _numbers(versions[-1])
        return f"v{major}.{minor}.{patch + 1}"

    def tag(self, version: str) -> None:
        """Sign a tag of HEAD.

        Raises:
            DemoError: It is no version, or there is such a tag.
        """
        if not _VERSION.fullmatch(version):
            raise DemoError(f"{version} is no version: write it like v0.2.0.")
        if version in self._versions():
            raise DemoError(f"The tag {version} exists already: choose a higher version.")
        self._git("tag", "-s", "-m", version, version)

    def delete(self, version: str) -> None:
        """Delete a tag."""
        self._git("tag", "-d", version)

    def signed(self, tag: str) -> bool:
        """Say whether the lab's key signed a tag."""
        try:
            self._git("verify-tag", tag)
        except DemoError:
            return False
        return True

    def _versions(self, *arguments: str) -> list[str]:
        tags = self._git("tag", "--list", "v*", *arguments).split()
        return sorted((tag for tag in tags if _VERSION.fullmatch(tag)), key=_numbers)

    def _git(self, *arguments: str) -> str:
        return self._run(
            "git",
            *(
                "-C",
                str(self._repository),
                "-c",
                "gpg.format=ssh",
                "-c",
                "gpg.ssh.program=ssh-keygen",
            ),
            *("-c", f"user.signingkey={self._key}"),
            *("-c", f"gpg.ssh.allowedSignersFile={self.allowed_signers}"),
            *arguments,
        )

    def _run(self, *command: str) -> str:
        environment = dict(os.environ)
        asked = ("git", "-C", str(self._repository), "config", "user.email")
        if subprocess.run(asked, capture_output=True, check=False).returncode:
            environment |= {"GIT_COMMITTER_NAME": "Lab", "GIT_COMMITTER_EMAIL": _PRINCIPAL}
        answer = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            lines = answer.stderr.strip().splitlines() or ["no message"]
            raise DemoError(f"`{command[0]}` refused: {lines[-1]}")
        return answer.stdout


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version[1:].split("."))
