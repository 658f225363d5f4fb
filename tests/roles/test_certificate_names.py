"""A certificate is asked for when its names or its authority differ, and at no other run."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.roles.plays import ROOT, run_play, task_of

TLS = ROOT / "roles/tls"
SERVER = "https://acme.example/directory"
PRESENT = f"""X509v3 Subject Alternative Name:
    DNS:quay.example, DNS:www.quay.example
server = {SERVER}"""


def asks(folder: Path, domains: list[str], **settings: Any) -> bool:
    """Whether the role asks for a certificate where there is one of two names."""
    task = task_of("roles/tls/tasks/main.yml", "Get a certificate")
    del task["ansible.builtin.import_tasks"]
    task["ansible.builtin.debug"] = {"msg": "asked for"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(TLS / f"{part}/main.yml") for part in ("defaults", "vars")],
        "tasks": [task],
    }
    said = {
        "tls_certificate_name": "quay",
        "tls_acme_directory": SERVER,
        "tls_domains": domains,
        "__tls_present": {"stdout": PRESENT},
        **settings,
    }
    result = run_play(folder, play, "-i", "localhost,", "-c", "local", "-e", json.dumps(said))
    assert result.returncode == 0, result.stdout + result.stderr
    return "asked for" in result.stdout


@pytest.mark.parametrize(
    "domains",
    [
        ["www.quay.example", "quay.example"],
        ["Quay.example", "www.quay.EXAMPLE"],
        ["quay.example", "www.quay.example", "quay.example", "QUAY.example"],
    ],
    ids=["in another order", "with capitals", "repeated"],
)
def test_names_that_are_there_are_not_asked_for(tmp_path: Path, domains: list[str]) -> None:
    assert not asks(tmp_path, domains)


def test_other_names_and_another_authority_are(tmp_path: Path) -> None:
    names = ["quay.example", "www.quay.example"]
    assert asks(tmp_path, names[:1])
    assert asks(tmp_path, [*names, "api.quay.example"])
    assert asks(tmp_path, names, tls_acme_directory="https://other.example/directory")
    assert asks(tmp_path, names, __tls_present={"stdout": ""})
