"""The templates of the roles, rendered by Ansible itself for every supported distribution."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

#: What `ansible.builtin.setup` finds on each, as far as the roles ask for it.
DISTRIBUTIONS: dict[str, dict[str, str]] = {
    "debian-12": {"name": "Debian", "version": "12.11", "release": "bookworm", "python": "3.11.2"},
    "debian-13": {"name": "Debian", "version": "13.1", "release": "trixie", "python": "3.13.5"},
    "ubuntu-22.04": {
        "name": "Ubuntu",
        "version": "22.04",
        "release": "jammy",
        "python": "3.10.12",
    },
    "ubuntu-24.04": {"name": "Ubuntu", "version": "24.04", "release": "noble", "python": "3.12.3"},
    "ubuntu-26.04": {
        "name": "Ubuntu",
        "version": "26.04",
        "release": "resolute",
        "python": "3.14.0",
    },
}

#: Rendered file → template.
TEMPLATES = {
    "nginx.conf": "nginx/templates/nginx.conf.j2",
    "site.conf": "nginx/templates/site.conf.j2",
    "nginx-sandbox.conf": "nginx/templates/sandbox.conf.j2",
    "nftables.conf": "firewall/templates/nftables.conf.j2",
    "sshd.conf": "base/templates/sshd.conf.j2",
    "journald.conf": "base/templates/journald.conf.j2",
    "sysctl.conf": "base/templates/sysctl.conf.j2",
    "upgrades.conf": "base/templates/unattended-upgrades.j2",
    "apt.conf": "base/templates/apt.conf.j2",
    "mirror.sources": "base/templates/mirror.sources.j2",
    "store.conf": "redis/templates/store.conf.j2",
    "postgresql.conf": "postgresql/templates/server.conf.j2",
    "pg_hba.conf": "postgresql/templates/pg_hba.conf.j2",
    "pg_ident.conf": "postgresql/templates/pg_ident.conf.j2",
    "databases.sql": "postgresql/templates/databases.sql.j2",
    "gunicorn.conf.py": "app/templates/gunicorn.conf.py.j2",
    "environment": "app/templates/environment.j2",
    "quay@.socket": "app/templates/app@.socket.j2",
    "quay@.service": "app/templates/app@.service.j2",
    "quay-preflight@.service": "app/templates/app-preflight@.service.j2",
    "quay-migrate@.service": "app/templates/app-migrate@.service.j2",
    "quay-contract@.service": "app/templates/app-contract@.service.j2",
    "quay-restore-point@.service": "app/templates/app-restore-point@.service.j2",
    "quay.mail@.service": "app/templates/process@.service.j2",
    "quay.letters@.service": "app/templates/process@.service.j2",
    "run.conf": "app/templates/run.conf.j2",
    "quay-boot.service": "app/templates/app-boot.service.j2",
    "tmpfiles.conf": "app/templates/tmpfiles.conf.j2",
    "deploy-hook": "tls/templates/deploy-hook.j2",
    "certbot.conf": "tls/templates/certbot.conf.j2",
}

#: Role files are read before the inventory's, as in a role, so that the inventory wins.
PLAYBOOK = [
    {
        "name": "Render the templates",
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [
            str(path)
            for part in ("defaults", "vars")
            for path in sorted(ROOT.glob(f"roles/*/{part}/*.yml"))
        ],
        "tasks": [
            {"name": "Give the facts of the distribution", "given_facts": {"facts": "{{ facts }}"}},
            {
                "name": "Render the templates",
                "render_files": {
                    "folder": "{{ output }}/{{ inventory_hostname }}",
                    "templates": "{{ templates }}",
                },
            },
        ],
    }
]


def facts(distribution: str) -> dict[str, Any]:
    """The facts of a small virtual machine with a distribution."""
    known = DISTRIBUTIONS[distribution]
    return {
        "distribution": known["name"],
        "distribution_version": known["version"],
        "distribution_major_version": known["version"].split(".")[0],
        "distribution_release": known["release"],
        "python_version": known["python"],
        "memtotal_mb": 1967,
        "processor_vcpus": 2,
        "virtualization_role": "guest",
        "virtualization_type": "kvm",
        "dns": {"nameservers": ["192.0.2.53", "fe80::1%eth0"]},
        "env": {"SUDO_USER": "ubuntu"},
    }


def one_of_each() -> dict[str, Any]:
    """An inventory with a host of each distribution, which does everything."""
    hosts = {name: {"facts": facts(name)} for name in DISTRIBUTIONS}
    groups = {group: {"hosts": dict.fromkeys(hosts)} for group in ("app", "database", "cache")}
    return {"all": {"hosts": hosts}, **groups}


def _wanted(file: str, template: str) -> dict[str, Any]:
    """What to render, with the variables that a role would give a template in its loop."""
    name = re.sub(r"^quay[.]([a-z]+)@.*$", r"\1", file)
    process = "{{ __app_processes['" + name + "'] | default({}) }}"
    variables = {"name": name, "process": process}
    return {"file": file, "template": str(ROOT / "roles" / template), "variables": variables}


def render(
    folder: Path,
    settings: Mapping[str, Any],
    templates: Mapping[str, str] = TEMPLATES,
    hosts: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Renders templates for every host of an inventory; answers the folder of each."""
    inventory = folder / "hosts.json"
    groups = hosts or one_of_each()
    inventory.write_text(json.dumps(groups))
    for name in groups["all"]["hosts"]:
        (folder / name).mkdir(parents=True)
    shared = ROOT / "inventories/shared"
    extra = {
        **yaml.safe_load((shared / "kit.yml").read_text()),
        **yaml.safe_load((shared / "harbour.yml").read_text()),
        "vault_token_secret": "a-secret-of-the-test",
        "variables": settings["app_environment"],
        **settings,
        "output": str(folder),
        "templates": [_wanted(file, template) for file, template in templates.items()],
    }
    variables = folder / "variables.json"
    variables.write_text(json.dumps(extra))
    playbook = folder / "render.json"
    playbook.write_text(json.dumps(PLAYBOOK))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"--inventory={inventory}",
        f"--extra-vars=@{variables}",
        f"--module-path={ROOT / 'tests/roles/library'}",
        str(playbook),
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_ACTION_PLUGINS": str(ROOT / "tests/roles/actions"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return {name: folder / name for name in groups["all"]["hosts"]}
