"""Who may do what: the one table of roles, permissions and scopes."""

from collections.abc import Iterable
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


class Permission(StrEnum):
    """What a role may do beyond its own account."""

    MODERATE_ITEMS = "moderate:items"
    VIEW_USERS = "view:users"
    MANAGE_USERS = "manage:users"
    MANAGE_ROLES = "manage:roles"
    VIEW_AUDIT_LOG = "view:audit_log"


_MODERATES = frozenset({Permission.MODERATE_ITEMS})
_ADMINISTERS = _MODERATES | {
    Permission.VIEW_USERS,
    Permission.MANAGE_USERS,
    Permission.MANAGE_ROLES,
    Permission.VIEW_AUDIT_LOG,
}

PERMISSIONS_OF_ROLE: dict[Role, frozenset[Permission]] = {
    Role.USER: frozenset(),
    Role.MODERATOR: _MODERATES,
    Role.ADMIN: _ADMINISTERS,
    Role.SUPER_ADMIN: frozenset(Permission),
}

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
_SETS = {role: frozenset(scopes) for role, scopes in SCOPES_OF_ROLE.items()}

# What a key that lies in a script or a file is not given unless it is asked for.
_NOT_BY_DEFAULT = frozenset({"users:write", "admin"})


def granted_scopes(role: Role, requested: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes of a token: those requested and allowed, all when none is requested."""
    allowed = SCOPES_OF_ROLE[role]
    wanted = frozenset(requested)
    if not wanted:
        return allowed
    return tuple(scope for scope in allowed if scope in wanted)


def default_key_scopes(role: Role) -> tuple[str, ...]:
    """Return what an API key may do when nobody says what it should."""
    return tuple(scope for scope in SCOPES_OF_ROLE[role] if scope not in _NOT_BY_DEFAULT)


def still_allowed(role: Role, scopes: frozenset[str]) -> frozenset[str]:
    """Return those of a credential's scopes that the role allows now."""
    return scopes & _SETS[role]
