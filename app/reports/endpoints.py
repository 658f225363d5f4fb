"""Reports over HTTP."""

from typing import Annotated

from fastapi import Response

from app import files, tasks
from app.access import require_scopes
from app.accounts import Identity
from app.dependencies import Transaction, WorkerResources
from app.rate_limits import limited
from app.reports.service import KIND
from app.routing import API, errors, router_of
from app.tasks import TaskView

router = router_of(f"{API}/reports", "reports")

ItemReader = Annotated[Identity, require_scopes("items:read")]


@router.post("", status_code=202, responses=errors(404, 409))
@limited("report")
async def ask_for_report(
    identity: ItemReader, session: Transaction, resources: WorkerResources, response: Response
) -> TaskView:
    """Ask for a table (CSV) of the caller's items; `GET /tasks/{task_id}` says when it is there."""
    # Where files are kept nowhere, no report could be.
    files.store_of(resources)
    task = await tasks.start(session, resources.jobs, resources.settings, identity, KIND)
    response.headers["Location"] = f"{API}/tasks/{task.id}"
    return TaskView.model_validate(task)
