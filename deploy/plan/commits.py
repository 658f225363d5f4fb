"""The commits between two versions."""

import dataclasses

from deploy.artifact.repository import Repository, Tag

_SHOWN = 30


@dataclasses.dataclass(frozen=True)
class Commits:
    """What the history has on one side and not on the other.

    Attributes:
        count: Number of them.
        shown: The newest of them, each as its short identity and its subject.
    """

    count: int
    shown: tuple[str, ...]


def gained(repository: Repository, old: Tag | None, new: Tag) -> Commits:
    """Return the commits that a release brings; with no old tag, all there are."""
    what = [new.commit] if old is None else [new.commit, f"^{old.commit}"]
    return Commits(repository.count(what), tuple(repository.subjects(what, _SHOWN)))


def lost(repository: Repository, old: Tag, new: Tag) -> Commits:
    """Return the commits that are live and no part of the release."""
    return gained(repository, new, old)
