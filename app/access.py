"""Who may call an endpoint: declared on it, enforced before its body is read, told in OpenAPI.

Each endpoint says either `anyone` or what it needs of the caller; several needs add up. A route
that says nothing is refused when the application is made (`app.routing`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, params
from fastapi.dependencies.models import Dependant

from app.accounts import Credential, Identity
from app.dependencies import KEY_SCHEME, SECURITY_SCHEMES, get_identity
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

    async def __call__(self, request: Request) -> Identity:
        """Return the caller, whom the route has let pass by `check`."""
        return await get_identity(request)


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

    return Depends(Need(("scopes", " ".join(scopes)), check))


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
    return Depends(Need(told, check))


AnyCaller = Annotated[Identity, Depends(Need(("credential", "any"), lambda _: None))]


def needs_of(endpoint: Dependant, further: Iterable[params.Depends] = ()) -> list[Need] | None:
    """Return what an endpoint declares; `[]` for anyone, nothing when it declares nothing.

    Args:
        endpoint: what the framework knows of the endpoint's own dependencies.
        further: those that the route adds.
    """
    calls = [*_calls(endpoint), *(depends.dependency for depends in further)]
    needs = [call for call in calls if isinstance(call, Need)]
    return needs if needs or _anyone in calls else None


def declared(endpoint: Dependant, further: Iterable[params.Depends] = ()) -> dict[str, str] | None:
    """Return the same as OpenAPI tells it; nothing when nothing is declared, `{}` for anyone."""
    needs = needs_of(endpoint, further)
    return None if needs is None else dict(need.told for need in needs)


def documented(needs: Sequence[Need]) -> dict[str, Any]:
    """Return what OpenAPI says of them: `x-access`, and the schemes that a caller may choose of."""
    if not needs:
        return {"x-access": "anyone"}
    access = dict(need.told for need in needs)
    scopes = [
        scope
        for told, value in access.items()
        if told in {"scopes", "session_scopes"}
        for scope in value.split()
    ]
    by_key = "session_scopes" not in access and access.get("credential") != "session"
    schemes = [scheme for scheme in SECURITY_SCHEMES if by_key or scheme != KEY_SCHEME]
    return {"x-access": access, "security": [{scheme: scopes} for scheme in schemes]}


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
