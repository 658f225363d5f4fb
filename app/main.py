"""The wiring of the service: `create_app()` makes the application from its settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import app.admin.endpoints
import app.auth.endpoints
import app.books.endpoints
import app.files.endpoints
import app.health.endpoints
import app.items.endpoints
import app.keys.endpoints
import app.realtime.endpoints
import app.recovery.endpoints
import app.reports.endpoints
import app.tasks.endpoints
import app.users.endpoints
from app import cookies, log, sessions
from app.cache import Cache
from app.cached import CachedReads
from app.db import Database
from app.dependencies import KEY_HEADER
from app.error_handlers import add_error_handlers
from app.error_reports import ErrorReports
from app.file_stores import open_store
from app.health.service import ReadinessCheck
from app.identity import Identities
from app.job_handlers import handlers
from app.jobs.service import Jobs
from app.middleware import RequestMiddleware, TrustedHostMiddleware, answer_fault
from app.passwords import Passwords, turns_of_release
from app.rate_limits import RateLimits
from app.realtime import Live
from app.refusals import Refusals
from app.resources import Resources
from app.routing import Service
from app.settings import Settings, load_settings
from app.tokens import Tokens
from app.transfers import Transfers
from app.users import common_passwords

VERSION = "0.1.0"


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application. Nothing is connected before it serves.

    Args:
        settings: by default those of the environment.

    Raises:
        SettingsError: when the environment's settings are not usable.
    """
    settings = settings or load_settings(Settings)
    log.configure(settings)
    documented = settings.serves_documentation
    application = Service(
        title="Harbour",
        version=VERSION,
        lifespan=_lifespan,
        docs_url="/docs" if documented else None,
        redoc_url="/redoc" if documented else None,
        openapi_url="/openapi.json" if documented else None,
        # Nothing of OpenTelemetry is installed, which the framework would look for each time.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    application.state.settings = settings
    add_error_handlers(application)
    _add_routes(application)
    _add_middleware(application, settings)
    return application


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Hold the worker's resources open while it serves."""
    settings: Settings = application.state.settings
    database, cache = Database(settings), Cache(settings)
    error_reports = ErrorReports(settings)
    jobs = Jobs(settings, handlers, error_reports)
    resources = Resources(
        settings=settings,
        database=database,
        cache=cache,
        passwords=Passwords(
            settings.password_threads, turns_of_release(), settings.passwords_waiting
        ),
        tokens=Tokens(settings),
        rate_limits=RateLimits(settings),
        refusals=Refusals(database),
        jobs=jobs,
        identities=Identities(database, settings),
        cached=CachedReads(cache, jobs, settings.cache_seconds),
        error_reports=error_reports,
        files=open_store(settings),
        transfers=Transfers(settings, cache),
    )
    application.state.resources = resources
    application.state.readiness = ReadinessCheck(resources.database, resources.cache)
    # It is needed by the first who registers, and takes too long for the event loop.
    reading = asyncio.get_running_loop().run_in_executor(None, common_passwords)
    application.state.live = live = Live(settings, cache, resources.identities, error_reports)
    sessions.when_ended(database, live.end_sessions)
    await live.start()
    logger = log.get_logger()
    logger.info("service.started", message=f"Release {settings.release} serves.")
    try:
        yield
    finally:
        await reading
        await live.stop()
        await resources.close()
        logger.info("service.stopped", message=f"Release {settings.release} has stopped.")


def _add_routes(application: Service) -> None:
    """Add the features; the hottest come first, because routes are tried in order."""
    for router in (
        app.items.endpoints.router,
        app.books.endpoints.router,
        app.users.endpoints.router,
        app.auth.endpoints.forms,
        app.auth.endpoints.router,
        app.keys.endpoints.router,
        app.files.endpoints.router,
        app.recovery.endpoints.router,
        app.reports.endpoints.router,
        app.tasks.endpoints.router,
        app.admin.endpoints.router,
        app.realtime.endpoints.router,
    ):
        application.add_routes(router)
    application.add_routes(app.health.endpoints.router)
    application.router.routes.extend(app.realtime.endpoints.sockets)


def _add_middleware(application: FastAPI, settings: Settings) -> None:
    """Add what surrounds each request; the last one added is the outermost."""
    fault: ASGIApp = answer_fault
    if settings.cors_origins:
        allowed = _allowed_to_pages(settings)
        application.add_middleware(CORSMiddleware, **allowed)
        # It is answered further outside, and pages read its request_id too.
        fault = CORSMiddleware(answer_fault, **allowed)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts)
    application.add_middleware(RequestMiddleware, max_body_size=settings.max_body_size, fault=fault)


def _allowed_to_pages(settings: Settings) -> dict[str, Any]:
    """Return what pages of the listed origins may send and read."""
    return {
        "allow_origins": settings.cors_origins,
        # Pages of the same site may use the cookies; each write also needs their CSRF token.
        "allow_credentials": True,
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "If-Match",
            "If-None-Match",
            "If-Range",
            "Range",
            KEY_HEADER,
            cookies.CSRF_HEADER,
            "X-Request-ID",
        ],
        "expose_headers": [
            "Accept-Ranges",
            "Content-Disposition",
            "Content-Range",
            "ETag",
            "Location",
            "Retry-After",
            "X-RateLimit-Limit",
            "X-RateLimit-Remaining",
            "X-RateLimit-Reset",
            "X-Request-ID",
        ],
    }
