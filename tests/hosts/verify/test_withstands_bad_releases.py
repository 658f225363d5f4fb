"""Releases that cannot serve, each in a way of its own: the one before them goes on."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.hosts.faults import FaultyHost
from tests.hosts.load import Load, Site
from tests.hosts.repository import Repository

NEVER_READY = """
@application.get("/health/ready")
async def never() -> JSONResponse:
    return JSONResponse({"status": "not today"}, 503)
"""
ALWAYS_WRONG = """
@application.middleware("http")
async def wrong(request, call_next):
    return JSONResponse({"error": "the keel is broken"}, 500)
"""
WRONG_BEHIND_NGINX = """
@application.middleware("http")
async def wrong(request, call_next):
    if "x-request-id" in request.headers:
        return JSONResponse({"error": "the keel is broken"}, 500)
    return await call_next(request)
"""


def application(source: str, hurt: str) -> str:
    """The service's main module, with something wrong in what it makes."""
    body = "\n".join(f"    {line}" if line else "" for line in hurt.strip().splitlines())
    return source + (
        "\n\nfrom fastapi.responses import JSONResponse\n\n_well = create_app\n\n\n"
        "def create_app(settings=None):\n    application = _well(settings)\n"
        f"{body}\n"
        "    application.router.routes.insert(0, application.router.routes.pop())\n"
        "    return application\n"
    )


@pytest.mark.parametrize(
    ("hurt", "reason"),
    [
        (NEVER_READY, "/health/ready"),
        (ALWAYS_WRONG, "500"),
        (WRONG_BEHIND_NGINX, "does not show"),
    ],
    ids=["never ready", "answers 500", "fails behind Nginx"],
)
async def test_a_release_that_cannot_serve_takes_no_traffic_for_long(
    host: FaultyHost,
    repository: Repository,
    version: Iterator[str],
    token: str,
    hurt: str,
    reason: str,
) -> None:
    good = repository.read("app/main.py")
    before = host.machine.release()
    candidate = host.bring(next(version), {"app/main.py": application(good, hurt)})
    (repository.path / "app/main.py").write_text(good)
    repository.git("commit", "--quiet", "--all", "-m", "Mend it")
    site = Site(host.machine.site, host.machine.address, host.machine.context)
    with host.settings(ready_seconds=20):
        async with Load(site, token, connections=4) as load:
            result = await asyncio.to_thread(host.release, candidate)
    assert result.returncode == 1
    assert load.report.requests > 100
    assert reason in result.stdout + result.stderr
    assert host.machine.release() == before
    if hurt != WRONG_BEHIND_NGINX:
        assert load.report.failures == []


FAILS_A_SHARE = """
@application.middleware("http")
async def wrong(request, call_next):
    import random
    if request.url.path == "/api/v1/items" and random.random() < 0.3:
        return JSONResponse({"error": "the keel is broken"}, 500)
    return await call_next(request)
"""


async def test_a_release_that_fails_a_share_of_requests_goes_back(
    host: FaultyHost, repository: Repository, version: Iterator[str], token: str
) -> None:
    good = repository.read("app/main.py")
    before = host.machine.release()
    hurt = {"app/main.py": application(good, FAILS_A_SHARE)}
    candidate = host.bring(next(version), hurt)
    (repository.path / "app/main.py").write_text(good)
    repository.git("commit", "--quiet", "--all", "-m", "Mend it")
    site = Site(host.machine.site, host.machine.address, host.machine.context)
    with host.settings(watch_seconds=20):
        async with Load(site, token, connections=4) as load:
            # What the release before it does is known when the new one is compared with it.
            await asyncio.sleep(2)
            result = await asyncio.to_thread(host.release, candidate)
    text = result.stdout + result.stderr
    assert result.returncode == 1
    assert f"{candidate.version} failed" in text
    assert "after the switch" in text
    assert host.machine.release() == before
    assert set(load.report.releases) == {before, candidate.version}
