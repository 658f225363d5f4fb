"""After a reboot, orderly or not, the host serves again unaided what served before."""

import time

import httpx
import pytest

from tests.hosts.lab import lab
from tests.hosts.machine import Machine


def _serves_again(client: httpx.Client, seconds: float = 60.0) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = client.get("/health")
            if answer.status_code == 200:
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the host does not serve again"
        time.sleep(0.5)


@pytest.mark.parametrize("verb", ["reboot", "power-cut"])
def test_the_host_serves_again_unaided(client: httpx.Client, machine: Machine, verb: str) -> None:
    before = machine.release()
    boots = len(machine.run("journalctl --list-boots -q").stdout.splitlines())
    lab(verb, machine.name)
    if verb == "power-cut":
        with pytest.raises(httpx.TransportError):
            client.get("/health", timeout=3)
        lab("start", machine.name)
    machine.wait_for(f"test $(journalctl --list-boots -q | wc -l) -gt {boots}", 60)
    assert _serves_again(client).json()["release"] == before
    machine.wait_for("systemctl is-system-running | grep -qE 'running|degraded'", 60)
    assert machine.run("systemctl --failed --plain --no-legend").stdout == ""
    assert machine.run("nft list ruleset").stdout.strip()
