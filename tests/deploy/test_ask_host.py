"""What a host answers to a build and to a plan."""

import json
import sys
from pathlib import Path

import pytest

from deploy.artifact.ask_host import ask

PROGRAM = """#!/bin/sh
echo '{"current": "v1.0.0"}'
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    program = tmp_path / "slipway"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (tmp_path / "state").mkdir()
    (tmp_path / "srv/releases/v1.0.0").mkdir(parents=True)
    settings(tmp_path)
    return tmp_path


def settings(host: Path, **more: object) -> None:
    values = {"python": sys.executable, "state": f"{host}/state", "root": f"{host}/srv", **more}
    (host / "quay.json").write_text(json.dumps(values))


def answer(host: Path) -> dict[str, object]:
    return ask("quay", "v1.1.0", host / "quay.json", host / "slipway")


def test_a_host_before_its_first_contract(host: Path) -> None:
    found = answer(host)
    assert found["current"] == "v1.0.0"
    assert found["contracted"] == []
    assert found["restore_point"] is False
    assert found["uv"] == ""


def test_a_host_tells_what_was_run_on_request(host: Path) -> None:
    (host / "state/schema.json").write_text('{"contracted": ["0003", "0007"]}')
    assert answer(host)["contracted"] == ["0003", "0007"]


def test_a_host_tells_whether_it_saves_the_database(host: Path) -> None:
    settings(host, has_restore_point=True)
    assert answer(host)["restore_point"] is True


def test_a_host_tells_the_uv_of_what_is_live(host: Path) -> None:
    target = str(answer(host)["target"])
    uv = "wheels/uv-0.12.1-py3-none-manylinux_2_17_x86_64.whl"
    manifest = {"targets": {target: {"uv": uv}}}
    (host / "srv/releases/v1.0.0/manifest.json").write_text(json.dumps(manifest))
    assert answer(host)["uv"] == "0.12.1"
