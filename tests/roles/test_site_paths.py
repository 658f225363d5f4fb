"""Paths that no site can be written for, or that one treats in two ways, are told by a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.roles.plays import ROOT, run_play

NGINX = ROOT / "roles/nginx"
PLAY = {
    "hosts": "localhost",
    "connection": "local",
    "gather_facts": False,
    "vars_files": [str(NGINX / "defaults/main.yml"), str(NGINX / "vars/main.yml")],
    "tasks": [{"ansible.builtin.import_tasks": str(NGINX / "tasks/checks.yml")}],
}


def check(folder: Path, **settings: Any) -> tuple[int, str]:
    """How the checks of the role end, and what they say."""
    extra = folder / "extra.json"
    extra.write_text(json.dumps(settings))
    result = run_play(folder, PLAY, "--inventory=localhost,", f"--extra-vars=@{extra}")
    return result.returncode, " ".join(result.stdout.split() + result.stderr.split())


def test_what_the_role_and_harbour_say_is_taken(tmp_path: Path) -> None:
    files = {
        "nginx_upload_paths": ["/api/v1/files/upload"],
        "nginx_download_paths": ["/api/v1/files/"],
        "nginx_download_folders": {"/.files/": "/srv/harbour/data/files/published"},
        # A setting of the limits may name what a location names.
        "nginx_strict_paths": ["/api/v1/files/upload"],
        "nginx_unlimited_paths": ["/health", "/ws/"],
    }
    assert check(tmp_path)[0] == 0
    assert check(tmp_path, **files)[0] == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"nginx_upload_paths": ["upload"]},
            'Correct in the group_vars of the inventory: ["upload"]',
        ),
        ({"nginx_websocket_paths": ["/ws/;"]}, 'of the inventory: ["/ws/;"]'),
        ({"nginx_strict_paths": ["/a b"]}, 'of the inventory: ["/a b"]'),
        ({"nginx_download_folders": {"/.files": "/srv/x"}}, 'of the inventory: ["/.files"]'),
        (
            {"nginx_upload_paths": ["/files/"], "nginx_download_paths": ["/files/"]},
            "/files/ is told by nginx_upload_paths and nginx_download_paths. A path is treated in",
        ),
        (
            {"nginx_websocket_paths": ["/docs/"]},
            "/docs/ is told by nginx_hidden_paths and nginx_websocket_paths",
        ),
        (
            {"nginx_local_paths": ["/metrics"]},
            "/metrics is told by nginx_hidden_paths and nginx_local_paths",
        ),
        ({"nginx_download_paths": ["/"]}, "/ is told by the site itself and nginx_download_paths"),
        ({"nginx_unlimited_paths": ["/up", "/up"]}, "nginx_unlimited_paths has a path twice"),
        (
            {"nginx_plain_http_refused_prefixes": ["/"]},
            "/ is told by the site itself and nginx_plain_http_refused_prefixes",
        ),
    ],
)
def test_other_paths_are_refused(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    status, said = check(tmp_path, **settings)
    assert status
    assert sentence in said
