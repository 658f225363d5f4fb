"""Access tokens: signed claims (RFC 7519) about who asks and what they may do."""

import secrets
import time
from dataclasses import dataclass

import jwt

from app.errors import NotAuthenticatedError
from app.settings import Settings

ALGORITHM = "HS256"
ACCESS = "access"
_REQUIRED = ["sub", "jti", "iat", "exp", "iss", "aud", "type", "scopes"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says.

    Attributes:
        user_id: whom the token was given to.
        token_id: the token's own name, by which it can be revoked.
        scopes: what it allows.
    """

    user_id: int
    token_id: str
    scopes: frozenset[str]


class Tokens:
    """Makes and verifies access tokens with one key and one algorithm."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.token_secret.get_secret_value()
        self._issuer = settings.token_issuer
        self._audience = settings.token_audience
        self.lifetime = settings.access_token_lifetime
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True, "require": _REQUIRED})

    def create(self, user_id: int, scopes: tuple[str, ...]) -> str:
        """Return a signed access token for a user."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "jti": secrets.token_hex(16),
            "iat": now,
            "exp": now + self.lifetime,
            "iss": self._issuer,
            "aud": self._audience,
            "type": ACCESS,
            "scopes": list(scopes),
        }
        return self._jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def verify(self, token: str) -> Claims:
        """Return what a token says.

        Raises:
            NotAuthenticatedError: when it is expired, not ours, or not an access token.
        """
        try:
            claims = self._jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
            )
            if claims["type"] != ACCESS:
                raise NotAuthenticatedError
            return Claims(int(claims["sub"]), claims["jti"], frozenset(claims["scopes"]))
        except (jwt.InvalidTokenError, ValueError, TypeError):
            raise NotAuthenticatedError from None
