"""Administration over HTTP."""

from dataclasses import asdict
from typing import Annotated

from fastapi import Depends, Query

from app import audit, users
from app.access import require_minimum_role, require_permission, require_scopes, require_session
from app.accounts import LARGEST_ID, Account, Identity
from app.admin import service
from app.admin.schemas import Dashboard, EndedView, EventPage, EventView, UserPage
from app.admin.service import By
from app.dependencies import CurrentIdentity, RequestOrigin, Transaction, WorkerResources
from app.moments import Moment
from app.permissions import Permission, Role
from app.rate_limits import limited
from app.routing import API, Identifier, Limit, Skip, errors, router_of
from app.text import NO_NUL, Search
from app.users import UserView

router = router_of(f"{API}/admin", "admin")

Reader = Annotated[Identity, require_scopes("admin", "users:read")]
Writer = Annotated[Identity, require_scopes("admin", "users:write")]
_ADMIN = require_minimum_role(Role.ADMIN)

UserId = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
Cursor = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
EventName = Annotated[str | None, Query(max_length=50, pattern=NO_NUL)]
Bound = Annotated[Moment | None, Query()]


async def get_actor(identity: CurrentIdentity, origin: RequestOrigin) -> By:
    """Return who acts."""
    return By(origin, identity.account.id)


Actor = Annotated[By, Depends(get_actor)]


@router.get("/users", dependencies=[_ADMIN, require_permission(Permission.VIEW_USERS)])
@limited("search", asking="search")
async def list_users(
    _: Reader,
    resources: WorkerResources,
    skip: Skip = 0,
    limit: Limit = 20,
    search: Annotated[Search | None, Query()] = None,
) -> UserPage:
    """Return one page of the accounts; `search` finds a part of a name or an address."""
    found, total = await users.list_users(resources.database, skip, limit, search)
    views = [UserView.model_validate(one) for one in found]
    return UserPage(users=views, total=total, skip=skip, limit=limit)


@router.put(
    "/users/{user_id}/role",
    response_model=UserView,
    dependencies=[require_session(), require_permission(Permission.MANAGE_ROLES)],
    responses=errors(404),
)
async def change_role(
    user_id: Identifier,
    new_role: Annotated[Role, Query()],
    identity: Writer,
    session: Transaction,
    by: Actor,
) -> Account:
    """Give an account another role; neither one's own nor one of a super administrator."""
    return await service.change_role(session, identity, user_id, new_role, by)


@router.post(
    "/users/{user_id}/deactivate",
    response_model=UserView,
    dependencies=[_ADMIN, require_permission(Permission.MANAGE_USERS)],
    responses=errors(404),
)
async def deactivate_user(
    user_id: Identifier, identity: Writer, session: Transaction, by: Actor
) -> Account:
    """Deactivate an account, end its sessions and revoke its keys."""
    return await service.deactivate(session, identity, user_id, by)


@router.post(
    "/users/{user_id}/unlock",
    response_model=UserView,
    dependencies=[_ADMIN, require_permission(Permission.MANAGE_USERS)],
    responses=errors(404),
)
async def unlock_user(
    user_id: Identifier, identity: Writer, session: Transaction, by: Actor
) -> Account:
    """Forget the wrong passwords given for an account."""
    return await service.unlock_by_id(session, identity, user_id, by)


@router.delete(
    "/users/{user_id}/sessions",
    dependencies=[_ADMIN, require_permission(Permission.MANAGE_USERS)],
    responses=errors(404),
)
async def end_sessions(
    user_id: Identifier, identity: Writer, session: Transaction, by: Actor
) -> EndedView:
    """End all sessions of an account."""
    ended = await service.end_sessions_by_id(session, identity, user_id, by)
    return EndedView(ended_sessions=ended)


@router.get("/dashboard", dependencies=[_ADMIN, require_permission(Permission.VIEW_USERS)])
async def read_dashboard(_: Reader, resources: WorkerResources) -> Dashboard:
    """Count the accounts."""
    counts = await users.count_accounts(resources.database)
    return Dashboard(
        total_users=counts.total,
        active_users=counts.active,
        inactive_users=counts.total - counts.active,
        users_by_role={role.value: count for role, count in counts.by_role.items()},
    )


@router.get("/audit", dependencies=[require_permission(Permission.VIEW_AUDIT_LOG)])
async def read_audit_trail(  # noqa: PLR0913, PLR0917 - the filters of one query
    _: Annotated[Identity, require_scopes("admin")],
    resources: WorkerResources,
    user_id: UserId = None,
    event: EventName = None,
    since: Bound = None,
    until: Bound = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> EventPage:
    """Return security events, newest first; `cursor` continues after a page."""
    query = audit.Query(user_id, event, since, until, cursor, limit + 1)
    found = await audit.find(resources.database, query)
    events = [EventView.model_validate(asdict(one)) for one in found[:limit]]
    more = len(found) > limit
    return EventPage(events=events, next_cursor=events[-1].id if more else None)
