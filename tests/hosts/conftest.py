"""The host of the scenario, and clients of the service on it.

`SLIPWAY_LAB_STATE` names the lab that the scenario made; without it these tests are not collected.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hosts.lab import status
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import ROOT, Repository

FIRST = "v0.1.0"

collect_ignore = [] if os.environ.get("SLIPWAY_LAB_STATE") else ["verify", "fleet"]


PASSWORD = "Capstan-and-4-anchors"


@pytest.fixture(scope="session")
def repository() -> Repository:
    return Repository.clone(Path(os.environ["SLIPWAY_LAB_STATE"]) / "release")


@pytest.fixture(scope="session")
def operator(repository: Repository) -> Operator:
    here = ROOT / "tests/hosts"
    scenario = Path(os.environ["SLIPWAY_LAB_STATE"]).name
    settings = (here / "shared/settings.yml", here / scenario / "settings.yml")
    return Operator(ROOT / "inventories/lab", settings, repository)


@pytest.fixture(scope="session")
def machine(operator: Operator, repository: Repository) -> Machine:
    """The host, with its first release on it."""
    lab = status()
    host = lab["hosts"][0]
    found = Machine(
        name=host["name"],
        address=host["address"],
        address6=host["address6"],
        ssh=tuple(host["ssh"]),
        ca=Path(lab["ca_bundle"]),
        site=f"harbour.{lab['domain']}",
        app="harbour",
    )
    if found.run("test -e /srv/harbour/current", check=False).returncode:
        repository.tag(FIRST)
        result = asyncio.run(operator.release(FIRST))
        assert result.returncode == 0, result.text
    return found


@pytest.fixture
def client(machine: Machine) -> Iterator[httpx.Client]:
    """A client outside the host, which trusts the lab's authority alone."""
    with httpx.Client(base_url=f"https://{machine.site}", verify=machine.context) as client:
        yield client


class Account:
    """A user who has just registered, and who logs in again before the token expires."""

    KEPT_SECONDS = 600.0

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._name = f"sailor{secrets.token_hex(4)}"
        self._token = ""
        self._since = 0.0
        with self._client() as client:
            made = client.post(
                "/api/v1/users/register",
                json={
                    "username": self._name,
                    "email": f"{self._name}@example.com",
                    "password": PASSWORD,
                },
            )
        assert made.status_code == 201, made.text

    def token(self) -> str:
        """An access token that is good for a while."""
        if not self._token or time.monotonic() - self._since > self.KEPT_SECONDS:
            with self._client() as client:
                form = {"username": self._name, "password": PASSWORD}
                answer = client.post("/api/v1/auth/token", data=form)
                if answer.status_code == 429:
                    # Tests of logins have used up what this address may do in a minute.
                    time.sleep(int(answer.headers["retry-after"]))
                    answer = client.post("/api/v1/auth/token", data=form)
            assert answer.status_code == 200, answer.text
            self._token, self._since = str(answer.json()["access_token"]), time.monotonic()
        return self._token

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=f"https://{self._machine.site}", verify=self._machine.context)


@pytest.fixture(scope="session")
def account(machine: Machine) -> Account:
    return Account(machine)


@pytest.fixture
def token(account: Account) -> str:
    """An access token of a user who has just registered."""
    return account.token()
