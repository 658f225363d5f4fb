"""The tests' Redis is as poor as the oldest one that a host may have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.services import NEWER_REDIS_COMMANDS, ROOT, RedisServer

# Options of commands that Redis 6.0 knows without them, in scripts.
NEWER_OPTIONS = {
    "EXPIRE": {"NX", "XX", "GT", "LT"},
    "PEXPIRE": {"NX", "XX", "GT", "LT"},
    "SET": {"GET", "EXAT", "PXAT"},
    "ZADD": {"GT", "LT"},
    "ZRANGE": {"BYSCORE", "BYLEX", "REV", "LIMIT"},
}


def scripts() -> Iterator[tuple[Path, list[str]]]:
    """The calls of the service's scripts: the words of each."""
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and "redis.call(" in str(node.value):
                for call in re.findall(r"redis\.call\((.*)\)", str(node.value)):
                    yield path, re.findall(r"[\"'](\w+)[\"']", call)


@pytest.mark.parametrize("command", ["GETDEL", "GETEX", "COPY"])
def test_it_does_not_know_what_came_later(redis_server: RedisServer, command: str) -> None:
    client = redis.Redis(unix_socket_path=str(redis_server.socket))
    with client, pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command(command, "key")  # type: ignore[no-untyped-call]


def test_no_script_uses_an_option_that_came_later() -> None:
    found = list(scripts())
    assert len({path for path, _ in found}) >= 3
    newer = set(" ".join(NEWER_REDIS_COMMANDS.values()).split())
    for path, (command, *words) in found:
        assert command.upper() not in newer, path
        assert not NEWER_OPTIONS.get(command.upper(), set()) & {one.upper() for one in words}, path
