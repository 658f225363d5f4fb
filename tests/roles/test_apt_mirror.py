"""A mirror of the distribution, and the one of its security archive."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.roles.conftest import SETTINGS
from tests.roles.plays import ROOT, run_play
from tests.roles.rendering import DISTRIBUTIONS, facts, render

BASE = ROOT / "roles/base"
MIRROR = "http://mirror.example/archive"
SECURITY = "http://mirror.example/security"


def refuse(folder: Path, distribution: str, **settings: str) -> str:
    """What the role says of a mirror before it changes anything; '' when it takes it."""
    tasks = yaml.safe_load((BASE / "tasks/main.yml").read_text())
    names = [task["name"] for task in tasks]
    asked = tasks[names.index("Refuse a mirror of Debian without its security archive")]
    assert names.index(asked["name"]) < names.index("Set up packages")
    play = {
        "hosts": "web1",
        "gather_facts": False,
        "vars_files": [str(BASE / "defaults/main.yml")],
        "tasks": [{"given_facts": {"facts": facts(distribution)}}, asked],
    }
    said = {**settings, "ansible_python_interpreter": sys.executable}
    options = ("-i", "web1,", "-c", "local", "-e", json.dumps(said))
    result = run_play(folder, play, f"--module-path={ROOT / 'tests/roles/library'}", *options)
    return " ".join((result.stdout + result.stderr).split()) if result.returncode else ""


@pytest.mark.parametrize("distribution", ["debian-12", "debian-13"])
def test_debian_needs_a_mirror_of_its_security_archive(tmp_path: Path, distribution: str) -> None:
    said = refuse(tmp_path, distribution, base_apt_mirror=MIRROR)
    assert "web1 has base_apt_mirror and no base_apt_security_mirror" in said
    assert "Set base_apt_security_mirror to a mirror of http://deb.debian.org/debian-sec" in said


@pytest.mark.parametrize(
    ("distribution", "settings"),
    [
        ("debian-13", {}),
        ("debian-13", {"base_apt_mirror": MIRROR, "base_apt_security_mirror": SECURITY}),
        ("ubuntu-24.04", {"base_apt_mirror": MIRROR}),
    ],
)
def test_others_are_taken(tmp_path: Path, distribution: str, settings: dict[str, str]) -> None:
    assert refuse(tmp_path, distribution, **settings) == ""


def test_updates_for_security_come_from_their_mirror(
    rendered: dict[str, Path], tmp_path: Path
) -> None:
    templates = {"mirror.sources": "base/templates/mirror.sources.j2"}
    both = render(tmp_path, {**SETTINGS, "base_apt_security_mirror": SECURITY}, templates)
    for distribution, known in DISTRIBUTIONS.items():
        suite = f"\nSuites: {known['release']}-security\n"
        text = (both[distribution] / "mirror.sources").read_text()
        assert f"URIs: {SECURITY}{suite}" in text
        assert text.count(MIRROR) == text.count(SECURITY) == 1
        if known["name"] == "Ubuntu":
            text = (rendered[distribution] / "mirror.sources").read_text()
            assert f"URIs: {MIRROR}{suite}" in text
