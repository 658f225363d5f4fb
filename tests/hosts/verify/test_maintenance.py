"""A closed site on a live host: who is shut out, who is not, and that releases go on."""

import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.hosts.machine import Machine
from tests.hosts.operator import Operator


@pytest.fixture(autouse=True)
def _open_afterwards(machine: Machine) -> Iterator[None]:
    yield
    machine.run(f"slipway --app {machine.app} maintenance off")


def own_addresses(machine: Machine) -> str:
    """The addresses that the host sees this machine by."""
    found = []
    for address in (machine.address, machine.address6):
        with socket.create_connection((address, 443), timeout=5) as connection:
            found.append(str(connection.getsockname()[0]))
    return " ".join(found)


def challenge(machine: Machine) -> str:
    """What the authority finds when it asks for a challenge, without TLS."""
    folder = "/var/www/acme/.well-known/acme-challenge"
    machine.run(f"mkdir -p {folder}")
    machine.put(b"answer", f"{folder}/maintenance")
    answer = httpx.get(f"http://{machine.site}/.well-known/acme-challenge/maintenance")
    machine.run(f"rm {folder}/maintenance")
    return answer.text


def becomes(machine: Machine, status: int) -> httpx.Response:
    """Wait for an answer: a reload takes effect a moment after its command."""
    deadline = time.monotonic() + 10
    while (answer := ask(machine)).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer


def ask(machine: Machine, path: str = "/health") -> httpx.Response:
    """Ask on a connection of its own."""
    return httpx.get(f"https://{machine.site}{path}", verify=machine.context)


async def test_the_public_is_shut_out_until_the_site_opens(
    machine: Machine, operator: Operator
) -> None:
    reason = 'We "move"; back soon'
    settings = json.dumps({"maintenance": "on", "maintenance_reason": reason})
    result = await operator.play("deploy/maintenance.yml", f"--extra-vars={settings}")
    assert result.returncode == 0, result.text
    assert "closed for maintenance since" in result.text
    closed = becomes(machine, 503)
    assert "closed for maintenance" in machine.run(f"slipway --app {machine.app} status").stdout
    assert int(closed.headers["retry-after"]) > 0
    error = closed.json()["error"]
    assert error["code"] == "maintenance"
    assert error["message"] == f"The service is under maintenance: {reason}"
    assert error["request_id"] == closed.headers["x-request-id"]
    # The release is proved from the host itself, and the authority comes without TLS.
    inside = f"curl -sS -o /dev/null -w '%{{http_code}}' --resolve {machine.site}:443:127.0.0.1"
    assert machine.run(f"{inside} https://{machine.site}/health").stdout == "200"
    assert challenge(machine) == "answer"

    # It is a file, not a state of Nginx's memory.
    machine.run("systemctl restart nginx.service")
    assert ask(machine).status_code == 503
    result = await operator.play("deploy/maintenance.yml", "--extra-vars=maintenance=off")
    assert result.returncode == 0, result.text
    becomes(machine, 200)


def test_an_allowed_address_passes(machine: Machine) -> None:
    verb = f"slipway --app {machine.app} maintenance"
    try:
        machine.run(f"{verb} on --allow 192.0.2.0/24")
        becomes(machine, 503)
        machine.run(f"{verb} on --allow 192.0.2.0/24 {own_addresses(machine)}")
        becomes(machine, 200)
        refused = machine.run(f"{verb} on --allow nobody.example", check=False)
        assert refused.returncode == 2
        assert ask(machine).status_code == 200
    finally:
        machine.run(f"{verb} off")


async def test_the_history_of_every_host(machine: Machine, operator: Operator) -> None:
    result = await operator.play("deploy/history.yml", "--extra-vars=last=1")
    assert result.returncode == 0, result.text
    assert machine.name in result.text
    assert machine.release() in result.text
    metrics = machine.run(f"cat /var/lib/slipway/{machine.app}/metrics.prom").stdout
    assert f'slipway_release_info{{app="{machine.app}",version="{machine.release()}"' in metrics
