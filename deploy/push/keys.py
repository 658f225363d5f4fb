"""The keys that may push, as lines of an authorized_keys file (sshd(8))."""

import re
import shlex
from pathlib import Path

from deploy.push.errors import PushError

_KEY = re.compile(r"((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+) ([A-Za-z0-9+/]{40,}={0,3}) (\S+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


def authorized_keys(keys: Path, program: str) -> str:
    """Return an authorized_keys file whose keys can run one program alone.

    Args:
        keys: File of public keys, one a line, each with a name of its own as its comment.
        program: What sshd runs for them; gets the name of the key as `--key=NAME`.

    Raises:
        PushError: The file cannot be read, or a line of it is no such key.
    """
    try:
        lines = [line.strip() for line in keys.read_text().splitlines()]
    except OSError as error:
        raise PushError(
            f"The public keys that may push cannot be read: {keys}: {error.strerror}."
        ) from error
    text, names = "", set()
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        found = _KEY.fullmatch(line)
        if found is None or _NAME.fullmatch(found[3]) is None:
            raise PushError(
                f"{keys}, line {number}: not `TYPE KEY NAME` of a public key (ssh-keygen(1)); "
                f"NAME is kept with each release, and options are not taken."
            )
        if found[3] in names:
            raise PushError(f"{keys}, line {number}: {found[3]} names another key already.")
        names.add(found[3])
        command = f"{program} --key={shlex.quote(found[3])}".replace('"', '\\"')
        text += f'restrict,command="{command}" {line}\n'
    if not names:
        raise PushError(f"{keys} has no public key: nobody could push.")
    return text
