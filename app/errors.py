"""What can go wrong, in the words of the domain.

Services raise these; `app.error_handlers` alone turns them into answers. Each class carries a
stable code for programs and a sentence for people.
"""

from typing import ClassVar


class ServiceError(Exception):
    """A failure that the caller can understand and act on.

    Attributes:
        code: stable name in snake_case; clients may compare it.
        message: a sentence for people, without anything secret.
    """

    code: ClassVar[str] = "error"
    message: str = "The request could not be carried out."

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class BadRequestError(ServiceError):
    """The request makes no sense as it is."""

    code = "bad_request"
    message = "The request makes no sense as it is."


class NotFoundError(ServiceError):
    """The thing asked for does not exist."""

    code = "not_found"
    message = "There is nothing at this address."


class NotAuthenticatedError(ServiceError):
    """The request carries no valid proof of who is asking."""

    code = "not_authenticated"
    message = "Could not validate credentials"


class InvalidCredentialsError(NotAuthenticatedError):
    """A login that failed; the answer is the same for every reason."""

    code = "invalid_credentials"
    message = "Incorrect username or password"


class ForbiddenError(ServiceError):
    """The caller is known and may not do this."""

    code = "forbidden"
    message = "You may not do this."


class InsufficientScopeError(ForbiddenError):
    """The token was not granted a scope that the operation needs.

    Attributes:
        scope: the scope that is missing.
    """

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"The token does not carry the scope {scope}.")


class SessionNeededError(ForbiddenError):
    """An API key was used for what could take over its account."""

    code = "session_needed"
    message = "An API key may not do this: log in with the password."


class IncorrectPasswordError(ForbiddenError):
    """The current password, which somebody who is logged in has to repeat, is wrong."""

    code = "incorrect_password"
    message = "The current password is wrong, or was wrong too often: wait before you try again."


class CsrfError(ForbiddenError):
    """A request with a cookie does not prove that one of our own pages has made it."""

    code = "csrf_failed"
    message = "The request carries a cookie, but not the session's CSRF token in X-CSRF-Token."


class ConflictError(ServiceError):
    """The request contradicts what is already stored."""

    code = "conflict"
    message = "The request contradicts what is already stored."


class TooSlowError(ServiceError):
    """The body of a request comes in more slowly than it may."""

    code = "request_timeout"
    message = "The body of the request came in too slowly: nothing of it was kept."


class TooLargeError(ServiceError):
    """Something is larger than it may be at all."""

    code = "payload_too_large"
    message = "It is larger than it may be."


class PreconditionFailedError(ServiceError):
    """Somebody has changed the thing since the caller has read it."""

    code = "precondition_failed"
    message = "It was changed meanwhile: read it again, and decide anew."


class InvalidInputError(ServiceError):
    """A field holds a value that the rules of the domain refuse.

    Attributes:
        field: the name of the field in the request body.
    """

    code = "validation_error"

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class RateLimitedError(ServiceError):
    """The caller asked too often.

    Attributes:
        limit: how many requests one window allows.
        remaining: how many are left in it.
        reset_after: seconds until the window is over, at least 1.
    """

    code = "rate_limited"
    message = "Too many requests: wait a little before you try again."

    def __init__(self, limit: int, remaining: int, reset_after: int) -> None:
        self.limit = limit
        self.remaining = remaining
        self.reset_after = reset_after
        super().__init__()


class UnavailableError(ServiceError):
    """Something that the service needs does not answer at the moment."""

    code = "unavailable"
    message = "The service cannot answer at the moment: try again in a few seconds."


class StorageFullError(ServiceError):
    """There is no room left to keep something in."""

    code = "storage_full"
    message = "There is no room for this at the moment: nothing of it was kept."


class SettingsError(Exception):
    """The settings are missing or wrong; the message is one sentence that says which."""
