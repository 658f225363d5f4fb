"""Wrong input to the playbook is one clear sentence, and nothing has been touched."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

HOST = """
all:
  hosts:
    web1: {{ansible_host: 127.0.0.1, ansible_port: 1, ansible_connection: {connection}}}
  vars: {variables}
app: {{hosts: {{web1: }}}}
"""
COMPLETE = (
    "{app_name: quay, app_asgi: 'main:app', tls_domains: [quay.test], tls_email: a@b.test, "
    "app_credentials: {token: real-secret}}"
)


def play(
    inventory: Path, *arguments: str, playbook: str = "playbook.yml"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANSIBLE), "-i", str(inventory), playbook, *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_RETRIES": "0", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def write(folder: Path, text: str) -> Path:
    inventory = folder / "hosts.yml"
    inventory.write_text(text)
    return inventory


def said(result: subprocess.CompletedProcess[str]) -> str:
    """The whole output with its line breaks folded, as a reader takes it in."""
    assert result.returncode != 0
    assert "Traceback" not in result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere.yml" in said(play(tmp_path / "nowhere.yml"))


def test_an_inventory_without_a_host_of_the_service(tmp_path: Path) -> None:
    output = said(play(write(tmp_path, "database: {hosts: {db1: }}\n")))
    assert 'has no host in the group "app"' in output
    assert str(tmp_path) in output


@pytest.mark.parametrize("name", ["app_name", "app_asgi", "tls_domains", "tls_email"])
def test_a_missing_variable_is_named(tmp_path: Path, name: str) -> None:
    variables = COMPLETE.replace(f"{name}:", "unrelated:")
    inventory = write(tmp_path, HOST.format(connection="ssh", variables=variables))
    assert f"web1 lacks {name}: set it in the group_vars" in said(play(inventory))


def test_the_example_secrets_are_refused(tmp_path: Path) -> None:
    variables = COMPLETE.replace("real-secret", "example-secret")
    output = said(play(write(tmp_path, HOST.format(connection="ssh", variables=variables))))
    assert "web1 still has the example value of token" in output
    assert "example-secret" not in output


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_the_example_inventories_are_complete_but_for_secrets(environment: str) -> None:
    output = said(play(ROOT / "inventories" / environment))
    assert "still has the example value of app_token_secret" in output


def test_the_example_of_every_secret_in_use_is_refused() -> None:
    rest = ("vault_token_secret=real", "harbour_mail_username=harbour")
    accepted = "vault_token_accepted_secret=example-of-a-second-key"
    inventory = ROOT / "inventories/production"
    output = said(play(inventory, *(f"--extra-vars={text}" for text in (*rest, accepted))))
    assert "example value of app_token_accepted_secret, app_mail_password:" in output
    assert "app_token_secret" not in output


#: Another team's service, whose database and cache are hosts of the inventory.
APART: dict[str, Any] = {
    "all": {"hosts": {"web1": {}, "db1": {}, "c1": {}}},
    "app": {"hosts": {"web1": {}}},
    "database": {"hosts": {"db1": {}}},
    "cache": {"hosts": {"c1": {}}},
}


def said_of_an_own_app(folder: Path, groups: dict[str, Any], **settings: object) -> str:
    """What becomes of its inventory, with the wiring of the kit; no host is asked."""
    (folder / "group_vars/all").mkdir(parents=True)
    (folder / "group_vars/all/00-kit.yml").symlink_to(ROOT / "inventories/shared/kit.yml")
    variables = {
        "app_name": "quay",
        "app_asgi": "quay.main:app",
        "tls_domains": ["quay.test"],
        "tls_email": "a@b.test",
        "private_address": "127.0.0.1",
        "ansible_host": "127.0.0.1",
        "ansible_port": 1,
        "vault_database_password": "real-secret-of-the-service",
        "vault_database_owner_password": "real-secret-of-the-owner",
        "vault_cache_password": "real-secret-of-the-cache",
        "app_credentials": {"database_password": "{{ vault_database_password }}"},
        **settings,
    }
    (folder / "group_vars/all/main.yml").write_text(json.dumps(variables))
    inventory = folder / "hosts.yml"
    inventory.write_text(json.dumps(groups))
    return said(play(inventory, playbook="deploy/preflight.yml"))


def test_the_examples_of_the_database_and_the_cache_are_refused(tmp_path: Path) -> None:
    examples = {
        "vault_database_owner_password": "example-at-least-16-characters-too",
        "vault_cache_password": "example-at-least-16-characters-more",
    }
    output = said_of_an_own_app(tmp_path / "both", APART, **examples)
    where = "put real secrets into group_vars/all/vault.yml and encrypt it"
    assert f"db1 still has the example value of vault_database_owner_password: {where}" in output
    assert f"c1 still has the example value of vault_cache_password: {where}" in output
    assert "web1 still has" not in output
    assert "example-at-least" not in output
    # One host that does everything needs neither, and a managed one is not the kit's.
    alone: dict[str, Any] = {group: {"hosts": {"web1": {}}} for group in APART}
    own = {"app_credentials": {"stripe_key": "real"}, **examples}
    assert NEXT in said_of_an_own_app(tmp_path / "alone", alone, **own)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"app_name": "my_app"}, 'web1: app_name is "my_app": use a-z, 0-9 and -'),
        (
            {"nginx_upload_paths": ["/files/"], "nginx_download_paths": ["/files/"]},
            "web1: /files/ is told by nginx_upload_paths and nginx_download_paths",
        ),
        (
            {"app_allowed_addresses": ["db.example"]},
            "web1: app_allowed_addresses, app_web_addresses, and the addresses of a process",
        ),
    ],
)
def test_what_no_unit_or_site_can_be_written_for_is_refused_before_all(
    tmp_path: Path, settings: dict[str, object], sentence: str
) -> None:
    output = said_of_an_own_app(tmp_path, APART, **settings)
    assert sentence in output
    assert NEXT not in output


@pytest.mark.parametrize("group", ["database", "cache"])
def test_two_hosts_of_what_all_share_are_refused(tmp_path: Path, group: str) -> None:
    # As when each host of a fleet is written like one that does everything.
    both: dict[str, Any] = {"hosts": {"web1": {}, "web2": {}}}
    groups = {"app": both, group: both}
    output = said_of_an_own_app(tmp_path, groups)
    assert f'The group "{group}" has 2 hosts' in output
    assert "name one." in output
    assert NEXT not in output


def test_what_is_made_of_facts_is_looked_at_when_there_are_facts(tmp_path: Path) -> None:
    gateway = ["{{ ansible_facts['default_ipv4']['gateway'] }}"]
    output = said_of_an_own_app(tmp_path, APART, app_allowed_addresses=gateway)
    assert NEXT in output
    assert "undefined" not in output


def test_a_host_that_does_not_answer_is_named(tmp_path: Path) -> None:
    inventory = write(tmp_path, HOST.format(connection="ssh", variables=COMPLETE))
    output = said(play(inventory))
    assert "web1" in output
    assert "UNREACHABLE" in output
    assert "Connection refused" in output


def test_a_user_who_cannot_become_root_is_told_so(tmp_path: Path) -> None:
    # Whoever runs this becomes root by a program that refuses; should it ever succeed, no more than
    # the checks are run on this machine.
    become = (
        "ansible_become_method: su, ansible_become_exe: /bin/false, ansible_become_user: daemon"
    )
    variables = COMPLETE.replace("{app_name", f"{{{become}, app_name")
    inventory = write(tmp_path, HOST.format(connection="local", variables=variables))
    output = said(play(inventory, playbook="deploy/preflight.yml"))
    assert "cannot become root on web1 without a password" in output
    assert "--ask-become-pass" in output


def said_of_harbour(**settings: object) -> str:
    """What becomes of production with real secrets and further settings; no host is asked."""
    secrets = {"vault_token_secret": "real-secret", "vault_s3_secret_key": "real-secret"}
    extra = f"--extra-vars={json.dumps({**secrets, **settings})}"
    # The names of its hosts are those of nobody.
    local = "--extra-vars=ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1"
    inventory = ROOT / "inventories/production"
    return said(play(inventory, extra, local, playbook="deploy/preflight.yml"))


STORE = {"harbour_files": "s3", "harbour_s3_bucket": "files", "harbour_s3_access_key": "AKIA"}
DSN = "https://a-key-of-ours@errors.example.com/7"
NEXT = "PLAY [Look at each host]"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"harbour_mail_host": "smtp.example.com"},
            "harbour_mail_host is smtp.example.com, and harbour_mail_addresses is empty",
        ),
        ({"vault_sentry_dsn": DSN}, "(vault_sentry_dsn), and harbour_sentry_addresses is empty"),
        ({"harbour_files": "s4"}, 'harbour_files is "s4" (group_vars/app/main.yml): say local, s3'),
        ({"harbour_files": "s3"}, "harbour_s3_bucket and harbour_s3_addresses are empty: name the"),
        (STORE, "harbour_files is s3, and harbour_s3_addresses is empty: name the bucket"),
    ],
)
def test_a_setting_without_what_belongs_to_it_is_refused(
    settings: dict[str, object], sentence: str
) -> None:
    output = said_of_harbour(**settings)
    assert sentence in output
    assert "a-key-of-ours" not in output.partition("PLAY [")[2]
    assert NEXT not in output


@pytest.mark.parametrize("way", ["its own", "everywhere"])
def test_with_the_way_to_them_they_are_taken(way: str) -> None:
    networks = ["192.0.2.0/24"]
    ways: dict[str, object] = {
        "harbour_mail_addresses": networks,
        "harbour_sentry_addresses": networks,
        "harbour_s3_addresses": networks,
    }
    if way == "everywhere":
        ways = {"app_allowed_addresses": ["any"]}
    mail = {"harbour_mail_host": "smtp.example.com", "vault_sentry_dsn": DSN}
    assert NEXT in said_of_harbour(**mail, **STORE, **ways)
