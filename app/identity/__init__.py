"""From a credential to who asks, in one statement."""

from app.identity.service import Identities

__all__ = ["Identities"]
