"""Another team's service: what its inventory says is what the whole kit goes by."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.inventory_values import values
from tests.roles.plays import ROOT

NGINX: dict[str, Any] = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
RELEASE: dict[str, Any] = yaml.safe_load((ROOT / "roles/release/defaults/main.yml").read_text())
#: What is about a host and not about the service: a balancer has its own.
OF_A_HOST = {
    *("nginx_version", "nginx_acme_webroot", "nginx_worker_connections"),
    *("nginx_old_worker_seconds", "nginx_local_networks", "nginx_trusted_proxies"),
    *("nginx_upstream_hosts", "nginx_upstream_certificates", "nginx_peers", "nginx_peer_folder"),
    *("nginx_upstream_name", "nginx_internal_names"),
    # A closed site is closed on the hosts of the service, and they send its files.
    *("nginx_maintenance_folder", "nginx_maintenance_networks", "nginx_maintenance_retry_seconds"),
    *("nginx_download_folders", "nginx_download_headers"),
}
OF_THE_SERVICE = sorted(NGINX.keys() - OF_A_HOST)
ONE: dict[str, list[str]] = {"app": ["web1"]}
ALONE = {**ONE, "database": ["web1"], "cache": ["web1"]}
FLEET = {"balancer": ["lb1"], "app": ["web1", "web2"], "database": ["db1"], "cache": ["db1"]}
ADDRESSES = {"lb1": "10.0.0.10", "web1": "10.0.0.11", "web2": "10.0.0.12", "db1": "10.0.0.13"}


def page(beginning: str) -> dict[str, Any]:
    """The settings of the page for other teams: of its block that begins so."""
    text = (ROOT / "docs/your-own-app.md").read_text()
    found = re.search(rf"```yaml\n({beginning}.*?)```", text, re.DOTALL)
    assert found, beginning
    settings: dict[str, Any] = yaml.safe_load(found[1])
    return settings


def inventory(
    folder: Path, groups: Mapping[str, list[str]], app: Mapping[str, Any] | None = None
) -> Path:
    """An inventory as the page says it, with further settings of the group `app`."""
    path = folder / "inventory"
    for group in ("all", "app"):
        (path / "group_vars" / group).mkdir(parents=True)
    (path / "group_vars/all/00-kit.yml").symlink_to(ROOT / "inventories/shared/kit.yml")
    own = {**page("app_asgi:"), **(app or {})}
    everywhere = {name: value for name, value in page("app_name:").items() if name not in own}
    for group, said in (("all", everywhere), ("app", own)):
        (path / "group_vars" / group / "main.yml").write_text(json.dumps(said))
    names = sorted({name for members in groups.values() for name in members})
    hosts = {name: {"ansible_host": ADDRESSES[name]} for name in names}
    members = {group: {"hosts": dict.fromkeys(of)} for group, of in groups.items()}
    (path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}, **members}))
    return path


def test_a_release_is_proved_by_the_path_that_the_inventory_names(tmp_path: Path) -> None:
    wanted = ("release_smoke_url", "nginx_unlimited_paths", "nginx_local_paths")
    found = values(tmp_path, [inventory(tmp_path, ONE)], "web1", wanted)
    assert found == {
        "release_smoke_url": "https://quay.example.com/healthz",
        "nginx_unlimited_paths": ["/healthz"],
        # The same path says that the service is ready, and is for everybody.
        "nginx_local_paths": [],
    }
    other = values(
        tmp_path,
        [tmp_path / "inventory"],
        "web1",
        wanted,
        release_health_path="/alive",
        release_ready_path="/able",
    )
    assert list(other.values()) == ["https://quay.example.com/alive", ["/alive"], ["/able"]]


@pytest.mark.parametrize(
    ("groups", "supplementary"), [(ONE, []), ({**ONE, "cache": []}, []), (ALONE, ["redis"])]
)
def test_a_host_has_of_a_cache_and_a_database_what_is_there(
    tmp_path: Path, groups: dict[str, list[str]], supplementary: list[str]
) -> None:
    found = values(
        tmp_path,
        [inventory(tmp_path, groups)],
        "web1",
        ("app_supplementary_groups", "app_allowed_addresses", "firewall_internal"),
    )
    assert found == {
        "app_supplementary_groups": supplementary,
        "app_allowed_addresses": [],
        "firewall_internal": [],
    }


def test_a_host_reaches_a_database_and_a_cache_of_other_hosts(tmp_path: Path) -> None:
    wanted = ("app_supplementary_groups", "app_allowed_addresses")
    for groups, reached in ((FLEET, ["10.0.0.13"]), ({**ONE, "database": ["db1"]}, ["10.0.0.13"])):
        folder = tmp_path / str(len(groups))
        folder.mkdir()
        found = values(folder, [inventory(folder, groups)], "web1", wanted)
        assert list(found.values()) == [[], reached]


def other_than(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, list):
        return ["/other/"]
    return "17m" if isinstance(value, str) else value + 7


def test_a_balancer_has_of_nginx_what_is_said_for_the_hosts_of_the_service(tmp_path: Path) -> None:
    said = {name: other_than(NGINX[name]) for name in OF_THE_SERVICE}
    wanted = [*OF_THE_SERVICE, "balancer_health_path", "balancer_version_key"]
    found = values(tmp_path, [inventory(tmp_path, FLEET, said)], "lb1", wanted)
    assert (found.pop("balancer_health_path"), found.pop("balancer_version_key")) == (
        "/healthz",
        "",
    )
    assert found == said


def test_what_is_said_nowhere_is_what_the_role_says(tmp_path: Path) -> None:
    paths = {name: RELEASE[name] for name in ("release_health_path", "release_ready_path")}
    for host in ("web1", "lb1"):
        folder = tmp_path / host
        folder.mkdir()
        where = inventory(folder, FLEET, {"release_version_key": "release", **paths})
        assert "nginx_websocket_paths" in page("app_name:")
        found = values(folder, [where], host, OF_THE_SERVICE)
        assert found == {name: NGINX[name] for name in OF_THE_SERVICE}


def test_what_the_hosts_of_a_fleet_verify_is_no_name_of_the_public(tmp_path: Path) -> None:
    source = inventory(tmp_path, FLEET)
    verified = ("fleet_name", "balancer_certificate_name", "release_smoke_certificate_name")
    for names in (["quay.example.com"], ["new.example.com", "quay.example.com"]):
        found = values(
            tmp_path,
            [source],
            "web1",
            [*verified, "balancer_name", "release_smoke_url"],
            tls_domains=names,
        )
        assert {found[name] for name in verified} == {"quay.fleet"}
        assert found["balancer_name"] == names[0]
        assert found["release_smoke_url"] == f"https://{names[0]}/healthz"


def test_a_host_alone_is_verified_by_its_public_name(tmp_path: Path) -> None:
    wanted = (
        "release_smoke_certificate_name",
        "release_smoke_certificates",
        "nginx_internal_names",
    )
    found = values(tmp_path, [inventory(tmp_path, ALONE)], "web1", wanted)
    assert list(found.values()) == ["", "", []]
