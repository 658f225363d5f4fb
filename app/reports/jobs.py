"""Writing reports, as jobs of the worker, and taking old ones away."""

import functools
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app import files, tasks
from app.errors import NotFoundError, ServiceError, StorageFullError, UnavailableError
from app.jobs.handlers import JobResources
from app.reports.service import item_pages
from app.tasks import OvertakenError, Run

CONTENT_TYPE = "text/csv; charset=utf-8"
_BATCH = 100


async def write_items(resources: JobResources, task_id: int) -> None:
    """Write the items of the account that has asked for the task into a file of the account."""
    database, settings = resources.database, resources.settings
    # Somebody else does it, or has done it.
    with suppress(OvertakenError):
        async with tasks.running(database, settings, task_id) as run:
            try:
                await _publish(resources, run)
            except (UnavailableError, StorageFullError):
                raise
            except ServiceError as error:
                # Such as a quota: trying again would not change it.
                await tasks.give_up(database, settings, run, error.code)


async def _publish(resources: JobResources, run: Run) -> None:
    """Write the file and end the task, both or neither."""
    async with resources.database.writing() as session:
        file = await files.publish(
            resources,
            session,
            owner_id=run.user_id,
            filename=f"items-{datetime.now(UTC):%Y-%m-%d}.csv",
            content_type=CONTENT_TYPE,
            chunks=_pieces(resources, session, run),
        )
        await tasks.attach(session, run, file.id)


async def _pieces(resources: JobResources, session: AsyncSession, run: Run) -> AsyncIterator[bytes]:
    goes_on = functools.partial(tasks.check_goes_on, resources.database, run)
    async for piece in item_pages(resources.database, run.user_id, goes_on):
        yield piece
    # Only who may end the task publishes anything: the file of another run is thrown away here.
    await tasks.end(session, resources.settings, run)


async def forget_expired(resources: JobResources) -> None:
    """Forget the tasks that ended long enough ago, with what came of them."""
    count = _BATCH
    while count == _BATCH:
        async with resources.database.writing() as session:
            results = await tasks.forget_expired(session, _BATCH)
            for user_id, file_id in results:
                # Its owner may just have deleted it.
                if file_id is not None:
                    with suppress(NotFoundError):
                        await files.delete(resources, session, user_id, file_id)
        count = len(results)
