"""What goes in and out over HTTP."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from app.fields import Description, Line, Number, Price

Quantity = Annotated[int, Field(ge=0, le=2_147_483_647), Number]


class ItemInput(BaseModel):
    """A whole item, new or to put in the place of another."""

    title: Line
    description: Description = ""
    price: Price
    quantity: Quantity = 0


class ItemPatch(BaseModel):
    """The fields of an item that are to change; the others stay as they are."""

    # A default that the documentation showed would be sent by clients that are made from it, and
    # written over what is there. These are made where a field is missing, and never read.
    title: Line = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    price: Price = Field(default_factory=Decimal)
    quantity: Quantity = Field(default_factory=int)


class OwnerView(BaseModel):
    """Whose an item is."""

    id: int
    username: str


class ItemView(BaseModel):
    """An item; its price is an exact decimal, so it is a string."""

    id: int
    owner_id: int
    owner: OwnerView
    title: str
    description: str
    price: Decimal
    quantity: int
    created_at: datetime
    updated_at: datetime


class ItemPage(BaseModel):
    """One page of the items."""

    items: list[ItemView]
    total: int | None = Field(description="All that match; null for a page by cursor.")
    skip: int
    limit: int
    next_cursor: int | None = Field(description="`cursor` of the next page; null on the last one.")
