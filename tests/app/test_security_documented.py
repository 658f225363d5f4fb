"""What docs/security.md says of places and tests is there."""

import re
from pathlib import Path

from app.settings import Settings

ROOT = Path(__file__).parents[2]
EVENT = r'Event\(\s*"([\w.]+)"'
DOCUMENT = (ROOT / "docs/security.md").read_text()


def test_the_tests_that_show_a_requirement_exist() -> None:
    named = set(re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)`", DOCUMENT))
    assert len(named) > 15
    missing = {
        name
        for name in named
        if not (ROOT / name if name.startswith("tests/") else ROOT / "tests/app" / name).is_file()
    }
    assert missing == set()


def test_the_places_where_a_requirement_is_met_exist() -> None:
    named = set(re.findall(r"`((?:app|roles|migrations)/[\w./]+)`", DOCUMENT))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_each_requirement_stands_once_with_its_number_in_order() -> None:
    for section in re.findall(r"^## V\d.*?(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| (\S.*?) \|", section, re.MULTILINE)[1:]
        found = [re.findall(r"\d+\.\d+\.\d+", row) for row in rows if not row.startswith("-")]
        assert all(found), section
        numbers = [tuple(map(int, one.split("."))) for row in found for one in row]
        assert len(set(numbers)) == len(numbers), section
        firsts = [tuple(map(int, row[0].split("."))) for row in found]
        assert firsts == sorted(firsts), section


def test_the_settings_that_it_names_exist() -> None:
    named = {name.lower() for name in re.findall(r"`APP_(\w+)(?:=\w+)?`", DOCUMENT)}
    assert named <= set(Settings.model_fields)


def test_every_security_event_is_listed() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    written = {*re.findall(EVENT, sources), "access.forbidden", "limit.exceeded"}
    assert len(written) > 20
    section = DOCUMENT.rpartition("## The audit trail")[2]
    assert written - set(re.findall(r"[a-z]+\.[a-z_]+|logout", section)) == set()
