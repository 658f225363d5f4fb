#!/usr/bin/python3 -I
"""Save a PostgreSQL database before its schema changes.

`slipway_dump.py VARIABLE CREDENTIAL size` writes the size of the database, in bytes, into the file
`$STATE_DIRECTORY/size`. `slipway_dump.py VARIABLE CREDENTIAL v1.4.2` writes the dump
`$STATE_DIRECTORY/v1.4.2-<time>.dump`, which appears when it is whole and can be read back.

VARIABLE names the environment variable with the URL of the database, as libpq or SQLAlchemy takes
it; CREDENTIAL the file in `$CREDENTIALS_DIRECTORY` with the password, where there is one. The
password reaches the programs of PostgreSQL by a file that only they can read.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

# Of the parameters of a URL, those that lead to a server (libpq, "Parameter Key Words").
_PARAMETERS = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "ssl": "PGSSLMODE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
# asyncpg takes a truth value as well.
_SSL_MODES = {"true": "verify-full", "1": "verify-full", "false": "disable", "0": "disable"}
_PROGRAMS = Path("/usr/lib/postgresql")
_SIZE_QUESTION = "SELECT pg_database_size(current_database())"


class DumpError(Exception):
    """Why the database was not saved, in a sentence."""


def connection(url: str) -> tuple[dict[str, str], str]:
    """Turn a URL into the variables of libpq, and the password that it holds, '' for none.

    Raises:
        DumpError: It is not the URL of a PostgreSQL database.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DumpError(f"The URL of the database cannot be read: {error}.") from error
    if parts.scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise DumpError(
            f"The URL of the database begins with {parts.scheme!r}: only postgresql:// is saved."
        )
    said = {
        "PGHOST": unquote(parts.hostname or ""),
        "PGPORT": str(port or ""),
        "PGUSER": unquote(parts.username or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }
    password = unquote(parts.password or "")
    for name, value in parse_qsl(parts.query):
        if name == "password":
            password = value
        elif name in _PARAMETERS:
            said[_PARAMETERS[name]] = _SSL_MODES.get(value, value) if name == "ssl" else value
    if not said["PGDATABASE"]:
        raise DumpError("The URL of the database names no database.")
    return {name: value for name, value in said.items() if value}, password


def environment(variable: str, credential: str, private: Path) -> dict[str, str]:
    """Return the environment of the programs of PostgreSQL.

    Args:
        variable: Names the variable with the URL.
        credential: Names the file with the password.
        private: A folder that nobody else can read.

    Raises:
        DumpError: The URL is missing or wrong.
    """
    url = os.environ.get(variable, "")
    if not url:
        raise DumpError(f"{variable} is not set: it must hold the URL of the database.")
    variables, password = connection(url)
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", private), credential)
    if path.is_file():
        password = path.read_text(encoding="utf-8").rstrip("\n")
    if password:
        file = private / "pgpass"
        file.touch(mode=0o600)
        escaped = re.sub(r"([\\:])", r"\\\1", password)
        file.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
        variables["PGPASSFILE"] = str(file)
    # Over TLS libpq would look for a certificate in the home folder, which this user may not enter.
    missing = {"HOME": str(private), "PGSSLCERT": str(private / "none")}
    locale = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    return {**locale, **missing, "PGCONNECT_TIMEOUT": "15", **variables}


def program(name: str) -> str:
    """Return the newest program of PostgreSQL here: an older one refuses a newer server."""
    found = [path for path in _PROGRAMS.glob(f"*/bin/{name}") if path.parts[-3].isdigit()]
    return str(max(found, key=lambda path: int(path.parts[-3]))) if found else name


def run(arguments: list[str], variables: Mapping[str, str]) -> str:
    """Run a program of PostgreSQL and return what it printed.

    Raises:
        DumpError: It failed, or is not there.
    """
    try:
        answer = subprocess.run(
            [program(arguments[0]), *arguments[1:]],
            check=False,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise DumpError(
            f"There is no {arguments[0]} on this host: install postgresql-client, of the version "
            f"of the server or a later one (app_packages)."
        ) from error
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        raise DumpError(f"{arguments[0]} failed: {' '.join(lines[-5:])}")
    return answer.stdout


def write_size(folder: Path, variables: Mapping[str, str]) -> str:
    """Write the size of the database, which a dump hardly ever reaches."""
    question = ["psql", "--no-psqlrc", "--no-password", "--tuples-only", "--no-align"]
    number = int(run([*question, f"--command={_SIZE_QUESTION}"], variables))
    (folder / "size").write_text(f"{number}\n", encoding="ascii")
    return f"The database takes {number} bytes."


def write_dump(folder: Path, version: str, variables: Mapping[str, str]) -> str:
    """Write a dump that appears under its name when it is whole, on the disk, and readable."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = folder / f"{version}-{now}.dump"
    for left in folder.glob("*.part"):
        left.unlink()
    part = path.with_suffix(".part")
    try:
        # A lock that is held for long must not hold up a release for as long.
        wait = ("--no-password", "--lock-wait-timeout=30s")
        run(["pg_dump", "--format=custom", *wait, f"--file={part}"], variables)
        run(["pg_restore", "--list", str(part)], variables)
        for place in (part, folder):
            _sync(place)
        part.rename(path)
        _sync(folder)
    finally:
        part.unlink(missing_ok=True)
    return f"Saved as {path}, {path.stat().st_size} bytes."


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    """Do what is asked for; what is wrong goes to standard error, in a sentence."""
    os.umask(0o077)
    try:
        variable, credential, what = arguments
        folder = Path(os.environ["STATE_DIRECTORY"])
        with tempfile.TemporaryDirectory() as private:
            variables = environment(variable, credential, Path(private))
            if what == "size":
                said = write_size(folder, variables)
            else:
                said = write_dump(folder, what, variables)
    except (ValueError, LookupError) as error:
        sys.stderr.write(f"{__doc__ or ''}\n{error!r}\n")
        return 2
    except (DumpError, OSError) as error:
        sys.stderr.write(f"The database was not saved: {str(error).rstrip('.')}.\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
