"""Accounts as a host has them: the console of an operator, and the worker that sends mail."""

import asyncio
import email
import email.policy
import json
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hosts.conftest import PASSWORD
from tests.hosts.lab import status
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import Repository

NEXT = "v0.1.1"
LOOK = """
import json, os, pathlib, pwd, socket

def refused(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return error.strerror
    return None

print(json.dumps({
    "user": pwd.getpwuid(os.getuid()).pw_name,
    "folder": os.getcwd(),
    "release": os.environ["APP_RELEASE"],
    "operator": os.environ["SLIPWAY_OPERATOR"],
    "secrets": sorted(os.listdir(os.environ["CREDENTIALS_DIRECTORY"])),
    "network": refused(socket.socket, socket.AF_INET),
    "code": refused(pathlib.Path("/srv/harbour/current/code").write_text, "mine"),
    "settings": refused(os.listdir, "/etc/slipway/harbour/credentials"),
    "own": refused(pathlib.Path("/srv/harbour/shared/looked").write_text, "mine"),
}))
"""


def worker(machine: Machine) -> str:
    """The unit that works beside the live release."""
    return f"{machine.app}.worker@{machine.release()}.service"


def test_a_program_of_the_release_can_do_what_the_service_can(machine: Machine) -> None:
    said = machine.run(f"slipway run python -c {shlex.quote(LOOK)}").stdout
    found: dict[str, Any] = json.loads(said)
    assert "app_token_secret" in found.pop("secrets")
    assert found == {
        "user": "harbour",
        "folder": f"/srv/harbour/releases/{machine.release()}",
        "release": machine.release(),
        "operator": status()["hosts"][0]["user"],
        "network": "Address family not supported by protocol",
        "code": "Read-only file system",
        "settings": "Permission denied",
        "own": None,
    }


def test_the_exit_status_of_a_program_is_passed_on(machine: Machine) -> None:
    ended = machine.run("slipway run python -c 'raise SystemExit(23)'", check=False)
    assert ended.returncode == 23
    assert (
        machine.run("systemctl list-units --all --plain --no-legend 'slipway-*-run-*'").stdout == ""
    )


def test_a_program_can_ask_for_a_password_in_a_terminal(machine: Machine) -> None:
    program = shlex.quote("import getpass; print('length', len(getpass.getpass()))")
    command = shlex.join([f"sudo -n slipway run python -c {program}"])
    with subprocess.Popen(
        [machine.ssh[0], "-tt", *machine.ssh[1:], f"sh -c {command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = b""
        while not shown.endswith(b"Password: ") and (more := process.stdout.read(1)):
            shown += more
        process.stdin.write(PASSWORD.encode() + b"\n")
        process.stdin.flush()
        shown += process.stdout.read()
    assert process.returncode == 0
    assert f"length {len(PASSWORD)}".encode() in shown
    assert PASSWORD.encode() not in shown


def test_an_administrator_is_made_on_the_console(machine: Machine, client: httpx.Client) -> None:
    name = f"root{secrets.token_hex(4)}"
    create = f"create-admin {name} {name}@example.com --password-file -"
    machine.run(f"printf '%s\\n' {shlex.quote(PASSWORD)} | slipway console {create}")
    answer = client.post("/api/v1/auth/token", data={"username": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    assert answer.json()["access_token"]


def mail_to(address: str, seconds: float = 30.0) -> EmailMessage:
    """The mail that the lab took for an address, as soon as it is there."""
    folder = Path(status()["mail"])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in folder.glob("*.eml"):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            if address in str(message["To"]):
                return message
        time.sleep(0.2)
    raise AssertionError(f"No mail to {address} in {folder}")


def test_who_registers_gets_a_mail(machine: Machine, client: httpx.Client) -> None:
    name = f"sailor{secrets.token_hex(4)}"
    user = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    made = client.post("/api/v1/users/register", json=user)
    assert made.status_code == 201, made.text
    message = mail_to(user["email"])
    assert message["From"] == f"no-reply@{machine.site}"
    body = message.get_body(("plain",))
    assert body is not None
    token = re.search(r"hmt_[\w-]+", body.get_content())
    assert token, body.get_content()
    given = {"token": token[0]}
    verified = client.post("/api/v1/users/verify-email", json=given)
    assert verified.status_code == 200, verified.text
    assert verified.json()["email_verified"] is True
    assert client.post("/api/v1/users/verify-email", json=given).status_code == 400


def test_the_worker_is_sandboxed(machine: Machine) -> None:
    assert machine.exposure(worker(machine)) <= 1.0


def test_a_worker_that_is_killed_comes_back(machine: Machine) -> None:
    unit = worker(machine)
    ask = f"systemctl show --value --property=MainPID {unit}"
    before = machine.run(ask).stdout.strip()
    assert before != "0"
    machine.run(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
    machine.wait_for(
        f"now=$({ask}) && test $now -ne 0 && test $now -ne {before} && systemctl is-active {unit}"
    )


@pytest.fixture
def back(operator: Operator, machine: Machine) -> Iterator[str]:
    """Returns to the release that was live."""
    before = machine.release()
    yield before
    returned = asyncio.run(operator.play("deploy/rollback.yml", f"--extra-vars=release={before}"))
    assert returned.returncode == 0, returned.text
    machine.run(f"systemctl is-active {machine.app}.worker@{before}.service")


def test_the_worker_follows_a_release(
    back: str, operator: Operator, repository: Repository, machine: Machine
) -> None:
    repository.tag(NEXT)
    released = asyncio.run(operator.release(NEXT))
    assert released.returncode == 0, released.text
    assert worker(machine) == f"{machine.app}.worker@{NEXT}.service"
    machine.run(f"systemctl is-active {worker(machine)}")
    old = f"{machine.app}.worker@{back}.service"
    machine.wait_for(f"test $(systemctl is-active {old}) = inactive", 70)
