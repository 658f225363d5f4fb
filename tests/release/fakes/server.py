"""A release that serves: health and readiness on its Unix socket, as its behaviour says.

It speaks just enough HTTP for them, because importing a whole server takes longer than a test.
"""

import itertools
import json
import os
import socket
import sys
import time
from pathlib import Path

asked = itertools.count(1)
WORLD = Path(os.environ["WORLD"])
VERSION = sys.argv[1]
BEHAVIOUR = json.loads((WORLD / "srv/releases" / VERSION / "behaviour.json").read_text())


def answer(request: bytes) -> bytes:
    ready = request.startswith(b"GET /health/ready ")
    status = BEHAVIOUR.get("ready" if ready else "health", 200)
    if b"X-From-Nginx" in request:
        status = BEHAVIOUR.get("behind_nginx", status)
    if request.startswith(b"GET /page "):
        status = page()
    body = json.dumps({"release": BEHAVIOUR.get("says", VERSION)})
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def page() -> int:
    """One request in so many fails, as the behaviour says; each is recorded, if it says so."""
    status = 500 if next(asked) % BEHAVIOUR.get("fails_each", 1_000_000) == 0 else 200
    if BEHAVIOUR.get("records", True):
        record = {"at": time.time(), "HTTP_STATUS": str(status), "HTTP_ROUTE": "/page"}
        with (WORLD / "said" / f"quay@{VERSION}.service.records").open("a") as stream:
            stream.write(json.dumps(record) + "\n")
    return status


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request and (block := connection.recv(65536)):
                request += block
            connection.sendall(answer(request))


if "crash" in BEHAVIOUR:
    said = WORLD / "said" / f"quay@{VERSION}.service"
    said.write_text(f"Traceback\n{BEHAVIOUR['crash']}\n")
    sys.exit(3)
path = WORLD / "run" / f"{VERSION}.sock"
path.unlink(missing_ok=True)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(str(path))
    listening.listen()
    if not BEHAVIOUR.get("never_ready"):
        (WORLD / "run" / f"{VERSION}.ready").touch()
    serve(listening)
