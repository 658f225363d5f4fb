"""Releases that are hit at a step: the host tool, made to wait there, and what hits it.

The steps are those of the tool itself, so that a new one is hit without a change here.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from slipway_release.steps import STEPS
from tests.hosts.lab import lab
from tests.hosts.machine import Machine
from tests.hosts.repository import ROOT, Repository

#: Every step of a release, in its order.
RELEASE_STEPS = [step.name for step in STEPS if "release" in step.verbs]

_FOLDER = "/run/slipway-faults"

#: The tool as it is, but for a wait before a step that a file names.
WAITING_TOOL = """#!/usr/bin/python3 -I
import sys
import time
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/slipway")

from slipway_release import steps
from slipway_release.command_line import main

FOLDER = Path("/run/slipway-faults")


def waiting(step):
    def run(work):
        wanted = FOLDER / "step"
        if wanted.exists() and wanted.read_text() == step.name:
            (FOLDER / "reached").touch()
            while wanted.exists():
                time.sleep(0.02)
        return step.run(work)

    return step._replace(run=run)


steps.STEPS = tuple(waiting(step) for step in steps.STEPS)
sys.exit(main())
"""


@dataclass(frozen=True)
class Candidate:
    """A release that is on the host and not live yet."""

    version: str
    sha256: str


@dataclass(frozen=True)
class Held:
    """A release that waits before a step.

    Attributes:
        process: The SSH session that asked for it.
        machine: Where it waits.
    """

    process: subprocess.Popen[bytes]
    machine: Machine

    def go_on(self) -> None:
        """Lets it do the step, and all that come after."""
        self.machine.run(f"rm -rf {_FOLDER}")


@dataclass
class FaultyHost:
    """A host whose releases can be held at a step."""

    machine: Machine
    repository: Repository

    def install(self) -> None:
        """Puts the waiting tool into the place of the tool."""
        self.machine.run("cp --no-clobber /usr/local/sbin/slipway /usr/local/sbin/slipway.own")
        self.machine.put(WAITING_TOOL.encode(), "/usr/local/sbin/slipway")
        self.machine.run("chmod 755 /usr/local/sbin/slipway")

    def restore(self) -> None:
        """Puts the tool back."""
        self.machine.run("mv /usr/local/sbin/slipway.own /usr/local/sbin/slipway")

    def bring(self, version: str, changes: dict[str, str] | None = None) -> Candidate:
        """Builds a release and brings it to the host."""
        self.repository.tag(version, changes)
        target = self.machine.run(
            "python3 -c 'import platform, sys; "
            'print("%d.%d-%s" % (*sys.version_info[:2], platform.machine()))\''
        ).stdout.strip()
        command = [
            *(sys.executable, "-m", "deploy.artifact", "build", f"--name={self.machine.app}"),
            *(f"--repository={self.repository.path}", f"--tag={version}", f"--target={target}"),
            f"--allowed-signers={self.repository.allowed_signers}",
        ]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        artifact = json.loads(built.stdout.splitlines()[-1])
        app = self.machine.app
        self.machine.put(
            Path(artifact["path"]).read_bytes(),
            f"/var/lib/slipway/{app}/incoming/{app}-{version}.tar",
        )
        return Candidate(version, artifact["sha256"])

    def command(self, candidate: Candidate) -> str:
        """The command that releases a candidate."""
        app = self.machine.app
        return f"slipway --app {app} release {candidate.version} --sha256 {candidate.sha256}"

    def release(self, candidate: Candidate) -> subprocess.CompletedProcess[str]:
        """Releases a candidate, to the end."""
        return self.machine.run(self.command(candidate), check=False)

    @contextmanager
    def held(self, candidate: Candidate, step: str) -> Iterator[Held]:
        """A release that waits before a step; it goes on when the context ends."""
        self.machine.run(f"mkdir -p {_FOLDER}; rm -f {_FOLDER}/*; printf '{step}' > {_FOLDER}/step")
        remote = f"sudo -n {self.command(candidate)}"
        process = subprocess.Popen(
            [*self.machine.ssh, remote],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ,
        )
        try:
            self.machine.wait_for(f"test -e {_FOLDER}/reached", 60)
            yield Held(process, self.machine)
        finally:
            self.machine.run(f"rm -rf {_FOLDER}", check=False)
            process.kill()
            process.communicate()

    @contextmanager
    def settings(self, **changes: float) -> Iterator[None]:
        """Other settings of the tool for the length of a context."""
        path = f"/etc/slipway/{self.machine.app}.json"
        before = self.machine.run(f"cat {path}").stdout
        self.machine.put(json.dumps({**json.loads(before), **changes}).encode(), path)
        try:
            yield
        finally:
            self.machine.put(before.encode(), path)

    def power_cut(self) -> None:
        """Takes the power from the host and gives it back."""
        lab("power-cut", self.machine.name)
        lab("start", self.machine.name)


def serves(machine: Machine, client: httpx.Client, seconds: float = 30.0) -> str:
    """The release that answers from outside, waited for."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = client.get("/health")
            if answer.status_code == 200:
                return str(answer.json()["release"])
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "nothing answers"
        time.sleep(0.2)


def ended(machine: Machine) -> None:
    """Waits for the end of the operation, and of what clears up after it."""
    unit = f"slipway-{machine.app}-release.service"
    machine.wait_for(
        f"systemctl show --value -p ActiveState {unit} | grep -qE 'inactive|failed'", 90
    )


def converges(host: FaultyHost, client: httpx.Client, candidate: Candidate) -> None:
    """The next run makes the candidate live, whatever the last one left behind."""
    result = host.release(candidate)
    text = result.stdout + result.stderr
    assert result.returncode == 0 or "already" in text, text
    assert serves(host.machine, client) == candidate.version
    assert host.machine.release() == candidate.version
    assert host.machine.run("systemctl --failed --plain --no-legend").stdout == ""
