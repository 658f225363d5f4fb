"""Visitors of the service: list 5, detail 3, create 1, health 1.

Each visitor has an account of its own and asks a fixed number of times a second, so that a slow
answer does not make the load smaller than it was meant to be (locust's constant throughput). What
`tests.performance.mixed` decides comes in variables of the environment:

- LOAD_CA: file of the certificate authorities that are trusted; those of the system by default
- LOAD_ADDRESSES: addresses of this machine that visitors come from, in turns, separated by commas
- LOAD_RATE: requests a second of each visitor
- LOAD_TOKENS: file with an access token of each visitor on a line
"""

import itertools
import os
import random
import ssl
from pathlib import Path
from typing import Any

import geventhttpclient.client
from locust import FastHttpUser, constant_throughput, task

_ADDRESSES = [one for one in os.environ.get("LOAD_ADDRESSES", "").split(",") if one]
_RATE = float(os.environ.get("LOAD_RATE", "10"))
_TOKENS = Path(os.environ["LOAD_TOKENS"]).read_text(encoding="ascii").split()
_numbers = itertools.count()


def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("LOAD_CA") or None)


class _Clients(geventhttpclient.client.HTTPClientPool):
    """The connections of one visitor, which come from one address of this machine."""

    def __init__(self, address: str | None) -> None:
        super().__init__(ssl_context_factory=_trust, network_timeout=10.0, connection_timeout=10.0)
        self._address = address

    def get_client(self, url: Any) -> Any:
        client = super().get_client(url)
        pool = client._connection_pool
        if self._address is not None and "_create_tcp_socket" not in vars(pool):
            create = pool._create_tcp_socket

            def create_bound(*kind: Any) -> Any:
                socket = create(*kind)
                socket.bind((self._address, 0))
                return socket

            # The library has no setting for it.
            pool._create_tcp_socket = create_bound  # type: ignore[method-assign, assignment]
        return client


class Visitor(FastHttpUser):
    """Somebody who looks at the catalogue, and sometimes adds to it."""

    wait_time = constant_throughput(_RATE)
    insecure = False

    def __init__(self, environment: Any) -> None:
        number = next(_numbers)
        address = _ADDRESSES[number % len(_ADDRESSES)] if _ADDRESSES else None
        self.client_pool = _Clients(address)
        super().__init__(environment)
        self._headers = {"Authorization": f"Bearer {_TOKENS[number % len(_TOKENS)]}"}
        self._known: list[int] = []

    @task(5)
    def list_items(self) -> None:
        """Look at a page of the catalogue."""
        answer = self.client.get("/api/v1/items?limit=20", name="list")
        if answer.status_code == 200:
            self._known = [item["id"] for item in answer.json()["items"]]

    @task(3)
    def read_item(self) -> None:
        """Look at one item of the page that was seen last."""
        if not self._known:
            self.list_items()
        if self._known:
            item_id = random.choice(self._known)
            self.client.get(f"/api/v1/items/{item_id}", name="detail")

    @task(1)
    def create_item(self) -> None:
        """Add an item."""
        item = {"title": "Made by a load", "price": "9.99", "quantity": 1}
        self.client.post("/api/v1/items", json=item, headers=self._headers, name="create")

    @task(1)
    def health(self) -> None:
        """Ask whether the service is there."""
        self.client.get("/health", name="health")
