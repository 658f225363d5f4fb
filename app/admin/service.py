"""What administrators may do to accounts of others.

Nobody acts on the account of a super administrator here, and nobody becomes one: that takes the
console of the host.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import lockout, sessions, users
from app.accounts import Account, Identity, Origin
from app.audit import Event, record
from app.errors import BadRequestError
from app.permissions import Role
from app.sessions import Reason
from app.users import SuperAdminError, UserNotFoundError


class OwnRoleError(BadRequestError):
    """Somebody wants to change the own role."""

    code = "own_role"
    message = "You cannot change your own role: ask another administrator."


class OwnAccountError(BadRequestError):
    """Somebody wants to deactivate the own account as an administrator."""

    code = "own_account"
    message = (
        "This is your own account: end it by DELETE /api/v1/users/me, which refuses a super "
        "administrator's."
    )


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, for the audit trail.

    Attributes:
        origin: where the request came from.
        actor_id: the account that acts; None on the console.
        operator: the user of the operating system that acts; empty for a request.
    """

    origin: Origin
    actor_id: int | None = None
    operator: str = ""

    @property
    def event(self) -> dict[str, Any]:
        """Return what every event of this actor says."""
        details = {"operator": self.operator} if self.operator else {}
        return {"actor_id": self.actor_id, "details": details}


def _refuse_protected(account: Account) -> None:
    if account.role is Role.SUPER_ADMIN:
        raise SuperAdminError


async def change_role(
    session: AsyncSession, identity: Identity, user_id: int, role: Role, by: By
) -> Account:
    """Give an account another role.

    Raises:
        OwnRoleError: when it is the caller's own.
        SuperAdminError: when it is from or to super_admin.
        UserNotFoundError: when there is no such account.
    """
    if user_id == identity.account.id:
        raise OwnRoleError
    if role is Role.SUPER_ADMIN:
        raise SuperAdminError
    account = (await users.lock_user(session, user_id)).account
    _refuse_protected(account)
    if account.role is role:
        return account
    return await users.set_role(session, account, role, by.origin, **by.event)


async def deactivate(session: AsyncSession, identity: Identity, user_id: int, by: By) -> Account:
    """Deactivate an account, end its sessions and revoke its keys.

    Raises:
        OwnAccountError: when it is the caller's own.
        SuperAdminError: when it is a super administrator's.
        UserNotFoundError: when there is no such account.
    """
    if user_id == identity.account.id:
        raise OwnAccountError
    account = (await users.lock_user(session, user_id)).account
    _refuse_protected(account)
    if account.is_active:
        await users.close_account(session, account, by.origin, **by.event)
    return (await users.lock_user(session, user_id)).account


async def unlock(session: AsyncSession, account: Account, by: By) -> bool:
    """Forget the wrong passwords given for an account; say whether it was locked."""
    locked = await lockout.unlock(session, lockout.subject_of("login", account.username))
    locked |= await users.unlock_proof(session, account)
    await record(session, Event("account.unlocked", by.origin, account.id, **by.event))
    return locked


async def unlock_by_id(session: AsyncSession, identity: Identity, user_id: int, by: By) -> Account:
    """Forget the wrong passwords given for an account.

    Raises:
        SuperAdminError: when it is a super administrator's, and not the caller's own.
        UserNotFoundError: when there is no such account.
    """
    account = await users.find_user(session, user_id=user_id)
    if account is None:
        raise UserNotFoundError
    if user_id != identity.account.id:
        _refuse_protected(account)
    await unlock(session, account, by)
    return account


async def end_sessions(session: AsyncSession, account: Account, by: By) -> int:
    """End all sessions of an account; return how many there were."""
    ended = await sessions.end_all(session, account.id, Reason.ADMINISTRATOR)
    said = by.event
    said["details"] = {**said["details"], "ended_sessions": ended}
    await record(session, Event("session.ended_all", by.origin, account.id, **said))
    return ended


async def end_sessions_by_id(
    session: AsyncSession, identity: Identity, user_id: int, by: By
) -> int:
    """End all sessions of an account; return how many there were.

    Raises:
        SuperAdminError: when it is a super administrator's, and not the caller's own.
        UserNotFoundError: when there is no such account.
    """
    account = (await users.lock_user(session, user_id)).account
    if user_id != identity.account.id:
        _refuse_protected(account)
    return await end_sessions(session, account, by)
