"""What can be done with items."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import Account, Identity
from app.db import Database
from app.errors import ForbiddenError, InsufficientScopeError, NotFoundError
from app.items import repository
from app.items.repository import ItemRow
from app.permissions import PERMISSIONS_OF_ROLE, Permission


class ItemNotFoundError(NotFoundError):
    """No item has this id."""

    code = "item_not_found"
    message = "There is no such item."


class NotOwnerError(ForbiddenError):
    """The item belongs to somebody else."""

    code = "not_owner"
    message = "This item belongs to somebody else."


async def list_items(
    database: Database, skip: int, limit: int, search: str | None
) -> tuple[Sequence[ItemRow], int]:
    """Return one page of the items and the number of all that match."""
    return await repository.list_items(database, skip, limit, search)


async def get_item(database: Database, item_id: int) -> ItemRow:
    """Return one item.

    Raises:
        ItemNotFoundError: when there is none.
    """
    item = await repository.find_item(database, item_id)
    if item is None:
        raise ItemNotFoundError
    return item


async def add_item(session: AsyncSession, account: Account, values: Mapping[str, Any]) -> ItemRow:
    """Store an item that belongs to the account."""
    return await repository.add_item(session, account.id, values)


async def change_item(
    session: AsyncSession, account: Account, item_id: int, values: Mapping[str, Any]
) -> ItemRow:
    """Give an item new values.

    Raises:
        ItemNotFoundError: when there is none.
        NotOwnerError: when it belongs to somebody else, and the account is no moderator.
    """
    item = await _lock(session, item_id)
    if item.owner_id != account.id and not _may_moderate(account):
        raise NotOwnerError
    if not values:
        return item
    return await repository.update_item(session, item_id, values)


async def delete_item(session: AsyncSession, identity: Identity, item_id: int) -> None:
    """Take an item away: one's own with `items:write`, anybody's with `items:delete`.

    Raises:
        ItemNotFoundError: when there is none.
        NotOwnerError: when it belongs to somebody else, and the account is no moderator.
        InsufficientScopeError: when the token does not allow it.
    """
    item = await _lock(session, item_id)
    account, scopes = identity.account, identity.scopes
    own = item.owner_id == account.id
    if not own and not _may_moderate(account):
        raise NotOwnerError
    if "items:delete" not in scopes and not (own and "items:write" in scopes):
        raise InsufficientScopeError("items:write" if own else "items:delete")
    await repository.delete_item(session, item_id)


def _may_moderate(account: Account) -> bool:
    return Permission.MODERATE_ITEMS in PERMISSIONS_OF_ROLE[account.role]


async def _lock(session: AsyncSession, item_id: int) -> ItemRow:
    item = await repository.lock_item(session, item_id)
    if item is None:
        raise ItemNotFoundError
    return item
