"""Clients in a process of their own: python -m tests.performance.clients KIND, orders on stdin.

Each is bounded in time, and writes the seconds that its requests took as JSON.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx

# A probe each 5 ms from each of two connections: enough for a percentile, too little to be a load.
_PROBES = 2
_INTERVAL = 0.005


async def probe(client: httpx.AsyncClient, seconds: float) -> list[float]:
    """Ask for /health at a steady pace."""
    taken: list[float] = []

    async def one() -> None:
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            (await client.get("/health")).raise_for_status()
            taken.append(time.perf_counter() - started)
            await asyncio.sleep(_INTERVAL)

    await asyncio.gather(*(one() for _ in range(_PROBES)))
    return taken


async def log_in(
    client: httpx.AsyncClient, seconds: float, at_once: int, form: dict[str, str]
) -> list[float]:
    """Keep so many logins under way."""
    taken: list[float] = []

    async def one() -> None:
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            (await client.post("/api/v1/auth/token", data=form)).raise_for_status()
            taken.append(time.perf_counter() - started)

    await asyncio.gather(*(one() for _ in range(at_once)))
    return taken


async def ask(client: httpx.AsyncClient, requests: list[dict[str, Any]]) -> list[float]:
    """Send some requests one after the other."""
    taken = []
    for request in requests:
        started = time.perf_counter()
        answer = await client.post(request["path"], **request["body"])
        taken.append(time.perf_counter() - started)
        if answer.status_code != request["status"]:
            raise SystemExit(f"{request}: {answer.status_code} {answer.text}")
    return taken


async def main(kind: str, orders: dict[str, Any]) -> None:
    """Do what the orders say."""
    does = {"probe": probe, "log_in": log_in, "ask": ask}[kind]
    async with httpx.AsyncClient(base_url=orders.pop("url"), timeout=60) as client:
        json.dump(await does(client, **orders), sys.stdout)  # type: ignore[operator]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.load(sys.stdin)))
