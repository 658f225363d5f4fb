"""What an inventory makes of settings, as the roles get them on one of its hosts."""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.roles.plays import run_play

PLAY = {
    "hosts": "{{ host }}",
    "gather_facts": False,
    "tasks": [
        {
            "ansible.builtin.debug": {
                "msg": "{{ dict(wanted | zip(query('vars', *wanted))) | to_json | b64encode }}"
            },
        }
    ],
}


def values(
    folder: Path, inventories: Sequence[Path], host: str, wanted: Sequence[str], **said: Any
) -> dict[str, Any]:
    """The settings by name; `said` comes on top of what the inventories say."""
    extra = folder / "extra.json"
    extra.write_text(json.dumps({"wanted": wanted, "host": host, **said}))
    sources = [f"--inventory={path}" for path in inventories]
    result = run_play(folder, PLAY, *sources, f"--extra-vars=@{extra}")
    found = re.search(r"msg: ([A-Za-z0-9+/=]+)", result.stdout)
    assert found, result.stdout + result.stderr
    decoded: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    return decoded
