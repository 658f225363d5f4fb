"""The accounts of the visitors, which stay on the site from one run to the next."""

import secrets
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from deploy.demo.errors import DemoError

# More at once would wait for each other: a site hashes a few passwords at a time.
_AT_ONCE = 4


def password_in(path: Path) -> str:
    """Return the password in a file, which is made when there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"Load-{secrets.token_urlsafe(18)}-7", encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def sign_in(
    url: str, ca: Path | None, addresses: tuple[str, ...], visitors: int, password: str
) -> list[str]:
    """Return an access token for each visitor; who has no account yet gets one.

    Args:
        url: Of the site.
        ca: File of the certificate authorities that it is trusted by; None for the system's.
        addresses: Of this machine, that the visitors come from in turns; empty for the usual one.
        visitors: How many.
        password: Of all of them.

    Raises:
        DemoError: The site cannot be reached or refuses one of them.
    """
    context = ssl.create_default_context(cafile=str(ca) if ca else None)

    def one(number: int) -> str:
        address = addresses[number % len(addresses)] if addresses else None
        transport = httpx.HTTPTransport(verify=context, local_address=address)
        with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
            return _token(client, f"load-visitor-{number}", password)

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(one, range(visitors)))
    except httpx.HTTPError as error:
        raise DemoError(f"{url} cannot be reached: {error}.") from error


def _token(client: httpx.Client, name: str, password: str) -> str:
    form = {"username": name, "password": password}
    answer = client.post("/api/v1/auth/token", data=form)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        account = {**form, "email": f"{name}@example.com"}
        made = client.post("/api/v1/users/register", json=account)
        if made.status_code == httpx.codes.CONFLICT:
            raise DemoError(
                f"{client.base_url} has a user {name} with another password than this clone's: "
                "run it from the clone that made that user."
            )
        if made.status_code != httpx.codes.CREATED:
            raise DemoError(f"{client.base_url} does not register {name}: {_reason(made)}")
        answer = client.post("/api/v1/auth/token", data=form)
    if answer.status_code != httpx.codes.OK:
        raise DemoError(f"{client.base_url} does not let {name} in: {_reason(answer)}")
    return str(answer.json()["access_token"])


def _reason(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:200]}"
