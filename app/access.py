"""Who may call an endpoint: declared on it, enforced before it runs, and told in OpenAPI.

Each endpoint says either `anyone` or what it needs of the caller; several needs add up. A route
that says nothing is refused when the application is made (`app.routing`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Security, params
from fastapi.dependencies.models import Dependant

from app.accounts import Credential, Identity
from app.dependencies import CurrentIdentity
from app.errors import ForbiddenError, InsufficientScopeError, SessionNeededError
from app.permissions import PERMISSIONS_OF_ROLE, Permission, Role

_SESSIONS = frozenset({Credential.TOKEN, Credential.COOKIE})


@dataclass(frozen=True)
class Need:
    """What a caller has to be or to bring.

    Attributes:
        told: the same for people and for OpenAPI, such as `permission: manage:roles`.
        check: raises ForbiddenError when the caller does not have it.
    """

    told: tuple[str, str]
    check: Callable[[Identity], None]

    async def __call__(self, identity: CurrentIdentity) -> Identity:
        """Let the caller pass who has it.

        Raises:
            NotAuthenticatedError: without a valid credential.
            ForbiddenError: when the caller does not have it.
        """
        self.check(identity)
        return identity


async def _anyone() -> None:
    """Let everybody pass; it stands there so that nobody forgets to decide."""


def anyone() -> Any:  # noqa: ANN401 - what FastAPI's own functions say
    """Declare an endpoint that needs no credential."""
    return Depends(_anyone)


def require_scopes(*scopes: str) -> Any:  # noqa: ANN401
    """Declare that the credential must have been granted these scopes."""

    def check(identity: Identity) -> None:
        for scope in scopes:
            if scope not in identity.scopes:
                raise InsufficientScopeError(scope)

    return Security(Need(("scopes", " ".join(scopes)), check), scopes=list(scopes))


def require_role(role: Role) -> Any:  # noqa: ANN401
    """Declare that the caller must have just this role."""

    def check(identity: Identity) -> None:
        if identity.account.role is not role:
            raise ForbiddenError

    return Depends(Need(("role", role.value), check))


def require_minimum_role(role: Role) -> Any:  # noqa: ANN401
    """Declare that the caller must have this role or a more powerful one."""

    def check(identity: Identity) -> None:
        if identity.account.role.rank < role.rank:
            raise ForbiddenError

    return Depends(Need(("minimum_role", role.value), check))


def require_permission(permission: Permission) -> Any:  # noqa: ANN401
    """Declare that the caller's role must have this permission."""

    def check(identity: Identity) -> None:
        if permission not in PERMISSIONS_OF_ROLE[identity.account.role]:
            raise ForbiddenError

    return Depends(Need(("permission", permission.value), check))


def _check_session(identity: Identity) -> None:
    if identity.credential not in _SESSIONS:
        raise SessionNeededError


_session = Need(("credential", "session"), _check_session)


def require_session() -> Any:  # noqa: ANN401
    """Declare that an API key is not enough: what could take over an account needs a login."""
    return Depends(_session)


def session_with(*scopes: str) -> Any:  # noqa: ANN401
    """Declare that a session is needed, with these scopes."""
    scoped: Need = require_scopes(*scopes).dependency

    def check(identity: Identity) -> None:
        _check_session(identity)
        scoped.check(identity)

    told = ("session_scopes", " ".join(scopes))
    return Security(Need(told, check), scopes=list(scopes))


AnyCaller = Annotated[Identity, Depends(Need(("credential", "any"), lambda _: None))]


def declared(endpoint: Dependant, further: Iterable[params.Depends] = ()) -> dict[str, str] | None:
    """Return what an endpoint declares; nothing when it declares nothing, `{}` for anyone.

    Args:
        endpoint: what the framework knows of the endpoint's own dependencies.
        further: those that the route adds.
    """
    calls = [*_calls(endpoint), *(depends.dependency for depends in further)]
    needs = dict(call.told for call in calls if isinstance(call, Need))
    if needs:
        return needs
    return {} if _anyone in calls else None


def takes_session(access: object) -> bool:
    """Say whether what an endpoint declares keeps API keys out."""
    return isinstance(access, dict) and (
        access.get("credential") == "session" or "session_scopes" in access
    )


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
