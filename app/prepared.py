"""Statements that are asked so often that they are turned into text once, not each time.

SQLAlchemy describes them, and compiles them for PostgreSQL when a module is imported. What is left
of a request is the driver's own work: `app.db` gives it the text and the values.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import asyncpg

_Processor = Callable[[Any], Any] | None
_DIALECT: Any = asyncpg.dialect()  # type: ignore[no-untyped-call]


class Prepared:
    """A SELECT of values that the driver returns as the service wants them.

    Attributes:
        query: what SQLAlchemy knows of it, for other databases than PostgreSQL.
        text: the same for PostgreSQL's driver, with numbered parameters.
    """

    def __init__(self, query: Select[*tuple[Any, ...]]) -> None:
        self.query = query
        compiled = query.compile(dialect=_DIALECT)
        self.text = str(compiled)
        names: list[str] = compiled.positiontup or []
        self._values = [
            (name, compiled.params[name], _to_driver(compiled.binds[name].type)) for name in names
        ]
        for column in query.selected_columns:
            if not _comes_as_it_is(column.type):
                message = f"The column {column} needs what only SQLAlchemy does with a value."
                raise TypeError(message)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order in which the text numbers them.

        Raises:
            KeyError: when one is missing.
        """
        arguments = []
        for name, fixed, convert in self._values:
            value = values[name] if fixed is None else fixed
            arguments.append(value if convert is None else convert(value))
        return arguments


@lru_cache
def _to_driver(kind: Any) -> _Processor:  # noqa: ANN401 - types of SQLAlchemy
    """Return what turns a parameter of a type into what the driver takes."""
    processor: _Processor = kind.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return processor


def _comes_as_it_is(kind: Any) -> bool:  # noqa: ANN401
    return kind.dialect_impl(_DIALECT).result_processor(_DIALECT, None) is None
