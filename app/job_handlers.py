"""Every job of the service: its name, and what does it."""

from app import audit, keys, lockout, recovery, sessions
from app.jobs import housekeeping
from app.jobs.handlers import Handlers, JobResources, Periodic
from app.recovery import jobs as mails


async def clean_up(resources: JobResources) -> None:
    """Forget what has expired, and audit events that have been kept long enough."""
    for forget in (sessions.clean_up, recovery.clean_up, keys.clean_up, lockout.clean_up):
        async with resources.database.writing() as session:
            await forget(session)
    async with resources.database.writing() as session:
        await audit.prune(session, resources.settings.audit_retention_days)


handlers: Handlers = {
    "accounts.clean_up": Periodic(clean_up, cron="41 3 * * *"),
    "jobs.requeue_stalled": Periodic(housekeeping.requeue_stalled, cron="* * * * *"),
    "jobs.delete_ended": Periodic(housekeeping.delete_ended, cron="17 3 * * *"),
    "recovery.send_verification": mails.send_verification,
    "recovery.send_password_reset": mails.send_password_reset,
    "recovery.tell_password_changed": mails.tell_password_changed,
    "recovery.tell_email_changed": mails.tell_email_changed,
}
