"""API keys over HTTP. Only a session may manage them: a key must not make others."""

from typing import Annotated

from fastapi import Response

from app.access import session_with
from app.accounts import Identity
from app.dependencies import RequestOrigin, Transaction, WorkerResources
from app.keys import service
from app.keys.schemas import DefaultKeyView, KeyInput, KeyList, KeyView, NewKeyView
from app.routing import API, Done, Identifier, errors, router_of

router = router_of(f"{API}/api-keys", "keys")

KeyReader = Annotated[Identity, session_with("profile:read")]
KeyWriter = Annotated[Identity, session_with("profile:write")]


@router.get("", response_model=KeyList)
async def list_keys(identity: KeyReader, resources: WorkerResources) -> dict[str, list[KeyView]]:
    """Return the caller's keys."""
    keys = await service.list_keys(resources.database, identity.account.id)
    return {"api_keys": [KeyView.model_validate(key) for key in keys]}


@router.post("", status_code=201, responses=errors(409))
async def create_key(  # noqa: PLR0913, PLR0917 - what the framework hands in
    wanted: KeyInput,
    identity: KeyWriter,
    session: Transaction,
    resources: WorkerResources,
    origin: RequestOrigin,
    response: Response,
) -> NewKeyView:
    """Make a key; it is shown this once."""
    text, key = await service.make(
        session,
        resources.settings.api_keys_per_user,
        identity,
        service.NewKey(wanted.name, wanted.scopes, wanted.expires_at),
        origin,
    )
    response.headers["Cache-Control"] = "no-store"
    return NewKeyView(**KeyView.model_validate(key).model_dump(), api_key=text)


@router.post("/generate", responses=errors(409))
async def generate_key(
    identity: KeyWriter,
    session: Transaction,
    resources: WorkerResources,
    origin: RequestOrigin,
    response: Response,
) -> DefaultKeyView:
    """Make the default key, in place of the one before it."""
    wanted = service.NewKey(service.DEFAULT_NAME, is_default=True)
    limit = resources.settings.api_keys_per_user
    text, _ = await service.make(session, limit, identity, wanted, origin)
    response.headers["Cache-Control"] = "no-store"
    return DefaultKeyView(api_key=text)


@router.delete("/revoke", responses=errors(404))
async def revoke_default_key(
    identity: KeyWriter, session: Transaction, origin: RequestOrigin
) -> Done:
    """Take the default key away."""
    await service.revoke_default(session, identity, origin)
    return Done(message="The API key was revoked.")


@router.delete("/{key_id}", status_code=204, responses=errors(404))
async def revoke_key(
    key_id: Identifier, identity: KeyWriter, session: Transaction, origin: RequestOrigin
) -> None:
    """Take one key away."""
    await service.revoke(session, identity, key_id, origin)
