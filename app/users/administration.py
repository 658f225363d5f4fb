"""What others may do to accounts, and see of all of them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import Account, Identity, Origin
from app.audit import Event, record
from app.db import Database
from app.errors import ForbiddenError
from app.keys import revoke_all
from app.opaque_tokens import new_token
from app.permissions import Role
from app.sessions import Reason, end_all
from app.users import repository
from app.users.service import EmailTakenError, MakesAccounts, hold, lock_user, note_new_email


class SuperAdminError(ForbiddenError):
    """A super administrator is made, changed or touched by the API."""

    code = "super_admin_protected"
    message = "Super administrators are made and changed by the console of the host only."


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """How many accounts there are."""

    total: int
    active: int
    by_role: dict[Role, int]


async def close_account(
    session: AsyncSession,
    account: Account,
    origin: Origin,
    **done_by: Any,  # noqa: ANN401
) -> None:
    """Deactivate an account: nobody can log in, its sessions end and its keys are gone.

    Args:
        session: the transaction.
        account: whose it is.
        origin: where the request came from.
        done_by: `actor_id` and `details` of the audit event.
    """
    await repository.change(session, account.id, {"is_active": False})
    await end_all(session, account.id, Reason.DEACTIVATED)
    await revoke_all(session, account.id, origin, **done_by)
    await record(session, Event("account.deactivated", origin, account.id, **done_by))


async def close_own_account(session: AsyncSession, identity: Identity, origin: Origin) -> None:
    """Deactivate the account of who asks for it.

    Raises:
        NotAuthenticatedError: when the caller's session has ended meanwhile.
        SuperAdminError: when it is a super administrator's, who may be the last.
    """
    # As it is now: the console may have given it another role since the caller was identified.
    account = (await hold(session, identity)).account
    if account.role is Role.SUPER_ADMIN:
        raise SuperAdminError
    await close_account(session, account, origin, actor_id=account.id)


async def reopen_account(
    session: AsyncSession,
    account: Account,
    origin: Origin,
    **done_by: Any,  # noqa: ANN401
) -> None:
    """Let the owner of a deactivated account log in again."""
    await repository.change(session, account.id, {"is_active": True})
    await record(session, Event("account.activated", origin, account.id, **done_by))


async def set_role(
    session: AsyncSession,
    account: Account,
    role: Role,
    origin: Origin,
    **done_by: Any,  # noqa: ANN401
) -> Account:
    """Give an account another role; what its credentials allow follows at once."""
    changed = await repository.change(session, account.id, {"role": role.value})
    details = {"old_role": account.role.value, "new_role": role.value}
    details |= done_by.pop("details", {})
    event = Event("account.role_changed", origin, account.id, details=details, **done_by)
    await record(session, event)
    # The role has no index that another account could be in.
    assert isinstance(changed, Account)  # noqa: S101
    return changed


async def hand_over(
    resources: MakesAccounts,
    session: AsyncSession,
    found: Account,
    email: str,
    origin: Origin,
    **done_by: Any,  # noqa: ANN401
) -> bool:
    """Put an account into the hands of whoever reads the mail to another address.

    Whoever had it is out: its sessions end, its keys are gone, and neither its password nor what
    was sent to the former address is good any more. `done_by` is as in `close_account`.

    Returns:
        Whether it is another address; nothing changes where it is not.

    Raises:
        EmailTakenError: when another account has the address.
    """
    # Nobody knows it. The account is locked afterwards, as a hash may have to wait for its turn.
    password_hash = await resources.passwords.hash(new_token())
    account = (await lock_user(session, found.id)).account
    if account.email == email:
        return False
    values = {"email": email, "email_verified_at": None, "password_hash": password_hash}
    changed = await repository.change(session, account.id, values)
    if isinstance(changed, str):
        raise EmailTakenError
    event = Event("account.email_changed", origin, account.id, **done_by)
    # The former address may be the owner's, whose account somebody has talked an operator into.
    await note_new_email(resources.jobs, session, account.email, changed, event)
    await end_all(session, account.id, Reason.ADMINISTRATOR)
    await revoke_all(session, account.id, origin, **done_by)
    return True


async def list_users(
    database: Database, skip: int, limit: int, search: str | None
) -> tuple[list[Account], int]:
    """Return one page of the accounts and the number of all that match."""
    async with database.reading() as connection:
        return await repository.list_users(connection, skip, limit, search)


async def count_accounts(database: Database) -> AccountCounts:
    """Count the accounts."""
    async with database.reading() as connection:
        rows = await repository.count_by_role(connection)
    by_role = dict.fromkeys(Role, 0) | {Role(role): total for role, total, _ in rows}
    return AccountCounts(sum(by_role.values()), sum(row[2] for row in rows), by_role)


async def hold_active(session: AsyncSession, role: Role) -> int:
    """Count the active accounts of a role, and keep them as they are until the transaction ends."""
    return await repository.lock_active(session, role.value)
