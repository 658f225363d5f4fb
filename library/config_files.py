# Ansible runs this file alone; it belongs to no package.
# ruff: noqa: INP001
"""Ansible module: bring several files and folders of a host into their state in one exchange."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import shlex
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: config_files
short_description: Write several files in one exchange with the host
description:
  - Writes files that differ in content, owner or mode; makes folders. M(ansible.builtin.template)
    takes two exchanges for a file, this takes one for all files of a concern, which is what keeps
    a run that changes nothing short.
  - Every file that changes is written beside its place and validated before the first one is
    replaced, so that a mistake in one leaves all as they were. Each is replaced by a rename.
options:
  files:
    description: Files, with C(path), C(content), and optionally C(owner), C(group), C(mode) (0644)
      and C(validate), a command with %s for the new file. Missing folders above them are made.
    type: list
    elements: dict
    default: []
  exclusive:
    description: Patterns of paths (glob(7)); what matches one of them and is not among C(files) is
      deleted.
    type: list
    elements: str
    default: []
  undo:
    description: File that keeps what was in the place of everything that is changed, as JSON by
      path (null for nothing). What it tells of a path already stays, so that tasks can share one.
    type: path
  links:
    description: Symbolic links, with C(path) and C(src), where they lead to; they replace files.
    type: list
    elements: dict
    default: []
  pending:
    description: File that is there from before the first change until a handler that has loaded
      the changes deletes it. While it is there the task says changed, so that what a run that was
      cut off has written is loaded by the next one.
    type: path
  folders:
    description: Folders, with C(path), and optionally C(owner), C(group) and C(mode) (0755).
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

RETURN = r"""
paths:
  description: Paths that were changed, or would be.
  returned: always
  type: list
  elements: str
"""

_OPTIONS = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
_FILE = {
    **_OPTIONS,
    "mode": {"type": "str", "default": "0644"},
    "content": {"type": "str", "required": True},
    "validate": {"type": "str"},
}
_LINK = {name: {"type": "path", "required": True} for name in ("path", "src")}
_FOLDER = {**_OPTIONS, "mode": {"type": "str", "default": "0755"}}


class Writer:
    """Collects what has to change, then changes it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.paths: list[str] = []
        self.diffs: list[dict[str, str]] = []
        self.ready: list[tuple[Path, Path]] = []
        self.others: list[Path] = []

    def folder(self, wanted: dict[str, Any]) -> None:
        """Make a folder, or give it its owner and mode."""
        path = Path(wanted["path"])
        if path.is_dir() and not self._differs(path, wanted):
            return
        self._note(path, "folder", "", "")
        if not self.module.check_mode:
            _make_folders(path)
            self._own(path, wanted)

    def prepare(self, wanted: dict[str, Any]) -> None:
        """Write the new contents of a file beside it, if it has to change."""
        path = Path(wanted["path"])
        content = wanted["content"].encode()
        before = _read(path)
        if before == content and not self._differs(path, wanted):
            return
        self._note(path, "file", (before or b"").decode(errors="replace"), wanted["content"])
        if self.module.check_mode:
            return
        _make_folders(path.parent)
        handle, name = tempfile.mkstemp(prefix=".slipway-", dir=path.parent)
        temporary = Path(name)
        self.module.add_cleanup_file(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._own(temporary, wanted)
        if wanted["validate"]:
            self._validate(wanted, name)
        self.ready.append((temporary, path))

    def link(self, wanted: dict[str, Any]) -> None:
        """Make a link beside its place, if it has to change."""
        path, target = Path(wanted["path"]), wanted["src"]
        if path.is_symlink() and str(path.readlink()) == target:
            return
        self._note(path, f"link to {target}", "", "")
        if self.module.check_mode:
            return
        _make_folders(path.parent)
        temporary = path.with_name(f".slipway-{path.name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        self.ready.append((temporary, path))

    def mark(self, pending: Path) -> bool:
        """Say that there are changes to load; return whether an earlier run has left some."""
        if pending.exists():
            self.diffs.append({"prepared": "an earlier run was cut off before this was in use\n"})
            return True
        if self.paths and not self.module.check_mode:
            _make_folders(pending.parent)
            pending.touch(mode=0o644)
        return False

    def find_others(self, patterns: list[str], kept: set[str]) -> None:
        """Find what matches a pattern and is not kept."""
        found = {path for one in patterns for path in Path("/").glob(one.removeprefix("/"))}
        for path in sorted(path for path in found if str(path) not in kept):
            self._note(path, "file", (_read(path) or b"").decode(errors="replace"), "")
            self.others.append(path)

    def keep(self, undo: Path) -> None:
        """Keep what is in the place of all that is replaced or deleted."""
        known: dict[str, Any] = json.loads(_read(undo) or b"{}")
        found = {
            str(path): _state(path) for path in [*(two for _, two in self.ready), *self.others]
        }
        if found.keys() <= known.keys():
            return
        _make_folders(undo.parent)
        handle, name = tempfile.mkstemp(prefix=".slipway-", dir=undo.parent)
        self.module.add_cleanup_file(name)
        with os.fdopen(handle, "w") as stream:
            json.dump({**found, **known}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(undo)

    def replace(self) -> None:
        """Put every prepared file into its place, and delete what has none."""
        for temporary, path in self.ready:
            temporary.replace(path)
        for path in self.others:
            path.unlink()

    def _validate(self, wanted: dict[str, Any], temporary: str) -> None:
        command = shlex.split(wanted["validate"] % temporary)
        status, output, errors = self.module.run_command(command)
        if status:
            self.module.fail_json(
                msg=f"The new {wanted['path']} is refused by `{command[0]}`: "
                f"{(errors or output).strip().replace(temporary, wanted['path'])}"
            )

    def _note(self, path: Path, kind: str, before: str, after: str) -> None:
        self.paths.append(str(path))
        if kind == "file" and before != after:
            header = {"before_header": str(path), "after_header": str(path)}
            self.diffs.append({**header, "before": before, "after": after})
        else:
            self.diffs.append({"prepared": f"{kind} {path}: made, or its owner or mode changed\n"})

    def _identity(self, wanted: dict[str, Any]) -> tuple[int, int] | None:
        try:
            return pwd.getpwnam(wanted["owner"]).pw_uid, grp.getgrnam(wanted["group"]).gr_gid
        except KeyError:
            if self.module.check_mode:
                # A user that another task would have made by now.
                return None
            self.module.fail_json(
                msg=f"{wanted['path']}: there is no user {wanted['owner']} or no group "
                f"{wanted['group']} on this host."
            )
            raise

    def _differs(self, path: Path, wanted: dict[str, Any]) -> bool:
        found = path.lstat()
        kept = (found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode)
        return kept != (self._identity(wanted), int(wanted["mode"], 8)) or path.is_symlink()

    def _own(self, path: Path, wanted: dict[str, Any]) -> None:
        identity = self._identity(wanted)
        if identity is not None:
            os.chown(path, *identity)
        path.chmod(int(wanted["mode"], 8))


def _make_folders(path: Path) -> None:
    if not path.is_dir():
        _make_folders(path.parent)
        path.mkdir()
        # The mode of a new folder is narrowed by the umask of whoever connects.
        path.chmod(0o755)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _state(path: Path) -> dict[str, Any] | None:
    content = _read(path)
    if content is None:
        return None
    found = path.stat()
    encoded = base64.b64encode(content).decode()
    mode = stat.S_IMODE(found.st_mode)
    return {"content": encoded, "uid": found.st_uid, "gid": found.st_gid, "mode": mode}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        {
            "files": {"type": "list", "elements": "dict", "default": [], "options": _FILE},
            "exclusive": {"type": "list", "elements": "str", "default": []},
            "folders": {"type": "list", "elements": "dict", "default": [], "options": _FOLDER},
            "undo": {"type": "path"},
            "links": {"type": "list", "elements": "dict", "default": [], "options": _LINK},
            "pending": {"type": "path"},
        },
        supports_check_mode=True,
        # Whole files, secrets among them, have no place in the host's journal.
        no_log=True,
    )
    writer = Writer(module)
    for wanted in module.params["folders"]:
        writer.folder(wanted)
    for wanted in module.params["files"]:
        writer.prepare(wanted)
    for wanted in module.params["links"]:
        writer.link(wanted)
    writer.find_others(
        module.params["exclusive"], {wanted["path"] for wanted in module.params["files"]}
    )
    left = bool(module.params["pending"]) and writer.mark(Path(module.params["pending"]))
    if not module.check_mode:
        if module.params["undo"]:
            writer.keep(Path(module.params["undo"]))
        writer.replace()
    module.exit_json(changed=bool(writer.paths) or left, paths=writer.paths, diff=writer.diffs)


if __name__ == "__main__":
    main()
