# Ansible runs this file alone; it belongs to no package.
# ruff: noqa: INP001
"""Ansible module: a folder with one Python package, whole, in one exchange with the host."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: python_package
short_description: Install a Python package out of the text of its modules
description:
  - Writes the modules that differ, and removes those that the package has no longer.
  - One exchange with the host replaces two a module with M(ansible.builtin.copy).
options:
  path:
    description: Folder of the package, made with its parents.
    type: path
    required: true
  modules:
    description: Text of each module by its file name.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: Slipway
"""

EXAMPLES = r"""
- name: Install a package
  python_package:
    path: /usr/local/lib/example
    modules:
      __init__.py: "VERSION = 1\n"
"""

RETURN = r"""
written:
  description: File names of the modules that were new or different.
  type: list
  returned: always
removed:
  description: File names of the modules that were there and belong to the package no longer.
  type: list
  returned: always
"""


def differences(path: Path, modules: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the names of the modules to write and to remove."""
    present = {file.name: file for file in path.glob("*.py")}
    written = [
        name
        for name, text in sorted(modules.items())
        if name not in present or present[name].read_bytes() != text.encode()
    ]
    return written, sorted(set(present) - set(modules))


def install(path: Path, modules: dict[str, str], written: list[str], removed: list[str]) -> None:
    """Write and remove modules; each is whole at any instant."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in written:
        temporary = path / f".{name}.new"
        temporary.write_text(modules[name], encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(path / name)
    for name in removed:
        (path / name).unlink()
    # Bytecode is judged by the time of its source in whole seconds, which may not have changed.
    shutil.rmtree(path / "__pycache__", ignore_errors=True)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            # Without this every run would write the whole package to the host's journal.
            "modules": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    path, modules = Path(module.params["path"]), module.params["modules"]
    written, removed = differences(path, modules)
    if (written or removed) and not module.check_mode:
        install(path, modules, written, removed)
    result: dict[str, Any] = {"changed": bool(written or removed)}
    before = sorted(file.name for file in path.glob("*.py")) if module.check_mode else removed
    difference = {
        "before_header": str(path),
        "after_header": str(path),
        "before": "".join(f"{name}\n" for name in before if name in removed),
        "after": "".join(f"{name}\n" for name in written),
    }
    module.exit_json(**result, written=written, removed=removed, diff=difference)


if __name__ == "__main__":
    main()
