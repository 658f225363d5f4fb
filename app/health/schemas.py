"""What goes out over HTTP."""

from typing import Literal

from pydantic import BaseModel


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["healthy"] = "healthy"
    version: str
    release: str


class ReadinessView(BaseModel):
    """Whether requests can be served, and what was looked at to know it."""

    status: Literal["ready", "degraded", "unavailable"]
    release: str
    checks: dict[str, str]
