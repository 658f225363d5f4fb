"""What goes in and out over HTTP."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from app.fields import Description, Line, Price

# Digits alone: a wrong check digit is printed in many books, and is their ISBN all the same.
Isbn = Annotated[str, Field(pattern=r"^[0-9]{13}$", examples=["9780141439518"])]


class BookInput(BaseModel):
    """A new book."""

    title: Line
    author: Line
    isbn: Isbn
    price: Price
    description: Description = ""


class BookPatch(BaseModel):
    """The fields of a book that are to change; the others stay as they are."""

    # No default that the documentation would show, as with items.
    title: Line = Field(default_factory=str)
    author: Line = Field(default_factory=str)
    isbn: Isbn = Field(default_factory=str)
    price: Price = Field(default_factory=Decimal)
    description: Description = Field(default_factory=str)


class BookView(BaseModel):
    """A book; its price is an exact decimal, so it is a string."""

    id: int
    owner_id: int
    title: str
    author: str
    isbn: str
    price: Decimal
    description: str
    created_at: datetime
    updated_at: datetime


class BookPage(BaseModel):
    """One page of the books."""

    books: list[BookView]
    total: int
    skip: int
    limit: int
