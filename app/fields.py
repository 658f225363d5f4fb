"""What fields that several things have may hold."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from app.text import NO_NUL, visible

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def _number(value: Any) -> Any:  # noqa: ANN401 - what a body brings
    """Refuse what only Python reads as a number: truth, other digits, underscores, blanks."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        message = "it must be a number"
        raise ValueError(message)
    return value


# The last of a field's annotations, or the document would not tell the others.
Number = BeforeValidator(_number)

Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL),
    AfterValidator(visible),
]
Description = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=12, decimal_places=2, allow_inf_nan=False, examples=["9.99"]),
    Number,
]
