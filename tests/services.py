"""Real servers for tests: PostgreSQL and Redis (or Valkey), each in a folder of its own."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import stopped

ROOT = Path(__file__).resolve().parents[1]
OWNER, SERVICE = "harbour_owner", "harbour"
START_TIMEOUT = 30.0
# Commands that the oldest server of a supported system, Redis 6.0 of Ubuntu 22.04, does not know,
# by the version that has brought them.
NEWER_REDIS_COMMANDS = {
    (6, 2): (
        "BLMOVE COPY FAILOVER GEOSEARCH GEOSEARCHSTORE GETDEL GETEX HRANDFIELD LMOVE RESET"
        " SMISMEMBER XAUTOCLAIM ZDIFF ZDIFFSTORE ZINTER ZMSCORE ZRANDMEMBER ZRANGESTORE ZUNION"
    ),
    (7, 0): (
        "BLMPOP BZMPOP EVAL_RO EVALSHA_RO EXPIRETIME FCALL FCALL_RO FUNCTION LCS LMPOP PEXPIRETIME"
        " SINTERCARD SORT_RO SPUBLISH SSUBSCRIBE SUNSUBSCRIBE ZINTERCARD ZMPOP"
    ),
}


class MissingProgramError(Exception):
    """A server that the tests need is not installed."""


def _postgresql_programs() -> Path:
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    if folders:
        return folders[-1]
    found = shutil.which("initdb")
    if found is None:
        raise MissingProgramError("These tests need PostgreSQL: apt-get install postgresql")
    return Path(found).parent


def _redis_program() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    raise MissingProgramError("These tests need Redis or Valkey: apt-get install redis-server")


@dataclass(frozen=True)
class PostgreSQL:
    """A running cluster; its superuser is `postgres`."""

    programs: Path
    folder: Path

    def url(self, database: str, role: str = SERVICE) -> str:
        """Return the URL that the service's settings take."""
        return f"postgresql+asyncpg://{role}@/{database}?host={self.folder}"

    def execute(self, sql: str, database: str = "postgres", role: str = "postgres") -> str:
        """Run statements with psql, and return what it prints."""
        command = [str(self.programs / "psql"), "-h", str(self.folder), "-U", role, "-d", database]
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]
        result = subprocess.run(
            [*command, *options], check=True, capture_output=True, text=True, timeout=30
        )
        return result.stdout.strip()

    def create_database(self, name: str) -> str:
        """Make a database as the roles of the kit do: one role owns it, another serves."""
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0")
        for kind, rights in (
            ("TABLES", "SELECT, INSERT, UPDATE, DELETE"),
            ("SEQUENCES", "USAGE, SELECT"),
        ):
            self.execute(
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT {rights} ON {kind} TO {SERVICE}",
                name,
            )
        return name


@contextlib.contextmanager
def running_postgresql(connections: int = 60) -> Iterator[PostgreSQL]:
    """Run a cluster that keeps nothing safe, only for as long as the tests last."""
    programs = _postgresql_programs()
    # initdb refuses to work for root.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    choices = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
    subprocess.run(
        [programs / "initdb", "-D", data, *choices],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
        timeout=60,
    )
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": str(connections),
    }
    arguments = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *arguments],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
        )
    try:
        _wait(server, [str(programs / "pg_isready"), "-h", str(folder), "-q"], folder / "log")
        cluster = PostgreSQL(programs, folder)
        for role in (OWNER, SERVICE):
            cluster.execute(f"CREATE ROLE {role} LOGIN")
        yield cluster
    finally:
        # SIGINT is the fast shutdown: it ends the sessions.
        _end(server, signal.SIGINT)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class RedisServer:
    """A running server on a Unix socket."""

    process: "subprocess.Popen[bytes]"
    socket: Path

    @property
    def url(self) -> str:
        """Return the URL that the service's settings take."""
        return f"unix://{self.socket}"

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Freeze the server: it accepts connections and answers nothing."""
        return stopped(self.process)

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kill the server; then another one, which knows nothing, is in its place."""
        self.process.kill()
        self.process.wait()
        try:
            yield
        finally:
            self.process = subprocess.Popen(
                self.process.args,
                cwd=self.socket.parent,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


def _commands_of_the_oldest(program: str) -> Iterator[str]:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"v=(\d+)\.(\d+)", said.stdout)
    assert found, said.stdout
    version = int(found[1]), int(found[2])
    for since, names in NEWER_REDIS_COMMANDS.items():
        if version >= since:
            for name in names.split():
                yield from ("--rename-command", name, "")


@contextlib.contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    """Run a server that keeps nothing, and knows no command that the oldest one does not."""
    program = _redis_program()
    options = (*_commands_of_the_oldest(program), *options)
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    socket = folder / "socket"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", socket, "--save", "", *options],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    running = RedisServer(server, socket)
    try:
        _wait(server, ["test", "-S", str(socket)], folder / "log")
        yield running
    finally:
        _end(running.process, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: "subprocess.Popen[bytes]", probe: list[str], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while subprocess.run(probe, check=False, capture_output=True).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            message = f"The server did not start: {log.read_text(errors='replace')[-2000:]}"
            raise RuntimeError(message)
        time.sleep(0.05)


def _end(server: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    server.send_signal(how)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def alembic(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Alembic as a release does, with nothing but the database's URL in its settings."""
    return python_module("alembic", *arguments, APP_ENVIRONMENT="production", APP_DATABASE_URL=url)


def python_module(
    name: str, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a module of this repository with nothing in its environment but what is said."""
    return subprocess.run(
        [sys.executable, "-m", name, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
