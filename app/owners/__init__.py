"""Whose something is, for features that list owners or bound what each of them has."""

from app.owners.repository import OWNERS, lock_account

__all__ = ["OWNERS", "lock_account"]
