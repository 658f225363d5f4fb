"""What can end an operation, and the exit status that tells it."""

from __future__ import annotations


class SlipwayError(Exception):
    """An operation that did not do what was asked.

    Attributes:
        exit_status: What the command returns to its caller.
        lines: Log lines of the release concerned, oldest first.
    """

    exit_status = 1

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


class FailedError(SlipwayError):
    """A step went wrong after something was begun; the host was put back."""


class RefusedError(SlipwayError):
    """The operation cannot be right, so nothing was changed."""

    exit_status = 2


class LockedError(SlipwayError):
    """Another operation is under way, so nothing was changed."""

    exit_status = 3


class StoppedError(SlipwayError):
    """The operation was told to end (SIGTERM); the host was put back."""

    exit_status = 4
