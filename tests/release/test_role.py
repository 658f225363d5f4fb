"""What the role writes is what the tool reads, and how it installs the tool."""

import dataclasses
import importlib.util
import py_compile
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml

from slipway_release.settings import Settings

ROLE = Path(__file__).parents[2] / "roles/release"


def read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROLE / name).read_text())
    return values


@pytest.fixture(scope="module")
def package() -> ModuleType:
    path = ROLE / "library/python_package.py"
    specification = importlib.util.spec_from_file_location("python_package", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_specified_defaults_are_the_real_ones() -> None:
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    required = {name for name, option in options.items() if option.get("required")}
    assert required == {
        "release_app",
        "release_root",
        "release_deploy_user",
        "release_smoke_url",
    }
    specified = {
        name: option["default"] for name, option in options.items() if name not in required
    }
    assert specified == read("defaults/main.yml")


def test_the_role_writes_every_setting() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert set(read("vars/main.yml")["__release_settings"]) == fields


def test_the_command_is_a_program(tmp_path: Path) -> None:
    loader = jinja2.FileSystemLoader(ROLE / "templates")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined)
    environment.filters["comment"] = "# {}".format
    text = environment.get_template("slipway.j2").render(ansible_managed="Managed by Ansible")
    assert text.startswith("#!/usr/bin/python3 -I\n# Managed by Ansible\n")
    (tmp_path / "slipway.py").write_text(text)
    py_compile.compile(str(tmp_path / "slipway.py"), str(tmp_path / "x.pyc"), doraise=True)


def test_a_package_is_installed_whole(package: ModuleType, tmp_path: Path) -> None:
    path, modules = tmp_path / "lib/tool", {"__init__.py": "", "a.py": "A = 'ä'\n"}
    assert package.differences(path, modules) == (["__init__.py", "a.py"], [])
    package.install(path, modules, *package.differences(path, modules))
    assert package.differences(path, modules) == ([], [])
    (path / "__pycache__").mkdir()
    (path / "old.py").write_text("")
    changed = {**modules, "a.py": "A = 2\n"}
    assert package.differences(path, changed) == (["a.py"], ["old.py"])
    package.install(path, changed, *package.differences(path, changed))
    assert {file.name for file in path.iterdir()} == {"__init__.py", "a.py"}
    assert (path / "a.py").read_text() == "A = 2\n"
