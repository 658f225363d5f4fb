"""What goes in and out over HTTP."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.users import UserView


class UserPage(BaseModel):
    """One page of the accounts."""

    users: list[UserView]
    total: int
    skip: int
    limit: int


class Dashboard(BaseModel):
    """How many accounts there are."""

    total_users: int
    active_users: int
    inactive_users: int
    users_by_role: dict[str, int]


class EndedView(BaseModel):
    """Sessions were ended."""

    ended_sessions: int


class EventView(BaseModel):
    """One event of the audit trail."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    event: str
    user_id: int | None
    actor_id: int | None
    client_address: str | None
    request_id: str | None
    details: dict[str, Any]


class EventPage(BaseModel):
    """Events of the audit trail, newest first."""

    events: list[EventView]
    next_cursor: int | None = Field(description="`cursor` of the next page; null on the last one.")
