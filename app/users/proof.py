"""Proving again, while logged in, that the password is known."""

from sqlalchemy.ext.asyncio import AsyncSession

from app import lockout
from app.accounts import Account, Origin
from app.audit import Event, record
from app.errors import IncorrectPasswordError
from app.resources import Resources
from app.users import repository


async def prove_password(
    resources: Resources, account: Account, password: str, origin: Origin
) -> str:
    """Return the stored hash of a password that is right.

    Wrong ones have a counter of their own: whoever has taken over a session gets no more guesses
    than at a login, and cannot lock the login by them.

    Raises:
        IncorrectPasswordError: when it is wrong, or was so too often.
    """
    async with resources.database.reading() as connection:
        stored = await repository.password_hash(connection, account.id)
    right, _ = await resources.passwords.verify(password, stored)
    rules = lockout.Rules.of(resources.settings)
    subject = _subject(account)
    async with resources.database.writing() as session:
        gate = await lockout.enter(session, rules, subject, lockout.STRANGERS, right=right)
        if gate.passed:
            await lockout.unlock(session, subject)
        else:
            event = Event("password.refused", origin, account.id, account.id)
            await record(session, event)
        if gate.locks:
            details = {"secret": "current_password"}
            await record(session, Event("account.locked", origin, account.id, account.id, details))
    if not gate.passed or stored is None:
        raise IncorrectPasswordError
    return stored


async def unlock_proof(session: AsyncSession, account: Account) -> bool:
    """Forget the wrong passwords of an account that is logged in; say whether it was locked.

    It comes after the counters of the login, in whatever takes both.
    """
    return await lockout.unlock(session, _subject(account))


def _subject(account: Account) -> bytes:
    return lockout.subject_of("current-password", str(account.id))
