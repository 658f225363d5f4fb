"""What goes in and out over HTTP."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.text import NO_NUL, visible

Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL),
    AfterValidator(visible),
]
Description = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=12, decimal_places=2, allow_inf_nan=False, examples=["9.99"]),
]
Quantity = Annotated[int, Field(ge=0, le=2_147_483_647)]


class ItemInput(BaseModel):
    """A whole item, new or to put in the place of another."""

    title: Title
    description: Description = ""
    price: Price
    quantity: Quantity = 0


class ItemPatch(BaseModel):
    """The fields of an item that are to change; the others stay as they are."""

    title: Title = "unchanged"
    description: Description = ""
    price: Price = Decimal(1)
    quantity: Quantity = 0


class ItemView(BaseModel):
    """An item; its price is an exact decimal, so it is a string."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    owner_id: int
    title: str
    description: str
    price: Decimal
    quantity: int
    created_at: datetime
    updated_at: datetime


class ItemPage(BaseModel):
    """One page of the items."""

    items: list[ItemView]
    total: int
    skip: int
    limit: int
