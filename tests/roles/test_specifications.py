"""The argument specification of a role is its documentation, so it must be true."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_defaults_are_what_the_specification_says(role: Path) -> None:
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(role / "defaults/main.yml") or {}
    said = {name: option["default"] for name, option in options.items() if "default" in option}
    assert defaults == said
    for name, option in options.items():
        assert option["description"]
        assert option.get("required", False) is (name not in defaults)


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_role_uses_no_variable_of_another(role: Path) -> None:
    others = "|".join(other.name for other in ROLES if other != role)
    foreign = re.compile(rf"(?<![\w.'\"/@-])(?:__)?(?:{others})_[a-z_]+")
    texts = [path for path in role.rglob("*") if path.suffix in {".yml", ".j2"}]
    own = re.compile(r"^\s*#.*$", re.MULTILINE)
    for path in texts:
        expressions = re.findall(r"\{[{%].*?[}%]\}", own.sub("", path.read_text()), re.DOTALL)
        for expression in expressions:
            assert not foreign.search(expression), f"{path}: {expression}"


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_templates_say_who_manages_the_file(role: Path) -> None:
    for path in role.glob("templates/*.j2"):
        if path.suffixes[0] in {".json", ".sql"} or path.name == "sandbox.j2":
            continue
        head = path.read_text().splitlines()[:2]
        assert any("{{ ansible_managed | comment" in line for line in head), path


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_variables_carry_the_name_of_the_role(role: Path) -> None:
    for name in read(role / "defaults/main.yml") or {}:
        assert name.startswith(f"{role.name}_")
    for path in role.glob("vars/*.yml"):
        for name in read(path):
            assert name.startswith(f"__{role.name}_")
