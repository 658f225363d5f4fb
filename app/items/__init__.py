"""The catalogue."""

from app.items.service import list_owned

__all__ = ["list_owned"]
