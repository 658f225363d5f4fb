"""The dependencies of endpoints that change things of the catalogue."""

from typing import Annotated

from fastapi import Depends

from app.access import AnyCaller, require_scopes
from app.accounts import Identity
from app.conditional import IfMatch
from app.dependencies import Transaction, WorkerResources
from app.entities import Precondition
from app.writing import Writing

_Permitted = Annotated[Identity, require_scopes("items:write")]


async def _creating(
    identity: _Permitted, session: Transaction, resources: WorkerResources
) -> Writing:
    return Writing(session, resources.cached, identity, Precondition())


async def _changing(
    identity: _Permitted, session: Transaction, resources: WorkerResources, precondition: IfMatch
) -> Writing:
    return Writing(session, resources.cached, identity, precondition)


async def _deleting(
    identity: AnyCaller, session: Transaction, resources: WorkerResources, precondition: IfMatch
) -> Writing:
    return Writing(session, resources.cached, identity, precondition)


Creator = Annotated[Writing, Depends(_creating)]
Changer = Annotated[Writing, Depends(_changing)]
# Which scope it takes to delete depends on whose the thing is.
Deleter = Annotated[Writing, Depends(_deleting)]
