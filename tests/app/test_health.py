"""Liveness, readiness and numbers."""

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from app import metrics
from app.main import VERSION
from tests.app.conftest import RunSql, StartApp
from tests.services import ROOT, PostgreSQL, RedisServer

READY = {"database": "ok", "cache": "ok", "migrations": "ok"}


async def test_health_names_the_release(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "version": VERSION, "release": "v9.8.7"}


async def test_health_touches_nothing(start_app: StartApp) -> None:
    client = await start_app(
        database_url="postgresql+asyncpg://x@/x?host=/nonexistent", cache_url="unix:///nonexistent"
    )
    assert (await client.get("/health")).status_code == 200


async def test_ready_when_everything_is_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "release": "v9.8.7", "checks": READY}


async def test_ready_without_a_cache_in_the_settings(start_app: StartApp) -> None:
    client = await start_app(cache_url=None)
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert answer.json()["checks"]["cache"] == "not configured"


async def test_degraded_while_the_cache_hangs(
    client: httpx.AsyncClient, redis_server: RedisServer
) -> None:
    with redis_server.stopped():
        answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"] == {**READY, "cache": "unreachable"}


async def test_unavailable_without_the_database(start_app: StartApp) -> None:
    client = await start_app(database_url="postgresql+asyncpg://x@/x?host=/nonexistent")
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert answer.json()["checks"]["database"] == "unreachable"


async def test_unavailable_before_the_first_migration(
    start_app: StartApp, postgresql: PostgreSQL
) -> None:
    name = postgresql.create_database("unmigrated")
    client = await start_app(database_url=postgresql.url(name))
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {**READY, "migrations": "missing"}


@pytest.mark.parametrize(
    ("revision", "status", "check"),
    [("0001", 503, "behind: 0001, this release needs "), ("9999", 200, "ok")],
)
async def test_a_database_behind_is_not_ready_one_ahead_is(
    client: httpx.AsyncClient, sql: RunSql, revision: str, status: int, check: str
) -> None:
    head = sql("SELECT version_num FROM alembic_version")
    sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    try:
        answer = await client.get("/health/ready")
    finally:
        sql(f"UPDATE alembic_version SET version_num = '{head}'")
    assert answer.status_code == status
    assert answer.json()["checks"]["migrations"].startswith(check)


async def test_metrics_are_in_prometheus_text_format(client: httpx.AsyncClient) -> None:
    await client.get("/health")
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'http_requests_total{method="GET",route="/health",status="200"}' in answer.text
    assert 'http_request_duration_seconds_bucket{le="0.1",method="GET",route="/health"}' in (
        answer.text
    )


def test_metrics_add_up_the_workers(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    count = "from app import metrics; metrics.observe_request('GET', '/x', 200, 0.1)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], check=True, cwd=ROOT, env=environment)
    show = "from app import metrics; print(metrics.exposition().decode())"
    shown = subprocess.run(
        [sys.executable, "-c", show],
        check=True,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert 'http_requests_total{method="GET",route="/x",status="200"} 2.0' in shown.stdout


def test_metrics_wait_for_a_worker_that_is_just_making_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "counter_7.db"
    made.touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    # How much of it is used: nothing but this head.
    timer = threading.Timer(0.03, lambda: made.write_bytes(struct.pack("ii", 8, 0)))
    timer.start()
    try:
        assert metrics.exposition() == b""
    finally:
        timer.join()
    # One that stays as it is says so.
    made.write_bytes(b"")
    with pytest.raises(struct.error):
        metrics.exposition()
