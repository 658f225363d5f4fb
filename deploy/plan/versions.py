"""The order of versions, as SemVer 2.0.0 says it (§11) and the hosts judge it."""

Precedence = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def precedence(version: str) -> Precedence:
    """Return a key that sorts versions from the oldest to the newest.

    Args:
        version: One that a host or `Repository.tag` took.
    """
    numbers, _, pre = version.removeprefix("v").partition("-")
    identifiers = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in (pre.split(".") if pre else [])
    )
    return tuple(int(number) for number in numbers.split(".")), not pre, identifiers
