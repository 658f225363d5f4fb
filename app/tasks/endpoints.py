"""Tasks over HTTP."""

from app.access import AnyCaller
from app.dependencies import WorkerResources
from app.routing import API, Identifier, errors, router_of
from app.tasks import service
from app.tasks.schemas import TaskView

router = router_of(f"{API}/tasks", "tasks")


@router.get("/{task_id}", responses=errors(404))
async def read_task(
    task_id: Identifier, identity: AnyCaller, resources: WorkerResources
) -> TaskView:
    """Return a task of the caller: ask again until it has succeeded or failed."""
    task = await service.find_task(resources.database, identity, task_id)
    return TaskView.model_validate(task)
