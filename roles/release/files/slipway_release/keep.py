"""Which releases stay installed, and what the others take on the disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from slipway_release.settings import Settings
from slipway_release.state import Release, Store

_BLOCK = 512


def kept_versions(
    store: Store, number: int, running: set[str], previous: str | None = None
) -> set[str]:
    """Return the releases that stay installed: what is needed, then the best ways back.

    Args:
        store: What this host knows of its releases.
        number: How many of them stay; more when more are needed.
        running: Versions that run.
        previous: What served before the operation under way.
    """
    current = store.current()
    needed = {current, store.last_good(), *running}

    def value(release: Release) -> tuple[bool, bool, bool, float]:
        return (
            release.version in needed,
            release.version == previous,
            store.is_candidate(release),
            release.activated,
        )

    known = sorted(store.all(), key=value, reverse=True)
    least = sum(release.version in needed for release in known)
    return {release.version for release in known[: max(number, least)]}


def spare(settings: Settings, store: Store, running: set[str]) -> dict[str, int]:
    """Return what the releases that nobody needs would free, in bytes by version."""
    kept = kept_versions(store, 0, running)
    return {
        release.version: size(settings.release(release.version))
        for release in store.all()
        if release.version not in kept
    }


def size(folder: Path) -> int:
    """Return the bytes that a folder takes; of a file with several names, its share."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118
                total += status.st_blocks * _BLOCK // status.st_nlink
    return total
