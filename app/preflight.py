"""Look, before a release is started, at whether it could serve: `python -m app.preflight`.

Ends with status 0, or with 1 and one sentence on standard error. Changes nothing.
"""

import asyncio
import sys

from app.cache import Cache
from app.db import Database
from app.errors import SettingsError, UnavailableError
from app.file_stores import StoreDownError, open_store
from app.health.repository import current_revision
from app.main import create_app
from app.schema import known_revisions
from app.settings import Settings, load_settings

TIMEOUT = 15.0


class PreflightError(Exception):
    """Why this release cannot serve here, in one sentence."""


async def _look(settings: Settings) -> str:
    """Look at the database, the cache and the store of files; return warnings, or nothing.

    Raises:
        PreflightError: when the database cannot be used by this release.
    """
    database, cache = Database(settings), Cache(settings)
    where = settings.sqlalchemy_url.render_as_string(hide_password=True)
    try:
        async with asyncio.timeout(TIMEOUT), database.reading() as connection:
            revision = await current_revision(connection)
        if revision is not None and revision not in known_revisions().every:
            raise PreflightError(
                f"The database is at revision {revision}, which this release does not know: "
                "release a version that is not older than the database."
            )
        answers = not cache.configured or await cache.ping()
    except (UnavailableError, TimeoutError) as error:
        reason = error.__cause__ or error
        raise PreflightError(
            f"The database {where} cannot be reached ({type(reason).__name__}: {reason})."
        ) from error
    finally:
        await cache.close()
        await database.close()
    away = f"The cache at {settings.cache_url} does not answer; the service works without."
    warnings = ("" if answers else away, await _look_at_files(settings))
    return " ".join(warning for warning in warnings if warning)


async def _look_at_files(settings: Settings) -> str:
    """Return what is wrong with the store of files; it keeps nothing else of the service back."""
    store = open_store(settings)
    if store is None:
        return ""
    try:
        async with asyncio.timeout(TIMEOUT):
            await store.check()
    except (StoreDownError, TimeoutError) as error:
        kind = type(error.__cause__ or error).__name__
        if settings.file_store == "local":
            return f"The folder {settings.file_folder} cannot be used ({kind}): files get 503."
        key = "APP_S3_ACCESS_KEY" if settings.s3_access_key else "the role of this host"
        return (
            f"The bucket {settings.s3_bucket} cannot be listed ({kind}), so files get 503: look "
            f"at its name and region, at {key}, and at the addresses that the service may reach."
        )
    finally:
        store.close()
    return ""


def main() -> int:
    """Look at everything, and say what is wrong."""
    try:
        settings = load_settings(Settings)
        create_app(settings)
        warning = asyncio.run(_look(settings))
    except (SettingsError, PreflightError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    if warning:
        sys.stderr.write(f"Warning: {warning}\n")
    sys.stdout.write(f"Release {settings.release} can serve here.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
