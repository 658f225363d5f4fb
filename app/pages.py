"""Lists that are asked for page by page, with the number of all that match."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam

from app.db import Database, Rows
from app.prepared import Prepared


class CountedPage:
    """The two statements of a list, compiled once.

    Attributes:
        page: one page, whose rows carry the total behind their own columns.
    """

    def __init__(
        self,
        rows: Select[*tuple[Any, ...]],
        total: Select[*tuple[Any, ...]],
        order: ColumnElement[Any],
    ) -> None:
        self._total = Prepared(total)
        self.page = Prepared(
            rows.add_columns(total.scalar_subquery().label("total"))
            .order_by(order)
            .offset(bindparam("skip"))
            .limit(bindparam("limit"))
        )

    async def fetch(
        self, database: Database, values: Mapping[str, Any], skip: int, limit: int
    ) -> tuple[Rows, int]:
        """Return one page and the number of all that match.

        Args:
            database: which is asked.
            values: of the parameters that both statements have.
            skip: how many are left out before the page.
            limit: how many are on it at most.
        """
        rows = await database.fetch(self.page, {**values, "skip": skip, "limit": limit})
        if rows or not skip:
            return rows, rows[0][-1] if rows else 0
        # Past the last page there is no row to carry the total.
        return rows, (await database.fetch(self._total, values))[0][0]
