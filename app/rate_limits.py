"""Rate limits, shared by all workers and hosts: slowapi's limits, off the event loop.

slowapi asks its store synchronously, so a store that hangs would hang every request. Here it runs
in greenlets, which let the event loop go on (`app.limit_store`), each check is bounded by a
timeout, and when the store is down the limits are counted in the worker's memory until slowapi
finds it well again. The default limit, which every request meets, is counted by leases in the same
counters (`app.leases`); the others are counted one by one.
"""

import asyncio
import inspect
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import redis
from limits.errors import StorageError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from sqlalchemy.util import greenlet_spawn
from starlette.requests import Request

from app import metrics
from app.accounts import client_network
from app.errors import RateLimitedError
from app.exhausted import Exhausted, GoodKeys
from app.leases import Leases
from app.limit_store import SCHEME, AwaitedStorage
from app.log import get_logger
from app.settings import Settings

Policy = Literal[
    "export", "login", "mail", "profile", "register", "report", "search", "secret", "upload"
]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
T = TypeVar("T")

# By the address alone: each account would bring its guesses at others with it.
_BY_ADDRESS = frozenset({"login", "mail", "register"})
_policies: dict[Callable[..., Any], Policy] = {}
# Of endpoints whose limit counts only some requests: those that this says of are not counted.
_exempt: dict[Callable[..., Any], Callable[[Request], bool]] = {}


def limited(
    policy: Policy, *, asking: str | None = None
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Mark an endpoint for the limit of this name, whose value is a setting.

    Args:
        policy: the limit; all endpoints that have it count together.
        asking: parameter of the query without which a request meets the default limit alone.
    """

    def mark(endpoint: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        _policies[endpoint] = policy
        if asking is not None:
            _exempt[endpoint] = _without(asking)
        return endpoint

    return mark


def client_address(request: Request) -> str:
    """Name the address that Nginx saw; of IPv6 the network, which one client has to itself."""
    return f"address:{client_network(request.client.host if request.client else 'local')}"


def caller(request: Request) -> str:
    """Name who is counted: the verified user, else the address."""
    user_id: int | None = getattr(request.state, "user_id", None)
    return client_address(request) if user_id is None else f"user:{user_id}"


# slowapi looks at the parameters of both with each request.
for _key in (client_address, caller):
    _key.__signature__ = inspect.signature(_key)  # type: ignore[attr-defined]


def _without(parameter: str) -> Callable[[Request], bool]:
    """Return what says that a request has nothing in a parameter of the query."""

    def lacks(request: Request) -> bool:
        return not request.scope.get("query_string") or not request.query_params.get(parameter)

    return lacks


class _Limiter(Limiter):
    """slowapi's limiter, cut off from `.env` and `RATELIMIT_*`, with its check made public."""

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {}
        uri = "memory://"
        if settings.cache_url is not None:
            uri = SCHEME + settings.cache_url
            options = _redis_options(settings)
        with warnings.catch_warnings():
            # The name of no file keeps slowapi from reading `.env`; Starlette warns about it.
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(
                key_func=caller,
                default_limits=[settings.limit_default] if settings.limit_default else [],
                storage_uri=uri,
                storage_options=options,
                in_memory_fallback_enabled=True,
                config_filename="",
                key_style="endpoint",
            )
        # Read once; slowapi would read the text of the limit with each request.
        self._default_limits = [list(group) for group in self._default_limits]  # type: ignore[misc]

    def get_app_config(self, key: str, default_value: T = None) -> T:  # type: ignore[assignment]
        """Return the default: settings have one way into this service."""
        del key
        return default_value

    @property
    def falls_back(self) -> bool:
        """Whether the store is down and the memory counts."""
        return self._storage_dead

    def fall_back(self) -> None:
        """Count in memory until slowapi's next look at the store."""
        self._storage_dead = True

    def leases(self, patience: float) -> Leases | None:
        """How the default limit can be counted without slowapi; nothing without a store."""
        items = [limit.limit for group in self._default_limits for limit in group]
        if len(items) != 1 or not isinstance(self._storage, AwaitedStorage):
            return None
        return Leases(items[0], self._storage, patience)

    async def disconnect(self) -> None:
        """Close the connections to the store."""
        if isinstance(self._storage, AwaitedStorage):
            await self._storage.close()

    def check(self, request: Request, endpoint: Callable[..., Any]) -> None:
        """Count a request.

        Raises:
            RateLimitedError: when it is one too many.
        """
        try:
            self._check_request_limit(request, endpoint, in_middleware=False)
        except RateLimitExceeded as error:
            item, arguments = request.state.view_rate_limit
            reset, remaining = self.limiter.get_window_stats(item, *arguments)
            wait = max(1, int(reset - time.time()) + 1)
            raise RateLimitedError(item.amount, int(remaining), wait) from error


def _redis_options(settings: Settings) -> dict[str, Any]:
    password = settings.cache_password
    return {
        "password": password.get_secret_value() if password else None,
        # How long a free connection is waited for; whoever finds none is counted in memory.
        "timeout": settings.cache_timeout,
        "socket_timeout": settings.cache_timeout,
        "socket_connect_timeout": settings.cache_timeout,
        "retry": Retry(NoBackoff(), 0),
    }


class RateLimits:
    """The limits of one worker. Making it connects to nothing."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = _Limiter(settings)
        # Connecting and asking may each take the store's timeout.
        self._timeout = 2 * settings.cache_timeout
        self._has_default = bool(settings.limit_default)
        self._leases = self._limiter.leases(self._timeout)
        self._limited = {
            endpoint
            for endpoint, policy in _policies.items()
            if self._register(endpoint, policy, getattr(settings, f"limit_{policy}"))
        }
        self._exhausted = Exhausted()
        self.good_keys = GoodKeys()

    def has_limit_of_users(self, request: Request) -> bool:
        """Say whether a few requests are all that a user may send to an endpoint."""
        endpoint = request.scope["endpoint"]
        return endpoint in self._limited and _policies[endpoint] not in {*_BY_ADDRESS, "search"}

    def refuse_exhausted(self, request: Request) -> None:
        """Refuse a caller whom this worker has just refused, without counting or asking anybody.

        Raises:
            RateLimitedError: when the window of the limit that was reached has not ended.
        """
        endpoint = request.scope["endpoint"]
        try:
            self._exhausted.check((caller(request), endpoint))
        except RateLimitedError:
            metrics.LIMITED.labels(endpoint.__name__).inc()
            raise

    async def check(self, request: Request, *, guessed: bool = False) -> None:
        """Count a request, which may bring a guessed key, against the limits of its endpoint.

        Raises:
            RateLimitedError: when it is one too many.
        """
        endpoint: Callable[..., Any] = request.scope["endpoint"]
        if not self._has_default and endpoint not in self._limited:
            return
        was_down = self._limiter.falls_back
        try:
            if await self._passes_by_lease(request, endpoint):
                return
            await self._ask(request, endpoint)
        except RateLimitedError as error:
            # A key that this worker does not know yet waits for guesses alone at its address.
            if guessed or caller(request) != client_address(request):
                self._exhausted.note((caller(request), endpoint), error)
            metrics.LIMITED.labels(endpoint.__name__).inc()
            raise
        finally:
            self._note_store(was_down=was_down)

    async def _passes_by_lease(self, request: Request, endpoint: Callable[..., Any]) -> bool:
        """Count a request that meets the default limit alone; say whether that was possible."""
        if self._leases is None or self._limiter.falls_back:
            return False
        if endpoint in self._limited:
            exempt = _exempt.get(endpoint)
            if exempt is None or not exempt(request):
                return False
        who, what = caller(request), f"{endpoint.__module__}.{endpoint.__name__}"
        if self._leases.take(who, what):
            return True
        try:
            await self._leases.ask(who, what)
        except (TimeoutError, redis.RedisError, OSError):
            self._limiter.fall_back()
            return False
        return True

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._limiter.disconnect()

    async def _ask(self, request: Request, endpoint: Callable[..., Any]) -> None:
        """Count the request; what cannot be counted in time passes."""
        for _ in range(2):
            try:
                async with asyncio.timeout(self._timeout):
                    return await greenlet_spawn(self._limiter.check, request, endpoint)
            except TimeoutError:
                self._limiter.fall_back()
                return None
            except (redis.RedisError, StorageError):
                # Of several calls that fail at once slowapi counts only the first in memory.
                self._limiter.fall_back()
        return None

    def _note_store(self, *, was_down: bool) -> None:
        is_down = self._limiter.falls_back
        if is_down:
            metrics.LIMIT_STORE_FAILURES.inc()
        if is_down != was_down:
            log = get_logger()
            if is_down:
                log.warning("limits.store_down", message="Rate limits are counted in memory.")
            else:
                log.info("limits.store_up", message="Rate limits are shared again.")

    def _register(self, endpoint: Callable[..., Any], policy: Policy, value: str) -> bool:
        """Give slowapi the limit of an endpoint; its wrapper, which blocks, is not used.

        slowapi knows an endpoint by its module and name, and wants it to take the request, which
        ours need not: a namesake stands in.
        """
        if not value:
            return False

        async def namesake(request: Request) -> None:
            del request

        namesake.__module__, namesake.__name__ = endpoint.__module__, endpoint.__name__
        with warnings.catch_warnings():
            # slowapi asks asyncio whether a function is a coroutine, which Python 3.14 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            # All endpoints of a policy count together: each would bring as many guesses again.
            exempt = _exempt.get(endpoint)
            self._limiter.shared_limit(
                value,
                policy,
                key_func=client_address if policy in _BY_ADDRESS else caller,
                exempt_when=exempt,
                override_defaults=exempt is None,
            )(namesake)
        return True
