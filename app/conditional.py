"""Requests that depend on what the client has (RFC 9110, section 13)."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from app.entities import Entity, Precondition

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "The client has it."}}


def _tags(header: str) -> frozenset[str]:
    """Return the opaque parts of a list of tags.

    Nginx marks a tag as weak when it compresses the answer, so that this mark tells nothing about
    the thing. If it counted, a client that sends back what it was given would never match.
    """
    listed = (one.strip().removeprefix("W/") for one in header.split(","))
    return frozenset(one[1:-1] for one in listed if len(one) > 1 and one[0] == one[-1] == '"')


def has(request: Request, tag: str) -> bool:
    """Say whether the client has the state of this tag already (If-None-Match)."""
    known = request.headers.get("if-none-match")
    return known is not None and (known.strip() == "*" or tag in _tags(known))


def wanted(request: Request) -> frozenset[str] | None:
    """Return the tags of the states that the client asks for (If-Match), or nothing for any."""
    return _wanted(request.headers.get("if-match"))


def _wanted(header: str | None) -> frozenset[str] | None:
    return None if header is None or header.strip() == "*" else _tags(header)


def answer(request: Request, entity: Entity) -> Response:
    """Answer a read: with the entity, or with 304 when the client has just that."""
    headers = {"ETag": f'"{entity.tag}"', "Cache-Control": "no-cache"}
    if has(request, entity.tag):
        return Response(status_code=304, headers=headers)
    return Response(entity.body, headers=headers, media_type="application/json")


def written(entity: Entity, status: int = 200) -> Response:
    """Answer a write with the new state and its tag."""
    headers = {"ETag": f'"{entity.tag}"'}
    return Response(entity.body, status, headers, "application/json")


async def _if_match(
    if_match: Annotated[
        str | None,
        Header(
            description="Tags of the states that may be changed; another state is refused with 412."
        ),
    ] = None,
) -> Precondition:
    return Precondition(_wanted(if_match))


IfMatch = Annotated[Precondition, Depends(_if_match)]
