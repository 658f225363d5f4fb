"""The mails about accounts, as jobs of the worker.

A job names an account; the token is made when the mail is sent, so that no queue and no log ever
holds one.
"""

from contextlib import suppress

from app import users
from app.accounts import Account
from app.errors import UnavailableError
from app.jobs.handlers import JobResources
from app.mail import Mail, render
from app.recovery.service import Purpose, make_token, note_unsent
from app.settings import Settings


async def send_verification(resources: JobResources, user_id: int) -> None:
    """Ask the owner of an account to verify its address."""
    async with resources.database.writing() as session:
        account = await users.find_user(session, user_id=user_id)
        if account is None or not account.is_active or account.email_verified:
            return
        token = await make_token(session, resources.settings, account, Purpose.VERIFY)
    if token is not None:
        await _send_token(resources, account, token, Purpose.VERIFY)


async def send_password_reset(resources: JobResources, email: str) -> None:
    """Send a token for a new password to an address, if it is an active account's."""
    async with resources.database.writing() as session:
        account = await users.find_user(session, email=email)
        if account is None or not account.is_active:
            return
        token = await make_token(session, resources.settings, account, Purpose.RESET)
    if token is not None:
        await _send_token(resources, account, token, Purpose.RESET)


async def tell_password_changed(resources: JobResources, user_id: int) -> None:
    """Tell the owner of an account that its password was changed."""
    async with resources.database.reading() as connection:
        account = await users.find_user(connection, user_id=user_id)
    if account is not None:
        mail = render("password_changed", name=_name(account))
        await resources.mailer.send(account.email, mail)


async def tell_email_changed(resources: JobResources, user_id: int, old: str, new: str) -> None:
    """Tell the old address of an account that it is no longer the account's."""
    async with resources.database.reading() as connection:
        account = await users.find_user(connection, user_id=user_id)
    if account is not None:
        # Whether the old address was verified, the account does not tell any more.
        mail = render("email_changed", name=account.username, new_address=masked(new))
        await resources.mailer.send(old, mail)


async def _send_token(
    resources: JobResources, account: Account, token: str, purpose: Purpose
) -> None:
    try:
        mail = _with_token(resources.settings, account, token, purpose)
        await resources.mailer.send(account.email, mail)
    except Exception:
        # The next attempt makes a token of its own: those of an outage must not use up the hour's.
        with suppress(UnavailableError):
            async with resources.database.writing() as session:
                await note_unsent(session, token)
        raise


def _with_token(settings: Settings, account: Account, token: str, purpose: Purpose) -> Mail:
    page, seconds = {
        Purpose.VERIFY: ("verify-email", settings.verification_lifetime),
        Purpose.RESET: ("password-reset", settings.password_reset_lifetime),
    }[purpose]
    return render(
        purpose.value,
        name=_name(account),
        token=token,
        link=link_to(settings, page, token),
        lifetime=in_words(seconds),
    )


def link_to(settings: Settings, page: str, token: str) -> str | None:
    """Return the address of a page for people, or nothing when there are no such pages.

    Browsers keep what follows on the # to themselves: no server and no log gets the token by it.
    """
    return (
        f"{settings.public_url.rstrip('/')}/{page}#token={token}" if settings.public_url else None
    )


def in_words(seconds: int) -> str:
    """Say a time as people do: 30 minutes, 1 hour, 2 days."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {word}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


def masked(email: str) -> str:
    """Return an address of which its owner recognizes enough, and nobody else."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}…@{domain}"


def _name(account: Account) -> str:
    """Return how to greet whoever reads the mails to an account's address.

    Until that is known to be its owner, nothing that somebody else wrote must come by our mails.
    """
    return account.full_name if account.email_verified and account.full_name else account.username
