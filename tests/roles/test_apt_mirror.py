"""A mirror of the distribution, and the one of its security archive."""

from pathlib import Path

import pytest

from tests.roles.conftest import SETTINGS
from tests.roles.plays import refusal_of_base
from tests.roles.rendering import DISTRIBUTIONS, facts, render

MIRROR = "http://mirror.example/archive"
SECURITY = "http://mirror.example/security"


def refuse(folder: Path, distribution: str, **settings: str) -> str:
    """What the role says of a mirror before it changes anything; '' when it takes it."""
    name = "Refuse a mirror of Debian without its security archive"
    return refusal_of_base(folder, name, facts(distribution), **settings)


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
