"""The desk that hands out tickets and places: shared by all workers where there is a store.

A ticket is good once, for half a minute, and is kept as a hash only. A place is what an account
may have several of; it is renewed while its socket is open, so that those of a worker that was
killed become free by themselves.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import orjson

from app.cache import Cache, CacheDownError
from app.errors import ConflictError, RateLimitedError, UnavailableError
from app.opaque_tokens import hash_token
from app.realtime.sockets import Member

# Longer than several looks of a worker, which renew it.
_PLACE_SECONDS = 180
_TOLD_AT_ONCE = 100
_MOST_TICKETS = 10_000

# Both keys hold who is there, as `account:connection`, with the second in which that runs out, by
# the store's clock: those of the hosts differ.
_TAKE = """
local now = tonumber(redis.call('TIME')[1])
for _, key in ipairs(KEYS) do redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
local holder = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
if holder and holder:match('^[^:]+') ~= ARGV[2] then return -1 end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, now + ARGV[4], ARGV[1])
    redis.call('EXPIRE', key, ARGV[4])
end
return 1
"""
_RENEW = """
local now = tonumber(redis.call('TIME')[1])
for number, key in ipairs(KEYS) do
    redis.call('ZADD', key, now + ARGV[#ARGV], ARGV[math.ceil(number / 2)])
    redis.call('EXPIRE', key, ARGV[#ARGV])
end
"""
_LEAVE = """
for number, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[math.ceil(number / 2)]) end
"""


class TooManySocketsError(RateLimitedError):
    """The account has as many WebSockets as it may have."""

    code = "too_many_connections"
    message = "Your account has too many connections open: close one of them."


class ClientIdTakenError(ConflictError):
    """Another account is connected under this name."""

    code = "client_id_taken"
    message = "Somebody else is connected under this name: choose another one."


@dataclass(frozen=True, slots=True)
class Grant:
    """What a ticket stands for."""

    user_id: int
    session_id: int


IsHere: TypeAlias = Callable[[Member], bool]


class Desk(Protocol):
    """Tickets and places. Its methods raise UnavailableError when the store is away."""

    async def keep(self, ticket: str, grant: Grant, seconds: int) -> None:
        """Remember a ticket."""

    async def redeem(self, ticket: str) -> Grant | None:
        """Return what a ticket stands for, to the first who asks."""

    async def take(self, member: Member, limit: int) -> None:
        """Take a place.

        Raises:
            TooManySocketsError: when the account has as many as it may have.
            ClientIdTakenError: when another account has the name.
        """

    async def renew(self, members: Sequence[Member], is_here: IsHere) -> Sequence[Member]:
        """Keep the places of those who are there.

        Returns:
            Those who have left meanwhile: their places may have come back.
        """

    async def leave(self, members: Sequence[Member]) -> None:
        """Give places back."""


class SharedDesk:
    """The desk in the store."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def keep(self, ticket: str, grant: Grant, seconds: int) -> None:
        """Remember a ticket."""
        value = orjson.dumps([grant.user_id, grant.session_id])
        try:
            await self._cache.put(_ticket_key(ticket), value, seconds)
        except CacheDownError as error:
            raise UnavailableError from error

    async def redeem(self, ticket: str) -> Grant | None:
        """Return what a ticket stands for, to the first who asks."""
        try:
            found = await self._cache.take_away(_ticket_key(ticket))
        except CacheDownError as error:
            raise UnavailableError from error
        return Grant(*orjson.loads(found)) if found else None

    async def take(self, member: Member, limit: int) -> None:
        """Take a place."""
        arguments = (_place_of(member), member.user_id, limit, _PLACE_SECONDS)
        try:
            outcome = await self._cache.run(_TAKE, _place_keys(member), *arguments)
        except CacheDownError as error:
            raise UnavailableError from error
        if outcome < 0:
            raise ClientIdTakenError
        if outcome == 0:
            raise TooManySocketsError(limit, 0, 1)

    async def renew(self, members: Sequence[Member], is_here: IsHere) -> Sequence[Member]:
        """Keep the places of those who are there; return those who have left meanwhile."""
        left: list[Member] = []
        for start in range(0, len(members), _TOLD_AT_ONCE):
            some = [one for one in members[start : start + _TOLD_AT_ONCE] if is_here(one)]
            await self._tell(_RENEW, some, _PLACE_SECONDS)
            left += [one for one in some if not is_here(one)]
        return left

    async def leave(self, members: Sequence[Member]) -> None:
        """Give places back; those that cannot be given back become free by themselves."""
        await self._tell(_LEAVE, members)

    async def _tell(self, script: str, members: Sequence[Member], *further: int) -> None:
        for start in range(0, len(members), _TOLD_AT_ONCE):
            some = members[start : start + _TOLD_AT_ONCE]
            keys = [key for member in some for key in _place_keys(member)]
            try:
                await self._cache.run(script, keys, *map(_place_of, some), *further)
            except CacheDownError as error:
                raise UnavailableError from error


class OwnDesk:
    """The desk of a worker that is alone."""

    def __init__(self) -> None:
        self._tickets: dict[bytes, tuple[Grant, float]] = {}
        self._members: dict[str, Member] = {}

    async def keep(self, ticket: str, grant: Grant, seconds: int) -> None:
        """Remember a ticket, instead of the oldest one when there are too many."""
        if len(self._tickets) >= _MOST_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        self._tickets[hash_token(ticket)] = grant, time.monotonic() + seconds

    async def redeem(self, ticket: str) -> Grant | None:
        """Return what a ticket stands for, to the first who asks."""
        grant, until = self._tickets.pop(hash_token(ticket), (None, 0.0))
        return grant if time.monotonic() < until else None

    async def take(self, member: Member, limit: int) -> None:
        """Take a place."""
        others = self._members.values()
        if any(one.client_id == member.client_id for one in _of_others(member, others)):
            raise ClientIdTakenError
        if sum(one.user_id == member.user_id for one in others) >= limit:
            raise TooManySocketsError(limit, 0, 1)
        self._members[member.connection_id] = member

    async def renew(self, members: Sequence[Member], is_here: IsHere) -> Sequence[Member]:
        """Do nothing: what is in memory stays."""
        del members, is_here
        return []

    async def leave(self, members: Sequence[Member]) -> None:
        """Give places back."""
        for member in members:
            self._members.pop(member.connection_id, None)


def _of_others(member: Member, members: Iterable[Member]) -> Iterable[Member]:
    return (one for one in members if one.user_id != member.user_id)


def _ticket_key(ticket: str) -> str:
    return f"live:ticket:{hash_token(ticket).hex()}"


def _place_keys(member: Member) -> list[str]:
    return [f"live:account:{member.user_id}", f"live:name:{member.client_id}"]


def _place_of(member: Member) -> str:
    return f"{member.user_id}:{member.connection_id}"
