"""What is in a report."""

from collections.abc import AsyncIterator, Awaitable, Callable

from app import items
from app.db import Database
from app.reports.sheet import rows_to_csv

KIND = "reports.items"
COLUMNS = ("id", "title", "description", "price", "quantity", "created_at", "updated_at")
# Items that are in memory at once.
PAGE = 500


async def item_pages(
    database: Database, owner_id: int, goes_on: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """Return the items of an account as CSV, in pieces of bounded size.

    Between two pages no connection is held; items that come or go meanwhile are in it or not.

    Args:
        database: which is asked.
        owner_id: whose items.
        goes_on: called before each page but the first; raises when nobody wants the rest.
    """
    yield rows_to_csv([COLUMNS])
    after = 0
    while True:
        page = await items.list_owned(database, owner_id, after, PAGE)
        if page:
            yield rows_to_csv([item[name] for name in COLUMNS] for item in page)
        if len(page) < PAGE:
            return
        after = page[-1]["id"]
        await goes_on()
