"""Data that outlives releases: its folders, who may use them, and who is refused them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.roles.conftest import SETTINGS
from tests.roles.rendering import DISTRIBUTIONS, ROOT, facts, render

FOLDERS = [
    {"path": "files", "readers": "web"},
    {"path": "files/incoming", "readers": "web", "mode": "2700"},
    {"path": "files-of-old"},
    {"path": "/mnt/pictures", "mode": "0750"},
]
TEMPLATES = {
    "tmpfiles.conf": "app/templates/tmpfiles.conf.j2",
    "quay@.service": "app/templates/app@.service.j2",
    "quay-boot.service": "app/templates/app-boot.service.j2",
    "quay-preflight@.service": "app/templates/app-preflight@.service.j2",
    "quay-migrate@.service": "app/templates/app-migrate@.service.j2",
    "quay.mail@.service": "app/templates/process@.service.j2",
    "run.conf": "app/templates/run.conf.j2",
    "site.conf": "nginx/templates/site.conf.j2",
}
WRITERS = ("quay@.service", "quay.mail@.service", "run.conf")
REFUSED = "quay keeps data in a folder of each host"
everywhere = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of rendered files of each distribution, for a service with data of many kinds."""
    folder = tmp_path_factory.mktemp("kept")
    said = {
        "app_data_folders": FOLDERS,
        "app_web_addresses": ["203.0.113.0/24"],
        "app_migrate_command": "python -m migrations",
    }
    return render(folder, {**SETTINGS, **said}, TEMPLATES)


def said(path: Path, name: str) -> list[str]:
    """The values of a setting of a unit."""
    lines = path.read_text().splitlines()
    return [line.removeprefix(f"{name}=") for line in lines if line.startswith(f"{name}=")]


@everywhere
def test_folders_are_made_with_their_readers(kept: dict[str, Path], distribution: str) -> None:
    lines = (kept[distribution] / "tmpfiles.conf").read_text().splitlines()
    assert "d /srv/quay/data 0755 root root" in lines
    assert "d /srv/quay/data/files 2750 quay www-data" in lines
    assert "d /srv/quay/data/files/incoming 2700 quay www-data" in lines
    assert "d /srv/quay/data/files-of-old 0700 quay quay" in lines
    assert "d /mnt/pictures 0750 quay quay" in lines


@everywhere
def test_who_serves_may_write_to_them_and_rename_within(
    kept: dict[str, Path], distribution: str
) -> None:
    folder = kept[distribution]
    # One mount for a folder and all that lies in it.
    writable = "/srv/quay/shared /mnt/pictures /srv/quay/data/files-of-old /srv/quay/data/files"
    for name in WRITERS:
        assert said(folder / name, "ReadWritePaths") == [writable], name
    for name in ("quay-preflight@.service", "quay-migrate@.service"):
        assert said(folder / name, "ReadWritePaths") == [], name
    for name in ("quay@.service", "quay.mail@.service", "quay-boot.service"):
        assert said(folder / name, "RequiresMountsFor") == ["/srv/quay /mnt/pictures"], name


@everywhere
def test_the_web_part_reaches_its_addresses_and_asks_for_names(
    kept: dict[str, Path], distribution: str
) -> None:
    folder = kept[distribution]
    for name in ("quay@.service", "quay-preflight@.service", "run.conf"):
        allowed = said(folder / name, "IPAddressAllow")
        assert allowed == ["203.0.113.0/24", "localhost", "192.0.2.53", "fe80::1"], name
        assert said(folder / name, "PrivateNetwork") == []
    for name in ("quay.mail@.service", "quay-migrate@.service"):
        assert said(folder / name, "IPAddressAllow") == []
        assert said(folder / name, "PrivateNetwork") == ["yes"]


@everywhere
def test_a_service_without_data_has_no_folder_for_it(
    rendered: dict[str, Path], distribution: str, tmp_path: Path
) -> None:
    # Harbour's own settings apply where the inventory says nothing else.
    assert "/srv/quay/data/files 2750" in (rendered[distribution] / "tmpfiles.conf").read_text()
    host = {"all": {"hosts": {distribution: {"facts": facts(distribution)}}}}
    groups = dict.fromkeys(("app", "database", "cache"), host["all"])
    none = render(tmp_path, {**SETTINGS, "harbour_files": "none"}, TEMPLATES, {**host, **groups})
    assert "/srv/quay/data" not in (none[distribution] / "tmpfiles.conf").read_text()
    site = (none[distribution] / "site.conf").read_text()
    for word in ("proxy_request_buffering off", "alias", "quay_uploads", "/.files/"):
        assert word not in site


NEXT = "PLAY [Look at each host]"


def check(folder: Path, hosts: int, **settings: Any) -> str:
    """What the playbook's first look at an inventory says."""
    names = {f"web{number}": {"ansible_connection": "local"} for number in range(hosts)}
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": names}, "app": {"hosts": names}}))
    extra = folder / "extra.json"
    extra.write_text(json.dumps({**SETTINGS, "ansible_become": False, **settings}))
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={inventory}",
            f"--extra-vars=@{extra}",
            "deploy/preflight.yml",
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return " ".join(result.stdout.split())


def test_a_fleet_does_not_keep_data_on_one_of_its_hosts(tmp_path: Path) -> None:
    refused = check(tmp_path, 2, app_data_folders=FOLDERS)
    paths = ", ".join(str(one["path"]) for one in FOLDERS)
    assert f"{REFUSED} ({paths}), and 2 hosts serve it" in refused
    assert "say app_data_shared: true" in refused
    assert "harbour_files: s3" in refused
    assert NEXT not in refused
    for hosts, settings in (
        (2, {"app_data_folders": FOLDERS, "app_data_shared": True}),
        (2, {"app_data_folders": []}),
        (2, {}),
        (1, {"app_data_folders": FOLDERS}),
    ):
        passed = check(tmp_path, hosts, **settings)
        assert REFUSED not in passed
        assert NEXT in passed
