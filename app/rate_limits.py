"""Rate limits, shared by all workers and hosts: slowapi's limits, off the event loop.

slowapi asks its store synchronously, so a store that hangs would hang every request. Here it runs
in greenlets, which let the event loop go on (`app.limit_store`), each check is bounded by a
timeout, and when the store is down the limits are counted in the worker's memory until slowapi
finds it well again.
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
from app.limit_store import SCHEME, AwaitedStorage
from app.log import get_logger
from app.settings import Settings

Policy = Literal["login", "mail", "profile", "register", "search", "secret"]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
T = TypeVar("T")

# By the address alone: each account would bring its guesses at others with it.
_BY_ADDRESS = frozenset({"login", "mail", "register"})
_policies: dict[Callable[..., Any], Policy] = {}


def limited(
    policy: Policy,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Mark an endpoint for the limit of this name, whose value is a setting."""

    def mark(endpoint: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        _policies[endpoint] = policy
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


def _searches_nothing(request: Request) -> bool:
    return not request.query_params.get("search")


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
        self._limited = {
            endpoint
            for endpoint, policy in _policies.items()
            if self._register(endpoint, policy, getattr(settings, f"limit_{policy}"))
        }

    async def check(self, request: Request) -> None:
        """Count a request against the limits of its endpoint.

        Raises:
            RateLimitedError: when it is one too many.
        """
        endpoint: Callable[..., Any] = request.scope["endpoint"]
        if not self._has_default and endpoint not in self._limited:
            return
        was_down = self._limiter.falls_back
        try:
            await self._ask(request, endpoint)
        except RateLimitedError:
            metrics.LIMITED.labels(endpoint.__name__).inc()
            raise
        finally:
            self._note_store(was_down=was_down)

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
            if policy == "search":
                self._limiter.limit(value, exempt_when=_searches_nothing, override_defaults=False)(
                    namesake
                )
            else:
                # All endpoints of a policy count together: each would bring as many guesses again.
                key = client_address if policy in _BY_ADDRESS else caller
                self._limiter.shared_limit(value, policy, key_func=key)(namesake)
        return True
