"""Where everything of one push repository lies; written by the set-up, read by everything else."""

import dataclasses
import json
from pathlib import Path

from deploy.push.errors import PushError


@dataclasses.dataclass(frozen=True)
class Settings:
    """One service that is released by pushes.

    Attributes:
        name: Of the service; the repository is called so.
        kit: Clone of the kit whose playbooks are run.
        inventory: What the playbooks are given with `-i`.
        allowed_signers: Who may sign tags (ssh-keygen(1)); outside of what is pushed.
        state: Home of the account: repository, runs, lock, caches, SSH key.
        arguments: Further arguments of ansible-playbook, such as `--vault-password-file=…`.
        downgrades: Whether `-o allow-downgrade` is listened to.
    """

    name: str
    kit: Path
    inventory: Path
    allowed_signers: Path
    state: Path
    arguments: tuple[str, ...] = ()
    downgrades: bool = False

    @property
    def repository(self) -> Path:
        """The bare repository that is pushed to."""
        return self.state / f"{self.name}.git"

    @property
    def runs(self) -> Path:
        """Folder with a record and a log of each release."""
        return self.state / "runs"

    @property
    def lock(self) -> Path:
        """File whose lock a running release holds."""
        return self.state / "lock"

    def text(self) -> str:
        """Return it as the text of a settings file."""
        fields = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in dataclasses.asdict(self).items()
        }
        return json.dumps(fields, indent=2) + "\n"


def load(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        PushError: It is not there, or not what the set-up writes.
    """
    try:
        fields = json.loads(path.read_text())
        return Settings(
            name=str(fields["name"]),
            kit=Path(fields["kit"]),
            inventory=Path(fields["inventory"]),
            allowed_signers=Path(fields["allowed_signers"]),
            state=Path(fields["state"]),
            arguments=tuple(map(str, fields["arguments"])),
            downgrades=bool(fields["downgrades"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PushError(
            f"{path} holds no settings of a push repository ({error}): run `make push-host` again."
        ) from error
