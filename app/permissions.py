"""Who may do what: the one table of roles and scopes."""

from enum import StrEnum


class Role(StrEnum):
    """The roles, from the least to the most powerful."""

    USER = "user"
    MODERATOR = "moderator"
    ADMIN = "admin"
    SUPER_ADMIN = "super_admin"

    @property
    def rank(self) -> int:
        """Where the role stands among the others; 0 is the least powerful."""
        return list(Role).index(self)


SCOPES = {
    "profile:read": "Read your own profile.",
    "profile:write": "Change your own profile.",
    "items:read": "Read items.",
    "items:write": "Create items and change your own.",
    "items:delete": "Delete anybody's items.",
    "users:read": "Read accounts.",
    "users:write": "Change accounts.",
    "admin": "Administer the service.",
}

_USER = ("profile:read", "profile:write", "items:read", "items:write")
_MODERATOR = (*_USER, "items:delete", "users:read")
_ADMIN = (*_MODERATOR, "users:write", "admin")

SCOPES_OF_ROLE: dict[Role, tuple[str, ...]] = {
    Role.USER: _USER,
    Role.MODERATOR: _MODERATOR,
    Role.ADMIN: _ADMIN,
    Role.SUPER_ADMIN: tuple(SCOPES),
}


def granted_scopes(role: Role, requested: list[str]) -> tuple[str, ...]:
    """Return the scopes of a token: those requested and allowed, all when none is requested."""
    allowed = SCOPES_OF_ROLE[role]
    if not requested:
        return allowed
    return tuple(scope for scope in allowed if scope in requested)
