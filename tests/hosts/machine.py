"""One booted host, as an operator (SSH) and as the outside world (its address) meet it."""

import os
import re
import shlex
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A lab host; every command runs as root on it, by SSH and sudo."""

    name: str
    address: str
    address6: str
    ssh: tuple[str, ...]
    ca: Path
    site: str
    app: str

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the lab's certificate authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca))

    def run(
        self, command: str, *, check: bool = True, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command as root on the host.

        Raises:
            AssertionError: it failed and `check` is on; the message carries its output.
        """
        result = subprocess.run(
            [*self.ssh, "sudo -n sh -c " + shlex.quote(command)],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and result.returncode:
            message = f"{command!r} on {self.name}: {result.stdout}{result.stderr}"
            raise AssertionError(message)
        return result

    def put(self, contents: bytes, path: str) -> None:
        """Writes a file on the host."""
        subprocess.run(
            [*self.ssh, "sudo -n sh -c " + shlex.quote(f"cat > {shlex.quote(path)}")],
            input=contents,
            timeout=120,
            check=True,
        )

    def wait_for(self, command: str, seconds: float = 20.0) -> None:
        """Waits until a command succeeds on the host."""
        deadline = time.monotonic() + seconds
        while self.run(command, check=False).returncode:
            assert time.monotonic() < deadline, f"{command!r} did not come true on {self.name}"
            time.sleep(0.3)

    def exposure(self, unit: str) -> float:
        """What `systemd-analyze security` says of a unit: 0 is the best, 10 the worst."""
        verdict = self.run(f"systemd-analyze security --no-pager {unit} | tail -n 1").stdout
        found = re.search(r"([0-9.]+) [A-Z]+", verdict)
        assert found, verdict
        return float(found[1])

    @contextmanager
    def background(self, command: str) -> Iterator[None]:
        """Keeps a command running on the host as a transient unit of its own."""
        unit = f"slipway-test-{os.getpid()}"
        self.run(f"systemd-run --quiet --collect --unit={unit} {command}")
        try:
            yield
        finally:
            self.run(f"systemctl stop {unit}", check=False)

    def release(self) -> str:
        """The version that is live: what `current` names."""
        return self.run(f"basename $(readlink /srv/{self.app}/current)").stdout.strip()
