"""Random tokens that are handed out once and stored as a hash only."""

import hashlib
import secrets

# 256 bits: a hash without a salt and without stretching is enough, because nobody can guess them.
_BYTES = 32


def new_token(prefix: str = "") -> str:
    """Return a token that nobody can guess; its prefix lets scanners recognize one that leaked."""
    return prefix + secrets.token_urlsafe(_BYTES)


def hash_token(token: str) -> bytes:
    """Return what is stored of a token: its SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
