"""Room on the disk, asked for before anything is unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from slipway_release import units
from slipway_release.errors import RefusedError
from slipway_release.keep import size, spare
from slipway_release.manifest import Manifest
from slipway_release.settings import Settings
from slipway_release.state import Store

_MEGABYTE = 1_000_000
_CACHES = {
    "journalctl --vacuum-size=100M": Path("/var/log/journal"),
    "apt-get clean": Path("/var/cache/apt/archives"),
}


def require(settings: Settings, manifest: Manifest, kind: str, saved: int = 0) -> str:
    """Refuse a release that does not fit, and say what to free; otherwise tell what it takes.

    The estimate counts the tree with its bytecode, every wheel, and every wheel installed, as if
    nothing could be linked.

    Args:
        settings: The service's settings.
        manifest: Of the release.
        kind: The kind of this host.
        saved: Bytes of the restore point that comes before it.

    Raises:
        RefusedError: Bytes or inodes would run out.
    """
    files = manifest.of_target(kind)
    tree = sum(file.size for path, file in files.items() if path.startswith("tree/"))
    wheels = sum(file.size + file.installed for file in files.values()) - tree
    needed = 2 * tree + wheels + settings.free_megabytes * _MEGABYTE
    entries = sum(1 + 2 * file.entries for file in files.values())
    for folder in {_device(path): path for path in (settings.releases, settings.state)}.values():
        there = saved if _device(folder) == _device(_of_restore_points(settings)) else 0
        _require_bytes(settings, manifest.version, folder, needed + there, there)
        disk = os.statvfs(folder)
        # A file system without a fixed number of inodes reports none at all.
        if disk.f_files and disk.f_favail < entries:
            raise RefusedError(
                f"{manifest.version} needs {entries} inodes on the disk of {folder}, "
                f"{disk.f_favail} are free: remove small files there."
            )
    if saved:
        require_restore_point(settings, manifest.version, saved)
    return f"{(2 * tree + wheels + saved) // _MEGABYTE} MB needed"


def require_restore_point(settings: Settings, version: str, saved: int) -> str:
    """Refuse what the database cannot be saved before, for lack of room.

    Raises:
        RefusedError: Bytes would run out.
    """
    needed = saved + settings.free_megabytes * _MEGABYTE
    _require_bytes(settings, version, _of_restore_points(settings), needed, saved)
    return f"at most {saved // _MEGABYTE} MB for the restore point"


def _of_restore_points(settings: Settings) -> Path:
    return settings.restore_points if settings.restore_points.is_dir() else settings.state


def _require_bytes(settings: Settings, version: str, folder: Path, needed: int, saved: int) -> None:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free >= needed:
        return
    missing = (needed - free) // _MEGABYTE + 1
    ways = ", ".join(f"`{way}` ({what})" for way, what in _ways(settings, folder))
    point = f", {saved // _MEGABYTE} MB are for the restore point" if saved else ""
    raise RefusedError(
        f"{version} needs {needed // _MEGABYTE} MB on the disk of {folder} (of which "
        f"{settings.free_megabytes} MB stay free{point}), {free // _MEGABYTE} MB are there: free "
        f"{missing} MB, for example with {ways}."
    )


def _device(path: Path) -> int:
    return path.stat().st_dev


def _ways(settings: Settings, folder: Path) -> Iterator[tuple[str, str]]:
    """Find what can be freed on the disk of a folder; the greatest is named first."""
    found = []
    releases = spare(settings, Store(settings), units.running(settings.app))
    if releases and _device(settings.releases) == _device(folder):
        taken = sum(releases.values())
        found.append((taken, "slipway prune --keep=2", f"{', '.join(releases)}: about"))
    for command, place in _CACHES.items():
        if place.is_dir() and _device(place) == _device(folder):
            found.append((size(place), command, f"{place}: at most"))
    for taken, command, what in sorted(found, reverse=True):
        if taken >= _MEGABYTE:
            yield command, f"{what} {taken // _MEGABYTE} MB"
    yield f"du -xh {folder} | sort -h | tail", "what else is there"
