"""What callers have asked for and wait for: done by a worker, ended once."""

from app.tasks.schemas import TaskView
from app.tasks.service import (
    OvertakenError,
    Run,
    attach,
    check_goes_on,
    end,
    forget_expired,
    give_up,
    running,
    settle,
    start,
)

__all__ = [
    "OvertakenError",
    "Run",
    "TaskView",
    "attach",
    "check_goes_on",
    "end",
    "forget_expired",
    "give_up",
    "running",
    "settle",
    "start",
]
