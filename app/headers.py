"""The headers that every answer has."""

from starlette.types import Message

# HSTS is missing on purpose: Nginx, which ends TLS, sets it once.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
# What is not said to be kept must not be: most answers are about one account.
_USUAL = [(b"cache-control", b"no-store"), *_HEADERS]
_USUAL_NAMES = frozenset(name for name, _ in _USUAL)


def with_usual(message: Message, request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer, and those that every answer has."""
    headers = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
    headers.append((b"x-request-id", request_id.encode()))
    said = _USUAL_NAMES.intersection(name for name, _ in headers)
    headers += [pair for pair in _USUAL if pair[0] not in said] if said else _USUAL
    return headers
