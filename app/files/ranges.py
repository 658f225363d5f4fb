"""Parts of a file that a client asks for (RFC 9110, section 14)."""

import re

# One range; a client that wants several gets the whole, as the RFC allows.
_ONE = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*", re.ASCII)


class UnsatisfiableError(ValueError):
    """No byte of the file is in the range."""


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return where the part that is asked for begins and where it has ended.

    Args:
        header: `Range` of the request.
        size: of the file, in bytes.

    Returns:
        The part, of which the first place is in it and the last is not; nothing for the whole.

    Raises:
        UnsatisfiableError: when nothing of the file is in it.
    """
    found = _ONE.fullmatch(header or "")
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        if not last:
            return None
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), size if not last else min(int(last) + 1, size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise UnsatisfiableError
    return start, stop
