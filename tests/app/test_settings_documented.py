"""Three lists of settings are one: the class, the document, and what an inventory writes."""

import re
from pathlib import Path

import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[2]


def document() -> dict[str, str]:
    """Meaning of each setting in docs/settings.md, by its field."""
    rows = re.findall(
        r"^\| (?:file )?`(?:APP_|app_)(\w+)` \| [^|]+ \| (.+) \|$",
        (ROOT / "docs/settings.md").read_text(),
        re.MULTILINE,
    )
    return {name.lower(): meaning for name, meaning in rows}


def test_the_document_lists_every_field_as_the_class_describes_it() -> None:
    assert document() == {name: field.description for name, field in Settings.model_fields.items()}


def test_an_inventory_writes_fields_of_the_class_only() -> None:
    settings = yaml.safe_load((ROOT / "inventories/shared/harbour.yml").read_text())
    # They are expressions, because some of them depend on which hosts there are.
    expressions = " ".join(
        settings[name]
        for name in (
            "app_environment",
            "app_migrate_environment",
            "app_credentials",
            "app_migrate_credentials",
        )
    )
    written = set(re.findall(r"'((?:APP|app)_\w+)':", expressions))
    fields = set(Settings.model_fields)
    assert {name.lower().removeprefix("app_") for name in written} <= fields
    # What has no default, and what only the host knows, an inventory has to write.
    assert {"database_url", "token_secret", "allowed_hosts", "cache_url"} <= {
        name.lower().removeprefix("app_") for name in written
    }
