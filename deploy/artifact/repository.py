"""What git says of a tag: whether it is genuine, which commit it pins, and the commit's tree.

The work tree is never read: what is released is what the tag names.
"""

import dataclasses
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from deploy.artifact.errors import ArtifactError
from deploy.artifact.programs import last_line, run

# As the hosts take them: SemVer 2.0.0 without build metadata, at most 48 characters.
_VERSION = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
_LONGEST_VERSION = 48
_SSH_SIGNATURE = "-----BEGIN SSH SIGNATURE-----"
# A replacement reference would show another object under the identity that was signed.
_VARIABLES = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
_SHOWN_FILES = 5


@dataclasses.dataclass(frozen=True)
class Tag:
    """An annotated tag.

    Attributes:
        name: Its name, which is the version of the release.
        identity: Of the tag object.
        commit: Identity of the commit that it pins.
        seconds: Unix time of the commit.
    """

    name: str
    identity: str
    commit: str
    seconds: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file or symbolic link of a tree."""

    path: str
    mode: int
    identity: str
    is_link: bool


class Repository:
    """A git repository on the controller."""

    def __init__(self, folder: Path) -> None:
        """Open a repository.

        Raises:
            ArtifactError: It is none, or git does not trust it.
        """
        self.folder = folder
        answer = self._git("rev-parse", "--is-inside-work-tree")
        if answer.returncode:
            raise ArtifactError(f"{folder} is no git repository to release: {last_line(answer)}")
        self._has_work_tree = answer.stdout.strip() == "true"

    def tag(self, name: str) -> Tag:
        """Look a tag up.

        Raises:
            ArtifactError: It is no version, not there, lightweight, or an older one renamed.
        """
        _require_version(name)
        answer = self._git("rev-parse", "--verify", "--quiet", f"refs/tags/{name}")
        if answer.returncode:
            raise ArtifactError(
                f"There is no tag {name} in {self.folder}: make it with `git tag -s {name}`, or "
                f"fetch it with `git fetch --tags`."
            )
        return self.tag_object(name, answer.stdout.strip())

    def tag_object(self, name: str, identity: str) -> Tag:
        """Look an object up that is, or shall become, the tag of a name.

        Raises:
            ArtifactError: It is no version, lightweight, or an older one renamed.
        """
        _require_version(name)
        if self._ask("cat-file", "-t", identity) != "tag":
            raise ArtifactError(
                f"{name} is a lightweight tag, which nobody can sign: make it again with "
                f"`git tag -s -f {name} {name}`."
            )
        headers = self._headers(identity)
        if headers.get("tag") != name:
            raise ArtifactError(
                f"The tag {name} was made as {headers.get('tag')} and renamed later: its "
                f"signature is not for {name}. Make a tag of its own."
            )
        if headers.get("type") != "commit":
            raise ArtifactError(f"The tag {name} names a {headers.get('type')}, not a commit.")
        commit = headers["object"]
        seconds = int(self._ask("show", "--no-patch", "--format=%ct", commit))
        return Tag(name, identity, commit, seconds)

    def verify(self, tag: Tag, allowed_signers: Path) -> None:
        """Check a tag's signature against the file of those who may sign (ssh-keygen(1)).

        Raises:
            ArtifactError: It is not signed, or not by one of them.
        """
        if not allowed_signers.is_file():
            raise ArtifactError(
                f"The file of allowed signers {allowed_signers} is not there: list the public "
                f"keys that may sign tags in it (ssh-keygen(1), ALLOWED SIGNERS)."
            )
        if _SSH_SIGNATURE not in self._ask("cat-file", "tag", tag.identity):
            raise ArtifactError(
                f"The tag {tag.name} is not signed with an SSH key: sign it with "
                f"`git tag -s` and gpg.format=ssh."
            )
        # An OpenPGP signature would be judged by the operator's key ring instead of the file.
        answer = self._git(
            *("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed_signers}"),
            *("-c", "gpg.ssh.program=ssh-keygen", "-c", "gpg.minTrustLevel=fully"),
            *("-c", "gpg.program=false", "-c", "gpg.x509.program=false"),
            *("verify-tag", tag.identity),
        )
        if answer.returncode:
            raise ArtifactError(
                f"The tag {tag.name} is not signed by a key of {allowed_signers}: "
                f"{last_line(answer)}"
            )

    def require_clean(self) -> None:
        """Refuse a work tree whose tracked files differ from its commit.

        Raises:
            ArtifactError: There are uncommitted changes; the message names the files.
        """
        if not self._has_work_tree:
            return
        status = self._ask("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames")
        changed = [line[3:] for line in status.split("\0") if line]
        if changed:
            shown = ", ".join(changed[:_SHOWN_FILES])
            more = f" and {len(changed) - _SHOWN_FILES} more" if changed[_SHOWN_FILES:] else ""
            raise ArtifactError(
                f"{self.folder} has uncommitted changes in {shown}{more}, which the tag does not "
                f"have: commit, stash or discard them."
            )

    def tree(self, tag: Tag) -> list[Entry]:
        """Return the files and links of a tag's commit.

        Raises:
            ArtifactError: It has a submodule, or a name that is not UTF-8.
        """
        entries = []
        for line in self._ask("ls-tree", "-r", "-z", "--full-tree", tag.commit).split("\0"):
            if not line:
                continue
            facts, _, path = line.partition("\t")
            mode, kind, identity = facts.split()
            if kind != "blob":
                raise ArtifactError(
                    f"{path} is a submodule, whose files no tag of {self.folder} pins: take it "
                    f"in as files, or as a dependency."
                )
            if not path.isprintable() or not _is_text(path):
                raise ArtifactError(f"The name {path!r} is not printable UTF-8: rename the file.")
            executable = mode == "100755"
            entries.append(Entry(path, 0o755 if executable else 0o644, identity, mode == "120000"))
        return entries

    def contents(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """Return entries with their contents, read by one process.

        Raises:
            ArtifactError: An object is missing, as in a partial clone without its remote.
        """
        wanted = list(entries)
        command = ["git", "-C", str(self.folder), "cat-file", "--batch"]
        answer = subprocess.run(
            command,
            check=False,
            capture_output=True,
            input="".join(f"{entry.identity}\n" for entry in wanted).encode(),
            env={**os.environ, **_VARIABLES},
        )
        data, place = answer.stdout, 0
        for entry in wanted:
            end = data.find(b"\n", place)
            header = data[place:end].split()
            if end < 0 or len(header) != 3:  # noqa: PLR2004
                raise ArtifactError(f"git lacks the contents of {entry.path}: run `git fetch`.")
            place = end + 1 + int(header[2])
            yield entry, data[end + 1 : place]
            place += 1

    def count(self, revisions: Sequence[str]) -> int:
        """Return the number of commits in a range (gitrevisions(7))."""
        return int(self._ask("rev-list", "--count", *revisions, "--"))

    def subjects(self, revisions: Sequence[str], most: int) -> list[str]:
        """Return the newest commits of a range, each as its short identity and its subject."""
        options = ("--no-show-signature", f"--max-count={most}", "--format=%h %s")
        text = self._ask("log", *options, *revisions, "--")
        # A subject may hold whatever its author typed, a terminal's commands included.
        return [
            "".join(c if c.isprintable() else "?" for c in line)
            for line in text.split("\n")
            if line
        ]

    def _headers(self, identity: str) -> dict[str, str]:
        lines = self._ask("cat-file", "tag", identity).partition("\n\n")[0].splitlines()
        return {key: value for key, _, value in (line.partition(" ") for line in lines)}

    def _ask(self, *arguments: str) -> str:
        answer = self._git(*arguments)
        if answer.returncode:
            raise ArtifactError(f"git {arguments[0]} failed: {last_line(answer)}")
        return answer.stdout.strip("\n")

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(["git", "-C", self.folder, *arguments], variables=_VARIABLES)


def _require_version(name: str) -> None:
    if _VERSION.fullmatch(name) is None or len(name) > _LONGEST_VERSION:
        raise ArtifactError(
            f"{name!r} is not a version: name a tag vX.Y.Z or vX.Y.Z-pre.1 (semver.org)."
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
