"""Accounts over HTTP."""

from fastapi import APIRouter

from app.accounts import Account
from app.dependencies import ProfileReader, Transaction, WorkerResources
from app.rate_limits import limited
from app.users import service
from app.users.schemas import Registration, UserView

router = APIRouter(prefix="/users", tags=["users"])


@router.post("/register", status_code=201, response_model=UserView)
@limited("register")
async def register(
    registration: Registration, session: Transaction, resources: WorkerResources
) -> Account:
    """Make an account."""
    return await service.register(
        session,
        resources.passwords,
        registration,
        require_classes=resources.settings.password_require_classes,
    )


@router.get("/me", response_model=UserView)
async def read_me(account: ProfileReader) -> Account:
    """Return the caller's account."""
    return account
