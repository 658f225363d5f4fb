"""The playbooks, run as an operator runs them, against the host of one scenario."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.repository import ROOT, Repository


@dataclass(frozen=True)
class Result:
    """How a playbook ended: its exit status and everything it printed."""

    returncode: int
    text: str


@dataclass(frozen=True)
class Operator:
    """Runs playbooks with the inventory and the extra settings of a scenario."""

    inventory: Path
    settings: tuple[Path, ...]
    repository: Repository

    async def play(self, playbook: str, *arguments: str) -> Result:
        """Runs a playbook to its end, without blocking the event loop."""
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={self.inventory}",
            *(f"--extra-vars=@{path}" for path in self.settings),
            f"--extra-vars=release_repository={self.repository.path}",
            f"--extra-vars=release_allowed_signers={self.repository.allowed_signers}",
            playbook,
            *arguments,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return Result(process.returncode, output.decode())

    async def release(self, version: str) -> Result:
        """Releases a tag of the scenario's repository."""
        return await self.play("deploy/release.yml", f"--extra-vars=release={version}")
