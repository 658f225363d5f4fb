"""What fields that several things have may hold."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from app.text import NO_NUL, visible

Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL),
    AfterValidator(visible),
]
Description = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=12, decimal_places=2, allow_inf_nan=False, examples=["9.99"]),
]
