"""What a login and a refresh give, and what is written down when a session ends."""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app import sessions
from app.accounts import Account, Origin
from app.audit import Event, record
from app.resources import Resources
from app.sessions import Reason


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody who is logged in gets.

    Attributes:
        access_token: for the next `lifetime` seconds.
        lifetime: of the access token, in seconds.
        refresh_token: for the next `refresh_lifetime` seconds, once.
        refresh_lifetime: of the refresh token, in seconds.
        session_id: that they belong to.
        scopes: that they allow.
    """

    access_token: str = field(repr=False)
    lifetime: int
    refresh_token: str = field(repr=False)
    refresh_lifetime: int
    session_id: int
    scopes: tuple[str, ...]


def grant_to(
    resources: Resources,
    account: Account,
    opened: sessions.Opened | sessions.Rotated,
    scopes: tuple[str, ...],
) -> Grant:
    """Return what the holder of a session gets."""
    tokens = resources.tokens
    return Grant(
        access_token=tokens.create(account.id, opened.id, scopes),
        lifetime=tokens.lifetime,
        refresh_token=opened.refresh_token,
        refresh_lifetime=opened.refresh_seconds,
        session_id=opened.id,
        scopes=scopes,
    )


async def note_end(  # noqa: PLR0913, PLR0917 - whose, by whom, which and why
    session: AsyncSession, origin: Origin, user_id: int, actor_id: int, number: int, reason: Reason
) -> None:
    """Write down that a session has ended, and why."""
    details = {"session": number, "reason": reason.value}
    await record(session, Event("session.ended", origin, user_id, actor_id, details))
