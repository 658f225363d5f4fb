"""The commands of the console."""

import argparse
import getpass
import os

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app import admin, sessions, users
from app.accounts import Account, Origin
from app.audit import Event, record
from app.cache import Cache
from app.console.terminal import (
    ConsoleError,
    checked_address,
    json_of,
    line_of,
    read_password,
    refusal,
    say,
)
from app.db import Database
from app.errors import ConflictError
from app.job_handlers import handlers
from app.jobs.service import Jobs
from app.passwords import Passwords, turns_of_release
from app.permissions import Role
from app.realtime import EndingsTeller
from app.settings import Settings

PAGE = 100
NO_ACCOUNT = "There is no account with this name or address: `list` shows those that there are."


class Console:
    """The commands, on one database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.passwords = Passwords(1, turns_of_release())
        self.jobs = Jobs(settings, handlers)
        self.database = Database(settings)
        self._cache = Cache(settings)
        sessions.when_ended(self.database, EndingsTeller(self._cache).tell)
        operator = os.environ.get("SLIPWAY_OPERATOR") or getpass.getuser()
        self.by = admin.By(Origin(), operator=operator)

    async def close(self) -> None:
        """Close every connection."""
        self.passwords.close()
        await self.jobs.close()
        await self._cache.close()
        await self.database.close()

    async def create_admin(self, options: argparse.Namespace) -> None:
        """Make an administrator, whose address the operator vouches for."""
        password = read_password(options.password_file)
        try:
            registration = users.Registration(
                username=options.username,
                email=options.email,
                password=password,
                full_name=options.full_name,
            )
        except ValidationError as error:
            raise refusal(error) from None
        details = {**self.by.event["details"], "role": options.role}
        made = users.Made(Origin(), Role(options.role), verified=True, details=details)
        try:
            async with self.database.writing() as session:
                account = await users.register(self, session, registration, made)
        except ConflictError as error:
            raise ConsoleError(
                f"{error.message} An account that exists becomes one by `set-role`."
            ) from None
        say(f"{account.username} is {account.role.value} now (account {account.id}).")

    async def list_accounts(self, options: argparse.Namespace) -> None:
        """Print the accounts, one a line."""
        async with self.database.writing() as session:
            await record(session, Event("account.listed", self.by.origin, **self.by.event))
        skip, total = 0, 1
        while skip < total:
            page, total = await users.list_users(self.database, skip, PAGE, options.search)
            for account in page:
                if options.role in {None, account.role.value}:
                    say(json_of(account) if options.json else line_of(account))
            skip += PAGE

    async def unlock(self, options: argparse.Namespace) -> None:
        """Forget the wrong passwords given for an account."""
        async with self.database.writing() as session:
            account = await self._find(session, options.account)
            locked = await admin.unlock(session, account, self.by)
        say(f"{account.username} {'is unlocked' if locked else 'was not locked'}.")

    async def deactivate(self, options: argparse.Namespace) -> None:
        """Deactivate an account, end its sessions and revoke its keys."""
        async with self.database.writing() as session:
            account = await self._lock(session, options.account)
            await self._keep_one(session, account)
            if account.is_active:
                await users.close_account(session, account, self.by.origin, **self.by.event)
        say(f"{account.username} is deactivated; its sessions ended, its API keys are revoked.")

    async def activate(self, options: argparse.Namespace) -> None:
        """Let the owner of a deactivated account log in again."""
        async with self.database.writing() as session:
            account = await self._lock(session, options.account)
            if not account.is_active:
                await users.reopen_account(session, account, self.by.origin, **self.by.event)
        say(f"{account.username} is active.")

    async def set_role(self, options: argparse.Namespace) -> None:
        """Give an account another role."""
        role = Role(options.role)
        async with self.database.writing() as session:
            account = await self._lock(session, options.account)
            if role is not account.role:
                await self._keep_one(session, account)
                await users.set_role(session, account, role, self.by.origin, **self.by.event)
        say(f"{account.username} is {role.value} now.")

    async def set_email(self, options: argparse.Namespace) -> None:
        """Give an account another address, and put out whoever was in."""
        email = checked_address(options.address)
        async with self.database.writing() as session:
            account = await self._find(session, options.account)
            by = self.by
            moved = await users.hand_over(self, session, account, email, by.origin, **by.event)
        if not moved:
            say(f"{account.username} has the address {email} already: nothing was changed.")
            return
        once = "" if account.is_active else ", once the account is active again (`activate`)"
        say(
            f"{account.username} has the address {email} now; its sessions ended, its API keys are "
            "revoked, its password is worthless: its owner asks for a new one at that "
            f"address{once}."
        )

    async def end_sessions(self, options: argparse.Namespace) -> None:
        """End the sessions of an account, or of all."""
        if (options.account is None) == (not options.all):
            raise ConsoleError("Say one account, or --all: end-sessions NAME | --all")
        if options.account is not None:
            async with self.database.writing() as session:
                account = await self._lock(session, options.account)
                ended = await admin.end_sessions(session, account, self.by)
            say(f"{ended} sessions of {account.username} have ended.")
            return
        ended, skip, total = 0, 0, 1
        while skip < total:
            page, total = await users.list_users(self.database, skip, PAGE, None)
            async with self.database.writing() as session:
                for account in page:
                    ended += await admin.end_sessions(session, account, self.by)
            skip += PAGE
        say(f"{ended} sessions of {total} accounts have ended.")

    async def _find(self, session: AsyncSession, name: str) -> Account:
        found = await users.find_user(session, username=name)
        if found is None and "@" in name:
            found = await users.find_user(session, email=name)
        if found is None:
            raise ConsoleError(NO_ACCOUNT)
        return found

    async def _lock(self, session: AsyncSession, name: str) -> Account:
        found = await self._find(session, name)
        return (await users.lock_user(session, found.id)).account

    async def _keep_one(self, session: AsyncSession, account: Account) -> None:
        """Refuse to take away the last who can administer administrators."""
        if account.role is not Role.SUPER_ADMIN or not account.is_active:
            return
        if await users.hold_active(session, Role.SUPER_ADMIN) <= 1:
            raise ConsoleError(
                f"{account.username} is the only active super administrator: make another one "
                "first, by `create-admin` or `set-role NAME super_admin`."
            )
