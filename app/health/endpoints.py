"""Liveness, readiness and numbers over HTTP."""

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from app import metrics
from app.access import anyone
from app.dependencies import WorkerResources
from app.health.schemas import Liveness, ReadinessView
from app.health.service import ReadinessCheck, count_jobs
from app.routing import UnlimitedRoute, router_of

router = router_of("", "health", UnlimitedRoute)


@router.get("/health", dependencies=[anyone()])
async def read_health(request: Request, resources: WorkerResources) -> Liveness:
    """Say that the process answers; nothing else is touched."""
    return Liveness(version=request.app.version, release=resources.settings.release)


@router.get("/health/ready", dependencies=[anyone()], responses={503: {"model": ReadinessView}})
async def read_readiness(
    request: Request, resources: WorkerResources, response: Response
) -> ReadinessView:
    """Say whether requests can be served; 503 when not."""
    check: ReadinessCheck = request.app.state.readiness
    readiness = await check.run()
    if readiness.status == "unavailable":
        response.status_code = 503
    return ReadinessView(
        status=readiness.status, release=resources.settings.release, checks=readiness.checks
    )


@router.get("/metrics", include_in_schema=False, dependencies=[anyone()])
async def read_metrics(resources: WorkerResources) -> Response:
    """Return the numbers of all workers for Prometheus."""
    await count_jobs(resources.database, resources.jobs)
    return Response(await run_in_threadpool(metrics.exposition), media_type=metrics.CONTENT_TYPE)
