"""Versions of releases: ``vX.Y.Z`` or ``vX.Y.Z-pre.1``, ordered as SemVer 2.0.0 says (§11)."""

from __future__ import annotations

import re

from slipway_release.errors import RefusedError

# Build metadata (`+…`) has no order and no place in a unit name, so it is not accepted.
_NUMBER = "(?:0|[1-9][0-9]*)"
_IDENTIFIER = f"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PATTERN = re.compile(
    rf"v({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
)
# The path of the socket, /run/<app>/<version>.sock, must fit into the 108 bytes of unix(7).
_LONGEST = 48

Precedence = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def precedence(version: str) -> Precedence:
    """Return a key that sorts versions from the oldest to the newest.

    Raises:
        RefusedError: The text is not a version.
    """
    match = _PATTERN.fullmatch(version)
    if match is None or len(version) > _LONGEST:
        raise RefusedError(
            f"{version!r} is not a version: use vX.Y.Z or vX.Y.Z-pre.1 (semver.org), "
            f"at most {_LONGEST} characters."
        )
    major, minor, patch, pre = match.groups()
    identifiers = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in (pre.split(".") if pre else [])
    )
    return int(major), int(minor), int(patch), pre is None, identifiers


def is_version(text: str) -> bool:
    """Tell whether the text names a version."""
    return len(text) <= _LONGEST and _PATTERN.fullmatch(text) is not None
