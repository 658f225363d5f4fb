"""Verifying addresses and resetting passwords over HTTP."""

from typing import Annotated

from app.access import anyone, session_with
from app.accounts import Account, Identity
from app.dependencies import RequestOrigin, Transaction, WorkerResources
from app.rate_limits import limited
from app.recovery import service
from app.recovery.schemas import ResetInput, ResetRequest, TokenInput
from app.routing import API, Done, router_of
from app.users import UserView

router = router_of(f"{API}/users", "users")

RESET_MESSAGE = "If an account has this address, a mail is on its way to it."


@router.post("/verify-email", response_model=UserView, dependencies=[anyone()])
@limited("secret")
async def verify_email(given: TokenInput, session: Transaction, origin: RequestOrigin) -> Account:
    """Prove by the token of a mail that its address is the account's."""
    return await service.verify_email(session, given.token, origin)


@router.post("/verify-email/request", status_code=202)
@limited("mail")
async def request_verification(
    identity: Annotated[Identity, session_with("profile:write")],
    session: Transaction,
    resources: WorkerResources,
) -> Done:
    """Send the caller a mail that asks to verify the address."""
    await service.request_verification(resources, session, identity.account)
    return Done(message="A mail is on its way, unless the address is verified already.")


@router.post("/password-reset/request", status_code=202, dependencies=[anyone()])
@limited("mail")
async def request_password_reset(
    given: ResetRequest, session: Transaction, resources: WorkerResources, origin: RequestOrigin
) -> Done:
    """Send a mail for a new password; the answer is the same for every address."""
    await service.request_reset(resources, session, given.email, origin)
    return Done(message=RESET_MESSAGE)


@router.post("/password-reset", dependencies=[anyone()])
@limited("secret")
async def reset_password(
    given: ResetInput, resources: WorkerResources, origin: RequestOrigin
) -> Done:
    """Give an account another password by the token of a mail; every session of it ends."""
    await service.reset_password(resources, given.token, given.new_password, origin)
    return Done(message="The password was changed: log in with it.")
