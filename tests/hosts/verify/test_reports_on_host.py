"""Reports and their jobs as a host has them: through Nginx, by its worker, and with its console."""

import csv
import io
import json
import secrets
import shlex
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.hosts.machine import Machine

Headers = dict[str, str]
# Of a name that no release knows, so that nothing takes it while it is looked at.
STRANGE = "test.strange"
ENDED = ("succeeded", "failed")


@pytest.fixture
def headers(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def worker(machine: Machine) -> str:
    return f"{machine.app}.worker@{machine.release()}.service"


def sql(machine: Machine, statement: str) -> str:
    """Run a statement on the service's database as its superuser."""
    command = f"psql -XqAt -v ON_ERROR_STOP=1 -d {machine.app} -c {shlex.quote(statement)}"
    return machine.run(f"cd / && runuser -u postgres -- {command}").stdout.strip()


def console(machine: Machine, command: str) -> str:
    return machine.run(f"slipway console {command}").stdout


def wait_for(
    client: httpx.Client, headers: Headers, task_id: int, seconds: float = 120.0
) -> dict[str, Any]:
    """Ask for a task until it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        answer = client.get(f"/api/v1/tasks/{task_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        if task["status"] in ENDED:
            return task
        assert time.monotonic() < deadline, task
        time.sleep(0.5)


def an_item(client: httpx.Client, headers: Headers) -> dict[str, Any]:
    item = {"title": f"=Lamp {secrets.token_hex(4)}", "price": "19.99", "quantity": 3}
    made = client.post("/api/v1/items", json=item, headers=headers)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def rows_of(client: httpx.Client, headers: Headers, task: dict[str, Any]) -> list[dict[str, str]]:
    assert task["status"] == "succeeded", task
    got = client.get(task["download"], headers=headers)
    assert got.status_code == 200, got.text
    assert got.headers["content-type"].startswith("text/csv")
    assert got.headers["content-disposition"].startswith("attachment")
    return list(csv.DictReader(io.StringIO(got.content.decode(), newline="")))


def test_a_report_is_written_by_the_worker_and_downloaded_through_nginx(
    client: httpx.Client, headers: Headers
) -> None:
    item = an_item(client, headers)
    asked = client.post("/api/v1/reports", headers=headers)
    assert asked.status_code == 202, asked.text
    assert asked.headers["location"] == f"/api/v1/tasks/{asked.json()['task_id']}"
    task = wait_for(client, headers, asked.json()["task_id"])
    rows = {int(row["id"]): row for row in rows_of(client, headers, task)}
    written = rows[item["id"]]
    assert (written["title"], written["price"]) == (f"'{item['title']}", "19.99")
    assert client.get(f"/api/v1/tasks/{task['task_id']}").status_code == 401
    assert client.get(task["download"]).status_code == 401


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_report_outlives_its_worker(
    machine: Machine, client: httpx.Client, headers: Headers, how: str
) -> None:
    item = an_item(client, headers)
    unit = worker(machine)
    task_id = client.post("/api/v1/reports", headers=headers).json()["task_id"]
    if how == "restart":
        machine.run(f"systemctl restart {unit}")
    else:
        machine.run(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
    machine.wait_for(f"systemctl is-active {unit}")
    # A worker that was killed is silent for 20 s before its jobs are given to others.
    task = wait_for(client, headers, task_id)
    rows = rows_of(client, headers, task)
    assert [row["id"] for row in rows].count(str(item["id"])) == 1


@pytest.fixture
def dead_letter(machine: Machine) -> Iterator[int]:
    """A job that has failed for good."""
    insert = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts) VALUES "
        f"('default', '{STRANGE}', '{{\"to\": \"anna@example.com\"}}', 'failed', 10) RETURNING id"
    )
    job_id = int(sql(machine, insert))
    sql(machine, f"INSERT INTO job_failures (job_id, error) VALUES ({job_id}, 'OSError')")
    yield job_id
    sql(machine, f"DELETE FROM procrastinate_jobs WHERE task_name = '{STRANGE}'")
    sql(machine, f"DELETE FROM job_failures WHERE job_id = {job_id}")


def test_a_dead_letter_is_listed_and_retried_by_the_console(
    machine: Machine, dead_letter: int
) -> None:
    lines = console(machine, f"jobs --name {STRANGE} --json").splitlines()
    (told,) = [json.loads(line) for line in lines]
    assert (told["id"], told["name"], told["error"]) == (dead_letter, STRANGE, "OSError")
    shown = console(machine, f"job {dead_letter}")
    assert STRANGE in shown
    assert "anna" not in shown + "".join(lines)
    assert console(machine, f"retry-job {dead_letter}") == "1 job is done again.\n"
    # No release knows it, so that it waits again instead of being lost.
    waits = f"SELECT status FROM procrastinate_jobs WHERE id = {dead_letter}"
    assert sql(machine, waits) in {"todo", "doing"}
    kept = "SELECT event, details->>'operator' <> '' FROM audit_events ORDER BY id DESC LIMIT 1"
    assert sql(machine, kept) == "job.retried|t"
    machine.wait_for(f"journalctl AUDIT_EVENT=job.retried AUDIT_JOB_ID={dead_letter} -q | grep .")


def test_a_dead_letter_is_counted_and_discarded(machine: Machine, dead_letter: int) -> None:
    socket = f"/srv/{machine.app}/current/web.sock"
    ask = f"curl -s --unix-socket {socket} http://localhost/metrics"
    line = r'^jobs{queue="default",state="dead"} [1-9]'
    machine.wait_for(f"{ask} | grep -q {shlex.quote(line)}")
    assert console(machine, f"discard-job {dead_letter}") == "1 job is given up.\n"
    assert console(machine, f"jobs --name {STRANGE}") == ""
    again = machine.run(f"slipway console retry-job {dead_letter}", check=False)
    assert again.returncode == 1
    assert "No job that failed for good" in again.stdout + again.stderr
