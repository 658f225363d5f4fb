"""The cookies of a browser's session.

The prefixes make browsers refuse what another host or an unencrypted page has set
(https://www.rfc-editor.org/rfc/rfc6265bis, section 4.1.3).
"""

from fastapi import Response

ACCESS = "__Host-access"
REFRESH = "__Secure-refresh"
CSRF = "__Host-csrf"
CSRF_HEADER = "X-CSRF-Token"
REFRESH_PATH = "/api/v1/auth"


def set_session(  # noqa: PLR0913 - three cookies and how long they live
    response: Response,
    *,
    access: str,
    access_seconds: int,
    refresh: str,
    refresh_seconds: int,
    csrf: str,
) -> None:
    """Give a browser its session; the page's scripts can read the CSRF token alone."""
    _set(response, ACCESS, access, access_seconds)
    _set(response, REFRESH, refresh, refresh_seconds, path=REFRESH_PATH)
    _set(response, CSRF, csrf, refresh_seconds, hidden=False)


def clear_session(response: Response) -> None:
    """Take a browser's session away."""
    _set(response, ACCESS, "", 0)
    _set(response, REFRESH, "", 0, path=REFRESH_PATH)
    _set(response, CSRF, "", 0, hidden=False)
    # What pages have kept of the account goes as well.
    response.headers["Clear-Site-Data"] = '"cache", "storage"'


def _set(  # noqa: PLR0913 - the attributes of a cookie
    response: Response, name: str, value: str, seconds: int, *, path: str = "/", hidden: bool = True
) -> None:
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=path,
        secure=True,
        httponly=hidden,
        samesite="strict",
    )
