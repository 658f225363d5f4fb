"""What a change of a thing that is read by way of the cache needs."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import Identity
from app.cached import CachedReads
from app.entities import Precondition


@dataclass(frozen=True)
class Writing:
    """Who changes something, in which transaction.

    Attributes:
        session: The transaction.
        cached: The reads that must not find the former state after it.
        identity: Who asks for it.
        precondition: What the thing must be like.
    """

    session: AsyncSession
    cached: CachedReads
    identity: Identity
    precondition: Precondition
