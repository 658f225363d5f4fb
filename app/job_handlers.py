"""Every job of the service: its name, and what does it."""

from functools import partial

from app import audit, cached, files, keys, lockout, recovery, sessions, tasks
from app.jobs import housekeeping
from app.jobs.handlers import Fleeting, Handlers, JobResources, Periodic, Slow, own_retries
from app.jobs.retries import Retries
from app.log import get_logger
from app.pruning import BATCH
from app.recovery import jobs as mails
from app.reports import jobs as reports


async def clean_up(resources: JobResources, batch: int = BATCH) -> None:
    """Forget what has expired, and audit events that have been kept long enough.

    Whatever goes wrong with one of them, the others are done, before the first failure is raised.
    """
    prune = partial(audit.prune, days=resources.settings.audit_retention_days)
    failures = []
    for forget in (sessions.clean_up, recovery.clean_up, keys.clean_up, lockout.clean_up, prune):
        try:
            await forget(resources.database, batch=batch)
        except Exception as error:  # noqa: BLE001 - it is raised below
            failures.append(error)
            message = f"A part of the clean-up met {type(error).__name__}; the others are done."
            get_logger().warning("clean_up.failed", message=message)
    if failures:
        raise failures[0]


async def settle_tasks(resources: JobResources) -> None:
    """Fail the tasks whose jobs have failed for good."""
    await tasks.settle(resources.database, resources.settings)


async def requeue_stalled(resources: JobResources) -> None:
    """Give the jobs of workers that were killed to those that live."""
    await housekeeping.requeue_stalled(resources, own_retries(handlers))


# Somebody waits: about five minutes, and then it is told that nothing comes.
_AWAITED = Retries(attempts=6)

handlers: Handlers = {
    "cache.forget": Fleeting(cached.forget, useful=cached.longest_kept),
    "accounts.clean_up": Periodic(clean_up, cron="41 3 * * *"),
    "files.sweep": Periodic(files.sweep, cron="23 * * * *"),
    "jobs.requeue_stalled": Periodic(requeue_stalled, cron="* * * * *"),
    "jobs.delete_ended": Periodic(housekeeping.delete_ended, cron="17 3 * * *"),
    "tasks.settle": Periodic(settle_tasks, cron="* * * * *"),
    "reports.items": Slow(reports.write_items, retries=_AWAITED),
    "reports.forget_expired": Periodic(reports.forget_expired, cron="37 * * * *"),
    "recovery.send_verification": mails.send_verification,
    "recovery.send_password_reset": mails.send_password_reset,
    "recovery.tell_password_changed": mails.tell_password_changed,
    "recovery.tell_email_changed": mails.tell_email_changed,
}
