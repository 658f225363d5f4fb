"""The wiring of the service: `create_app()` makes the application from its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware

import app.auth.endpoints
import app.health.endpoints
import app.items.endpoints
import app.users.endpoints
from app import log
from app.cache import Cache
from app.db import Database
from app.dependencies import Resources, check_rate_limit
from app.error_handlers import add_error_handlers
from app.health.service import ReadinessCheck
from app.middleware import RequestMiddleware, TrustedHostMiddleware
from app.passwords import Passwords
from app.rate_limits import RateLimits
from app.settings import Settings, load_settings
from app.tokens import Tokens
from app.users.repository import find_account

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
    application = FastAPI(
        title="Harbour",
        version=VERSION,
        lifespan=_lifespan,
        docs_url="/docs" if documented else None,
        redoc_url="/redoc" if documented else None,
        openapi_url="/openapi.json" if documented else None,
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
    resources = Resources(
        settings=settings,
        database=Database(settings),
        cache=Cache(settings),
        passwords=Passwords(settings.password_threads),
        tokens=Tokens(settings),
        rate_limits=RateLimits(settings),
        find_account=find_account,
    )
    application.state.resources = resources
    application.state.readiness = ReadinessCheck(resources.database, resources.cache)
    logger = log.get_logger()
    logger.info("service.started", message=f"Release {settings.release} serves.")
    try:
        yield
    finally:
        await resources.close()
        logger.info("service.stopped", message=f"Release {settings.release} has stopped.")


def _add_routes(application: FastAPI) -> None:
    """Add the features; the hottest come first, because routes are tried in order."""
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(check_rate_limit)])
    api.include_router(app.items.endpoints.router)
    api.include_router(app.users.endpoints.router)
    api.include_router(app.auth.endpoints.router)
    application.include_router(api)
    application.include_router(app.health.endpoints.router)


def _add_middleware(application: FastAPI, settings: Settings) -> None:
    """Add what surrounds each request; the last one added is the outermost."""
    if settings.cors_origins:
        application.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "X-Request-ID"],
            expose_headers=["ETag", "X-Request-ID", "Retry-After"],
        )
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts)
    application.add_middleware(RequestMiddleware, max_body_size=settings.max_body_size)
