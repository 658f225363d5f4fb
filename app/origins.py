"""From a request to where it came from and what it asks for."""

from starlette.requests import HTTPConnection
from starlette.types import Scope

from app.accounts import Origin

_LONGEST_USER_AGENT = 200


def origin_of(request: HTTPConnection) -> Origin:
    """Return where a request came from.

    Of the headers it believes none: the address is the one that Nginx saw.
    """
    agent = request.headers.get("user-agent", "")
    printable = "".join(character for character in agent if character.isprintable())
    return Origin(
        address=request.client.host if request.client else None,
        user_agent=printable[:_LONGEST_USER_AGENT],
        request_id=request.scope.get("state", {}).get("request_id"),
    )


def route_template(scope: Scope) -> str | None:
    """Return the full template of the path that was matched, such as `/api/v1/items/{item_id}`."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    template: str | None = getattr(context, "path_format", None)
    if template is None:
        template = getattr(scope.get("route"), "path_format", None)
    return template
