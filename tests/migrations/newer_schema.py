"""A plugin of pytest for the tests of an earlier release: they get the schema of a later one.

Its tests make their database by `alembic` of `tests/services.py`. After that function has brought
the schema to where the earlier release leaves it, the later one expands it here, in the order in
which a database in use meets them. So nothing in the earlier tree has to know of this.

    NEWER_TREE  the tree of the later release
    NEWER_LOG   the file for what it says when it expands
"""

import os
import subprocess
import sys
from pathlib import Path

from tests import services

_own = services.alembic


def _and_newer(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    result = _own(url, *arguments)
    if result.returncode or arguments != ("upgrade", "head"):
        return result
    result = subprocess.run(
        [sys.executable, "-m", "migrations", "expand"],
        check=False,
        capture_output=True,
        text=True,
        cwd=os.environ["NEWER_TREE"],
        timeout=120,
        env={
            "PATH": os.environ["PATH"],
            "APP_ENVIRONMENT": "production",
            "APP_DATABASE_URL": url,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    Path(os.environ["NEWER_LOG"]).write_text(result.stdout + result.stderr)
    return result


services.alembic = _and_newer
