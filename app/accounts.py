"""What every feature may know of the account that asks."""

from dataclasses import dataclass
from datetime import datetime

from app.permissions import Role


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the rest of the service sees it: nothing secret is in it."""

    id: int
    username: str
    email: str
    full_name: str
    role: Role
    is_active: bool
    created_at: datetime
