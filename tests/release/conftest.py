"""A fresh host for each test."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.release.world import World, host


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Makes folders, in memory where there is one: each operation waits for the disk often.

    The path of a socket has 108 bytes at the most, so the names are short.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        yield lambda: tmp_path_factory.mktemp("w")
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield lambda: Path(tempfile.mkdtemp(dir=folder))


@pytest.fixture(scope="session")
def pattern(place: Callable[[], Path]) -> Iterator[World]:
    """A host that serves v1.0.0, for the others to copy."""
    with host(place()) as made:
        outcome = made.operate("release", "v1.0.0", f"--sha256={made.add('v1.0.0')}")
        assert outcome.status == 0, outcome.text
        yield made


@pytest.fixture
def bare(place: Callable[[], Path]) -> Iterator[World]:
    """A host without a release."""
    with host(place()) as made:
        yield made


@pytest.fixture
def world(bare: World, pattern: World) -> World:
    """A host that serves v1.0.0."""
    bare.adopt(pattern)
    return bare
