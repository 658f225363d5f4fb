"""The machine that pushes come to: an account, folders and files, made only where they differ."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.push.errors import PushError


class Host:
    """Brings this machine into a state, and tells each change."""

    def __init__(self, user: str, say: Callable[[str], None], *, check: bool) -> None:
        """Take the account that owns what is made.

        Args:
            user: Its name.
            say: Called with each change.
            check: Whether changes are only told.
        """
        self.user = user
        self.check = check
        self.changes = 0
        self._say = say

    @property
    def exists(self) -> bool:
        """Whether the account is there."""
        return self._account() is not None

    def account(self, home: Path) -> None:
        """Make a system account that nobody can log into with a password.

        Raises:
            PushError: The name belongs to an account with another home.
        """
        account = self._account()
        if account is not None and account.pw_dir != str(home):
            raise PushError(
                f"The account {self.user} lives in {account.pw_dir}, not in {home}: it is "
                f"something else. Choose another NAME."
            )
        if account is None and self._changes(f"the account {self.user}"):
            # sshd runs the forced command by the shell of the account.
            options = ("--system", "--user-group", "--no-create-home", "--shell=/bin/sh")
            self.run(["useradd", *options, f"--home-dir={home}", "--password=*", self.user])

    def folder(self, path: Path, mode: int = 0o750, *, owned: bool = True) -> None:
        """Make a folder, of the account or of root."""
        if self._stands(path, mode, owned=owned) and path.is_dir():
            return
        if self._changes(f"the folder {path}"):
            path.mkdir(parents=True, exist_ok=True)
            self._own(path, mode, owned=owned)

    def file(self, path: Path, text: str, mode: int = 0o644, *, owned: bool = False) -> bool:
        """Write a file, of root or of the account, as a whole or not at all.

        Returns:
            Whether it changed.
        """
        is_same = path.is_file() and path.read_text() == text
        if is_same and self._stands(path, mode, owned=owned):
            return False
        if self._changes(f"the file {path}"):
            draft = path.with_name(f".{path.name}.new")
            draft.write_text(text)
            self._own(draft, mode, owned=owned)
            draft.replace(path)
        return True

    def run(self, command: Sequence[str | Path]) -> str:
        """Run a program as root.

        Raises:
            PushError: It failed; the message has its last line.
        """
        return _done(
            subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        )

    def run_as(self, command: Sequence[str | Path], folder: Path) -> str:
        """Run a program as the account.

        Raises:
            PushError: It failed; the message has its last line.
        """
        return _done(self.attempt_as(command, folder))

    def attempt_as(
        self, command: Sequence[str | Path], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as the account, whatever its exit status."""
        account = self._account()
        if account is None:
            raise PushError(f"There is no account {self.user}.")
        variables = {
            "HOME": account.pw_dir,
            "USER": self.user,
            "LOGNAME": self.user,
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ANSIBLE_HOME": f"{account.pw_dir}/ansible",
            "ANSIBLE_LOCAL_TEMP": f"{account.pw_dir}/ansible/tmp",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{account.pw_dir}/ansible/cp",
            "ANSIBLE_NOCOLOR": "1",
        }
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env=variables,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, 126, "", str(error))

    def _account(self) -> pwd.struct_passwd | None:
        try:
            return pwd.getpwnam(self.user)
        except KeyError:
            return None

    def _changes(self, what: str) -> bool:
        self.changes += 1
        self._say(f"{'would make' if self.check else 'made'} {what}")
        return not self.check

    def _stands(self, path: Path, mode: int, *, owned: bool) -> bool:
        try:
            found = path.stat()
        except OSError:
            return False
        account = self._account()
        owner = (account.pw_uid if account else -1) if owned else 0
        return found.st_mode & 0o7777 == mode and found.st_uid == owner

    def _own(self, path: Path, mode: int, *, owned: bool) -> None:
        if owned:
            shutil.chown(path, self.user, self.user)
        else:
            os.chown(path, 0, 0)
        path.chmod(mode)


def _done(answer: subprocess.CompletedProcess[str]) -> str:
    if answer.returncode:
        lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        said = lines[-1] if lines else f"exit status {answer.returncode}"
        raise PushError(f"`{' '.join(map(str, answer.args))}` failed: {said}")
    return answer.stdout
