"""Access tokens: signed claims (RFC 7519) about who asks and what they may do.

Two keys may be known at a time, so that the signing key can be changed without logging anyone out:
the one that signs, and one more whose tokens are accepted. The header `kid` tells them apart.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jwt

from app.accounts import LARGEST_ID
from app.errors import NotAuthenticatedError
from app.settings import Settings

ALGORITHM = "HS256"
ACCESS = "access"
_REQUIRED = ["sub", "jti", "sid", "iat", "exp", "iss", "aud", "type", "scopes"]
# A token of ours has less than 1 KiB; a header may have more.
_LONGEST = 4096
# How many verified tokens a worker remembers, with some hundred bytes each.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says.

    Attributes:
        user_id: whom the token was given to.
        session_id: the session that it belongs to, with which it ends.
        token_id: the token's own name.
        scopes: what it allows.
    """

    user_id: int
    session_id: int
    token_id: str
    scopes: frozenset[str]


class Tokens:
    """Makes and verifies access tokens with one algorithm, and what else the keys are for."""

    def __init__(self, settings: Settings) -> None:
        accepted = settings.token_accepted_secret
        secrets_ = [settings.token_secret, *([accepted] if accepted else [])]
        # The first one signs.
        self._keys = {_name(key): key for key in (one.get_secret_value() for one in secrets_)}
        self._signing_name = next(iter(self._keys))
        self._issuer = settings.token_issuer
        self._audience = settings.token_audience
        self._leeway = settings.token_leeway
        self.lifetime = settings.access_token_lifetime
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True, "require": _REQUIRED})
        self._verified: dict[bytes, tuple[Claims, int]] = {}

    def create(self, user_id: int, session_id: int, scopes: Sequence[str]) -> str:
        """Return a signed access token for a session of a user."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "jti": secrets.token_hex(16),
            "sid": session_id,
            "iat": now,
            "exp": now + self.lifetime,
            "iss": self._issuer,
            "aud": self._audience,
            "type": ACCESS,
            "scopes": list(scopes),
        }
        name = self._signing_name
        headers = {"kid": name}
        return self._jwt.encode(claims, self._keys[name], algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str) -> Claims:
        """Return what a token says.

        A client sends the same token with each request, so what was decoded is remembered. A
        signature stays good as long as the keys, which are those of the process; the time is looked
        at anew, and whether the session goes on only the database knows.

        Raises:
            NotAuthenticatedError: when it is expired, not ours, or not an access token.
        """
        if len(token) > _LONGEST:
            raise NotAuthenticatedError
        # The hash stands in for the token, so that a dump of the memory shows none.
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._verified.get(name)
        if found is None:
            found = self._decode(token)
            if len(self._verified) >= _REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[name] = found
        claims, expires = found
        if expires <= time.time() - self._leeway:
            self._verified.pop(name, None)
            raise NotAuthenticatedError
        return claims

    def _decode(self, token: str) -> tuple[Claims, int]:
        """Return what a token says and the second in which it expires."""
        try:
            # Only chooses among our own keys; the signature is checked with the chosen one.
            name = jwt.get_unverified_header(token).get("kid")
            claims = self._jwt.decode(
                token,
                self._keys[name if isinstance(name, str) else ""],
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
            )
            return _claims(claims), int(claims["exp"])
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
            raise NotAuthenticatedError from None

    def successors(self, token: str, nonce: bytes) -> list[str]:
        """Return what follows on a refresh token, by the signing key and then by the other one."""
        return [_mac(key, b"refresh", nonce + token.encode()) for key in self._keys.values()]

    def csrf_token(self, session_id: int) -> str:
        """Return what the pages of a session have to repeat in a header of each write."""
        return self._csrf_tokens(session_id)[0]

    def is_csrf_token(self, given: str, session_id: int) -> bool:
        """Say whether a header holds what the pages of a session know."""
        known = [
            hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
            for token in self._csrf_tokens(session_id)
        ]
        return any(known)

    def _csrf_tokens(self, session_id: int) -> list[str]:
        return [_mac(key, b"csrf", str(session_id).encode()) for key in self._keys.values()]


def _name(key: str) -> str:
    """Name a key without telling anything of it."""
    return hashlib.sha256(b"kid:" + key.encode()).hexdigest()[:16]


def _mac(key: str, purpose: bytes, data: bytes) -> str:
    """Return a code for a purpose; each has a key of its own, derived from the one that signs."""
    derived = hmac.digest(key.encode(), b"harbour " + purpose, "sha256")
    return base64.urlsafe_b64encode(hmac.digest(derived, data, "sha256")).rstrip(b"=").decode()


def _claims(claims: dict[str, object]) -> Claims:
    """Return the claims of a token whose signature is good.

    Raises:
        NotAuthenticatedError: when it is no access token.
        TypeError: when a claim is not of its type.
        ValueError: when an id is none that the database could hold.
    """
    scopes, session_id, user_id = claims["scopes"], claims["sid"], int(str(claims["sub"]))
    if claims["type"] != ACCESS:
        raise NotAuthenticatedError
    if not isinstance(scopes, list) or not isinstance(session_id, int):
        raise TypeError
    if not (0 < user_id <= LARGEST_ID and 0 < session_id <= LARGEST_ID):
        raise ValueError
    return Claims(user_id, session_id, str(claims["jti"]), frozenset(scopes))
