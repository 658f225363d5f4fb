"""The service as a user meets it, and as on-call finds it in the journal."""

import json
import uuid

import httpx

from tests.hosts.machine import Machine


def test_health_names_the_release(client: httpx.Client, machine: Machine) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    assert answer.json()["release"] == machine.release()


def test_login_and_write(client: httpx.Client, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    me = client.get("/api/v1/users/me", headers=headers)
    assert me.status_code == 200
    title = f"Anchor {uuid.uuid4().hex[:8]}"
    made = client.post(
        "/api/v1/items", headers=headers, json={"title": title, "price": "12.50", "quantity": 3}
    )
    assert made.status_code == 201, made.text
    read = client.get(f"/api/v1/items/{made.json()['id']}")
    assert read.json()["title"] == title
    assert title in client.get("/api/v1/items", params={"search": title}).text
    assert client.post("/api/v1/items", json={"title": title}).status_code == 401


def test_one_request_is_found_in_the_journal(
    client: httpx.Client, machine: Machine, token: str
) -> None:
    request_id = uuid.uuid4().hex
    answer = client.get(
        "/api/v1/users/me",
        headers={"X-Request-ID": request_id, "Authorization": f"Bearer {token}"},
    )
    assert answer.headers["x-request-id"] == request_id
    machine.wait_for(f"journalctl -q -n 1 REQUEST_ID={request_id} | grep -q .")
    lines = machine.run(f"journalctl -q -o json REQUEST_ID={request_id}").stdout.splitlines()
    record = json.loads(lines[-1])
    assert record["HTTP_METHOD"] == "GET"
    assert record["HTTP_ROUTE"] == "/api/v1/users/me"
    assert record["HTTP_STATUS"] == "200"
    assert float(record["DURATION_MS"]) > 0
    assert record["RELEASE"] == machine.release()
    assert record["PRIORITY"] == "6"
    assert int(record["USER_ID"]) > 0
    assert record["EVENT"]
    assert record["_SYSTEMD_UNIT"] == f"{machine.app}@{machine.release()}.service"
    machine.wait_for(f"journalctl -q -t nginx -g {request_id} | grep -q 'users/me'")
    both = machine.run(f"slipway --app {machine.app} request {request_id}").stdout
    assert "nginx" in both
    assert machine.app in both


def test_a_forged_client_address_is_not_believed(client: httpx.Client, machine: Machine) -> None:
    request_id = uuid.uuid4().hex
    client.get(
        "/api/v1/items",
        headers={"X-Request-ID": request_id, "X-Forwarded-For": "198.51.100.7"},
    )
    machine.wait_for(f"journalctl -q -t nginx -g {request_id} | grep -q .")
    lines = machine.run(f"journalctl -q -o json REQUEST_ID={request_id}").stdout
    lines += machine.run(f"journalctl -q -t nginx -g {request_id}").stdout
    assert "198.51.100.7" not in lines


def test_all_workers_report_their_metrics_together(machine: Machine) -> None:
    socket = f"/srv/{machine.app}/current/web.sock"
    metrics = machine.run(f"curl -sf --unix-socket {socket} http://localhost/metrics").stdout
    assert "http_requests_total{" in metrics
    assert machine.run(
        f"curl -sf --unix-socket {socket} http://localhost/health/ready"
    ).stdout.count('"ok"')
