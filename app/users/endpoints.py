"""Accounts over HTTP."""

from typing import Annotated

from app.access import anyone, require_scopes, session_with
from app.accounts import Account, Identity
from app.dependencies import RequestOrigin, Transaction, WorkerResources
from app.errors import SessionNeededError
from app.rate_limits import limited
from app.routing import API, errors, router_of
from app.users import administration, service
from app.users.proof import prove_password
from app.users.schemas import ProfileChange, Registration, UserView

router = router_of(f"{API}/users", "users")


@router.post(
    "/register",
    status_code=201,
    response_model=UserView,
    dependencies=[anyone()],
    responses=errors(409),
)
@limited("register")
async def register(
    registration: Registration,
    session: Transaction,
    resources: WorkerResources,
    origin: RequestOrigin,
) -> Account:
    """Make an account."""
    return await service.register(resources, session, registration, service.Made(origin))


@router.get("/me", response_model=UserView)
async def read_me(identity: Annotated[Identity, require_scopes("profile:read")]) -> Account:
    """Return the caller's account."""
    return identity.account


@router.put("/me", response_model=UserView, responses=errors(409))
@limited("profile")
async def change_me(
    change: ProfileChange,
    identity: Annotated[Identity, require_scopes("profile:write")],
    session: Transaction,
    resources: WorkerResources,
    origin: RequestOrigin,
) -> Account:
    """Change the caller's profile; a new address has to be verified again."""
    if change.current_password is not None:
        if identity.session_id is None:
            # Whoever has found a key must not guess the password by it.
            raise SessionNeededError
        await prove_password(resources, identity.account, change.current_password, origin)
    return await service.change_profile(resources, session, identity, change, origin)


@router.delete("/me", status_code=204)
async def deactivate_me(
    identity: Annotated[Identity, session_with("profile:write")],
    session: Transaction,
    origin: RequestOrigin,
) -> None:
    """Deactivate the caller's account and end its sessions; not that of a super administrator."""
    await administration.close_own_account(session, identity, origin)
