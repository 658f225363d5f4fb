"""What every feature may know of the account that asks, and of how it asks."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from app.permissions import Role

# PostgreSQL's bigint, of which every id is, ends here.
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the rest of the service sees it: nothing secret is in it."""

    id: int
    username: str
    email: str
    full_name: str
    role: Role
    is_active: bool
    email_verified: bool
    created_at: datetime


class Credential(StrEnum):
    """What a caller proves its identity with."""

    TOKEN = "token"  # noqa: S105 - a name
    COOKIE = "cookie"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and what that proof of it allows.

    Attributes:
        account: whom the credential was given to; it is active.
        scopes: what the credential allows, and the role still does.
        credential: of which kind it is.
        session_id: the session of a token or a cookie; None for an API key.
        authenticated_at: when the session began with a password; None for an API key.
    """

    account: Account
    scopes: frozenset[str]
    credential: Credential
    session_id: int | None
    authenticated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, for the audit trail, the list of sessions and the lockout.

    Attributes:
        address: the client's, as Nginx saw it; None for the console.
        user_agent: what it calls itself, at most 200 characters.
        request_id: the name of the request; None for the console.
    """

    address: str | None = None
    user_agent: str = ""
    request_id: str | None = None

    @property
    def network(self) -> str:
        """The network that counts as one client."""
        return client_network(self.address or "local")


def client_network(host: str) -> str:
    """Name an address; of IPv6 the network, which one client has to itself.

    A balancer may write an address of IPv4 as one of IPv6 (RFC 4291, section 2.5.5.2).
    """
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, 64), strict=False).network_address)
