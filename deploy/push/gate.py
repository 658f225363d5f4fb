"""What may come in by a push: one new, signed version tag, and nothing else.

git calls this before it takes anything (`pre-receive` in githooks(5)); what is refused leaves no
trace, its objects included.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from deploy.artifact.errors import ArtifactError
from deploy.artifact.repository import Repository
from deploy.push.errors import PushError
from deploy.push.lock import holder_of
from deploy.push.settings import Settings

ALLOW_DOWNGRADE = "allow-downgrade"
_TAGS = "refs/tags/"


@dataclasses.dataclass(frozen=True)
class Update:
    """A reference that a push would change: its object before and after, all zeros for none."""

    old: str
    new: str
    reference: str

    @property
    def version(self) -> str:
        """The name of the tag."""
        return self.reference.removeprefix(_TAGS)


def updates_of(lines: Iterable[str]) -> list[Update]:
    """Read what git writes to a hook: `old new reference` on each line."""
    return [Update(*line.split(maxsplit=2)) for line in map(str.strip, lines) if line]


def admit(settings: Settings, updates: Sequence[Update], options: Sequence[str]) -> None:
    """Let a push in.

    Raises:
        PushError: It may not come in; the message says why.
    """
    for update in updates:
        _require_new_tag(update)
    if len(updates) != 1:
        raise PushError(
            f"{len(updates)} versions at once cannot all be live: push them one by one, such as "
            f"`git push REMOTE {updates[-1].version if updates else 'v1.4.2'}`."
        )
    _require_options(settings, options)
    update = updates[0]
    repository = Repository(settings.repository)
    try:
        tag = repository.tag_object(update.version, update.new)
        repository.verify(tag, settings.allowed_signers)
    except ArtifactError as error:
        raise PushError(str(error)) from error
    if holder := holder_of(settings.lock):
        raise PushError(f"{holder}: push {update.version} after its end.")


def _require_new_tag(update: Update) -> None:
    if not update.reference.startswith(_TAGS):
        raise PushError(
            f"{update.reference} is not a tag: this repository takes signed version tags alone, "
            f"and the commits they name (git push REMOTE v1.4.2)."
        )
    if not update.new.strip("0"):
        raise PushError(f"The tag {update.version} stays: what was released is not deleted.")
    if update.old.strip("0"):
        raise PushError(
            f"The tag {update.version} is here already with another object: a version is never "
            f"moved. Make the next one."
        )


def _require_options(settings: Settings, options: Sequence[str]) -> None:
    for option in options:
        if option != ALLOW_DOWNGRADE:
            raise PushError(f"There is no option {option!r}: only {ALLOW_DOWNGRADE}.")
        require_downgrades(settings)


def require_downgrades(settings: Settings) -> None:
    """Refuse an older version where keys that push may not ask for one.

    Raises:
        PushError: They may not.
    """
    if not settings.downgrades:
        raise PushError(
            "Older versions than the live one are not taken by push here: use `make rollback`, or "
            "`make push-host … DOWNGRADES=yes` as root on this machine."
        )
