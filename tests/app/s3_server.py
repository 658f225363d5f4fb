"""An S3-compatible store for tests: moto's server, a process of its own that keeps nothing."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.processes import stopped

BUCKET, REGION = "harbour", "eu-central-1"
KEY, SECRET_KEY = "a-key", "of-the-store"
# It says on which port it listens, which the system chooses.
_PROGRAM = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass(frozen=True)
class S3Server:
    """A running store with one bucket, and what is in it."""

    url: str
    process: "subprocess.Popen[str]"

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Freeze it: it accepts connections and answers nothing."""
        return stopped(self.process)

    @property
    def settings(self) -> dict[str, Any]:
        """What the service has to be told."""
        return {
            "file_store": "s3",
            "s3_endpoint": self.url,
            "s3_bucket": BUCKET,
            "s3_region": REGION,
            "s3_access_key": KEY,
            "s3_secret_key": SECRET_KEY,
            "s3_timeout": 5,
        }

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        text = httpx.get(f"{self.url}/{BUCKET}?list-type=2", timeout=10).text
        return [one.partition("</Key>")[0] for one in text.split("<Key>")[1:]]

    def uploads(self) -> int:
        """Return how many uploads in parts were neither completed nor aborted."""
        text = httpx.get(f"{self.url}/{BUCKET}?uploads", timeout=10).text
        return text.count("<Upload>")

    def empty(self) -> None:
        """Begin anew with an empty bucket."""
        httpx.post(f"{self.url}/moto-api/reset", timeout=10).raise_for_status()
        httpx.put(
            f"{self.url}/{BUCKET}",
            content=f"<CreateBucketConfiguration><LocationConstraint>{REGION}"
            "</LocationConstraint></CreateBucketConfiguration>",
            timeout=10,
        ).raise_for_status()


@contextlib.contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Run a store."""
    with (folder / "s3.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        )
    try:
        assert process.stdout
        port = process.stdout.readline().strip()
        assert port, (folder / "s3.log").read_text()
        server = S3Server(f"http://127.0.0.1:{port}", process)
        server.empty()
        yield server
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
