"""What the inventories set exists, is documented, and is wired the same way everywhere."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: Settings that are no role's: switches between hosts, and what the secrets are called in a vault.
SHARED = (
    *("cache_on_app_host", "cache_address", "database_on_app_host", "database_address"),
    *("private_address", "hosts_", "redis_socket_group"),
    *("harbour_", "vault_", "lab_", "ansible_"),
)


def specified() -> set[str]:
    names: set[str] = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            names.update(entry.get("options", {}))
    return names


def variable_files() -> list[Path]:
    return sorted(ROOT.glob("inventories/*/group_vars/*/*.yml"))


@pytest.mark.parametrize("path", variable_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_is_specified_by_a_role(path: Path) -> None:
    variables: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    known = specified()
    assert {
        name for name in variables if name not in known and not name.startswith(SHARED)
    } == set()


@pytest.mark.parametrize("environment", ["lab", "staging", "production"])
def test_the_shared_files_are_linked(environment: str) -> None:
    folder = ROOT / "inventories" / environment / "group_vars"
    assert (folder / "all/00-kit.yml").samefile(ROOT / "inventories/shared/kit.yml")
    assert (folder / "app/00-harbour.yml").samefile(ROOT / "inventories/shared/harbour.yml")
