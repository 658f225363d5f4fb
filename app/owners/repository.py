"""What other features ask of accounts."""

from sqlalchemy import Boolean, String, column, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Identifier

# Of the accounts, other features see no more than this.
OWNERS = table("users", column("id", Identifier), column("username", String))
_ACCOUNTS = table("users", column("id", Identifier), column("is_active", Boolean))


async def lock_account(session: AsyncSession, account_id: int) -> bool:
    """Let what changes an account, or counts what it has, come one after the other.

    The lock goes with the transaction.

    Returns:
        Whether there is such an account, and it has not been closed.
    """
    # It holds up each change of the account's row, such as a new password, but nothing that only
    # refers to it, such as a login.
    query = (
        select(_ACCOUNTS.c.is_active)
        .where(_ACCOUNTS.c.id == account_id)
        .with_for_update(key_share=True)
    )
    return bool((await session.execute(query)).scalar_one_or_none())
