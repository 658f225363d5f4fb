"""Another team's FastAPI app on the same host, with inventory variables alone."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from tests.hosts.lab import lab
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import ROOT, Repository

MAIN = '''"""A service that knows nothing of the kit."""

import os
from pathlib import Path

from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.get("/healthz")
async def health() -> dict[str, str]:
    return {"greeting": os.environ["GREETING"]}


@app.get("/secret")
async def secret() -> dict[str, int]:
    folder = Path(os.environ["CREDENTIALS_DIRECTORY"])
    return {"length": len((folder / "stripe_key").read_text())}


@app.get("/write")
async def write() -> dict[str, list[str]]:
    refused = []
    places = ["/srv/quay/shared/own", "/srv/quay/current/code", "/etc/quay"]
    for path in [*places, "/srv/harbour/shared/other"]:
        try:
            Path(path).write_text("mine")
        except OSError:
            refused.append(path)
    return {"refused": refused}


@app.websocket("/live")
async def live(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())
'''
WORKER = '''"""Does one job after the other, and ends the one in hand when it is asked to stop."""

import os
import signal
import time
from pathlib import Path

stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
said = Path("/srv/quay/shared/worked")
while not stopping:
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        time.sleep(0.05)
    with said.open("a") as file:
        file.write(os.environ["APP_RELEASE"] + " did a job\\n")
with said.open("a") as file:
    file.write(os.environ["APP_RELEASE"] + " ended\\n")
'''
CLEANUP = '''"""Is run by a schedule."""

import os
from pathlib import Path

Path("/srv/quay/shared/cleaned").write_text(os.environ["APP_RELEASE"])
'''
SETTINGS = {
    "app_name": "quay",
    "app_asgi": "quay.main:app",
    "app_environment": {"GREETING": 'hello "$world" 100%'},
    "app_credentials": {"stripe_key": "sk-" + "7" * 61},
    "release_health_path": "/healthz",
    "release_ready_path": "/healthz",
    "release_version_key": "",
    "nginx_websocket_paths": ["/live"],
    "app_processes": {
        "mail": {"command": "python -m quay.worker", "seconds": 10},
        "cleanup": {"command": "python -m quay.cleanup", "schedule": "*:*:0/2"},
    },
}


@pytest.fixture(scope="module")
def quay(
    operator: Operator, machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """An operator of the other service: its repository, its inventory."""
    folder = tmp_path_factory.mktemp("quay")
    repository = _repository(folder)
    inventory = folder / "inventory"
    (inventory / "group_vars/all").mkdir(parents=True)
    (inventory / "group_vars/all/00-kit.yml").symlink_to(ROOT / "inventories/shared/kit.yml")
    described = json.loads(lab("inventory"))
    name = machine.site.replace(machine.app, "quay", 1)
    values = {
        **SETTINGS,
        "tls_domains": [name],
        "tls_email": "operations@example.com",
        "tls_acme_directory": described["all"]["vars"]["lab_acme_directory"],
        "base_extra_ca_certificates": described["all"]["vars"]["lab_ca_certificates"],
    }
    (inventory / "group_vars/all/main.yml").write_text(yaml.safe_dump(values))
    hosts = {"all": {"hosts": described["_meta"]["hostvars"]}, "app": {"hosts": {machine.name: {}}}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return Operator(inventory, operator.settings, repository)


def _repository(folder: Path) -> Repository:
    path = folder / "repository"
    (path / "quay").mkdir(parents=True)
    (path / "quay/__init__.py").touch()
    (path / "quay/main.py").write_text(MAIN)
    (path / "quay/worker.py").write_text(WORKER)
    (path / "quay/cleanup.py").write_text(CLEANUP)
    names = [
        "fastapi",
        "gunicorn",
        "httptools",
        "uvicorn",
        "uvicorn-worker",
        "uvloop",
        "websockets",
    ]
    (path / "requirements.in").write_text("\n".join(names) + "\n")
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
    options = ["--generate-hashes", "--no-header", "--output-file=requirements.txt"]
    # uv asks no authorities of this machine by itself.
    environment = {**os.environ, "UV_SYSTEM_CERTS": "true"}
    subprocess.run([*command, *options, "requirements.in"], cwd=path, env=environment, check=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(path)], check=True)
    return Repository.adopt(folder)


@pytest.fixture(scope="module")
def site(quay: Operator, machine: Machine) -> Iterator[httpx.Client]:
    provisioned = asyncio.run(quay.play("playbook.yml"))
    assert provisioned.returncode == 0, provisioned.text
    quay.repository.tag("v1.0.0")
    released = asyncio.run(quay.release("v1.0.0"))
    assert released.returncode == 0, released.text
    name = machine.site.replace(machine.app, "quay", 1)
    # Only the lab's authority knows the name: the address is asked for it.
    with httpx.Client(
        base_url=f"https://{machine.address}",
        headers={"Host": name},
        verify=machine.context,
    ) as client:
        client.event_hooks["request"].append(
            lambda request: request.extensions.update({"sni_hostname": name})
        )
        yield client


def test_it_serves_beside_the_other(site: httpx.Client, machine: Machine) -> None:
    assert site.get("/healthz").json() == {"greeting": 'hello "$world" 100%'}
    ours = httpx.get(f"https://{machine.site}/health", verify=machine.context)
    assert ours.json()["release"] == machine.release()


def test_it_gets_its_secrets_and_no_rights_beyond_its_own(site: httpx.Client) -> None:
    assert site.get("/secret").json() == {"length": 64}
    refused = site.get("/write").json()["refused"]
    assert refused == ["/srv/quay/current/code", "/etc/quay", "/srv/harbour/shared/other"]


def test_its_documentation_is_hidden_as_well(site: httpx.Client) -> None:
    assert site.get("/docs").status_code == 404


async def test_the_playbook_finds_nothing_to_change(quay: Operator, site: httpx.Client) -> None:
    result = await quay.play("playbook.yml")
    assert result.returncode == 0, result.text
    assert " changed=0 " in result.text.rpartition("PLAY RECAP")[2].replace("localhost", "")


async def test_its_websockets_are_told_to_come_back_when_it_is_replaced(
    quay: Operator, site: httpx.Client, machine: Machine
) -> None:
    quay.repository.tag("v1.1.0", {"quay/main.py": MAIN.replace('"greeting"', '"welcome"')})
    name = site.headers["host"]
    async with connect(
        f"wss://{name}/live", ssl=machine.context, host=machine.address, server_hostname=name
    ) as socket:
        await socket.send("ahoy")
        assert await socket.recv() == "ahoy"
        released = await quay.release("v1.1.0")
        assert released.returncode == 0, released.text
        # Service restart (RFC 6455, the registry of close codes): come back at once.
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CloseCode.SERVICE_RESTART


def processes(machine: Machine) -> set[str]:
    """The workers and timers of the service that run."""
    listed = (
        "systemctl list-units --plain --no-legend --state=active 'quay.mail@*' 'quay.*@*.timer'"
    )
    return {line.split()[0] for line in machine.run(listed).stdout.splitlines()}


def test_its_workers_and_timers_follow(site: httpx.Client, machine: Machine) -> None:
    assert site.get("/healthz").status_code == 200
    assert processes(machine) == {"quay.mail@v1.1.0.service", "quay.cleanup@v1.1.0.timer"}
    machine.wait_for("test $(cat /srv/quay/shared/cleaned) = v1.1.0")
    machine.wait_for("grep -q 'v1.1.0 did' /srv/quay/shared/worked")
    worked = machine.run("cat /srv/quay/shared/worked").stdout.splitlines()
    # The old one did its job to the end; it was not killed.
    assert worked.index("v1.0.0 ended") > worked.index("v1.0.0 did a job")
    assert machine.exposure("quay.mail@v1.1.0.service") <= 1.0


def test_a_release_whose_worker_crashes_goes_back(
    quay: Operator, site: httpx.Client, machine: Machine
) -> None:
    quay.repository.tag("v1.2.0", {"quay/worker.py": "raise SystemExit('no mail today')\n"})
    released = asyncio.run(quay.release("v1.2.0"))
    assert released.returncode
    assert "quay.mail@v1.2.0.service did not stay up" in " ".join(released.text.split())
    assert "no mail today" in released.text
    assert site.get("/healthz").status_code == 200
    assert processes(machine) == {"quay.mail@v1.1.0.service", "quay.cleanup@v1.1.0.timer"}
    quay.repository.git("revert", "--no-edit", "HEAD")


def test_it_is_returned_to(quay: Operator, site: httpx.Client, machine: Machine) -> None:
    assert "welcome" in site.get("/healthz").json()
    returned = asyncio.run(quay.play("deploy/rollback.yml"))
    assert returned.returncode == 0, returned.text
    assert "greeting" in site.get("/healthz").json()
    assert machine.run("slipway status", check=False).returncode == 2
    assert processes(machine) == {"quay.mail@v1.0.0.service", "quay.cleanup@v1.0.0.timer"}


def test_a_process_that_the_inventory_lost_ends(
    quay: Operator, site: httpx.Client, machine: Machine
) -> None:
    tags = ["--tags=app,release"]
    processes_left = {"post": {"command": "python -m quay.worker"}}
    fewer = f"--extra-vars={json.dumps({'app_processes': processes_left})}"
    changed = asyncio.run(quay.play("playbook.yml", *tags, fewer))
    assert changed.returncode == 0, changed.text
    assert processes(machine) == set()
    assert machine.run("ls /etc/systemd/system | grep '^quay[.]'").stdout == "quay.post@.service\n"
    machine.run("systemctl is-active quay.post@v1.0.0.service")
    again = asyncio.run(quay.play("playbook.yml", *tags, fewer))
    assert " changed=0 " in again.text.rpartition("PLAY RECAP")[2].replace("localhost", "")
    assert site.get("/healthz").status_code == 200
