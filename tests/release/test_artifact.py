"""Nothing in an artifact decides where anything goes, and nothing unknown or changed comes out."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway_release import manifest
from slipway_release.errors import RefusedError
from slipway_release.unpack import unpack
from tests.release.world import KIND, artifact, describe

TREE = {"app/main.py": "print('hello')\n", "README": "read me\n"}
LINKS = {"tree/docs": "app", "tree/app/again": "../README"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "quay.tar"
    artifact(path, "v1.0.0", TREE, links=LINKS)
    return path


def values(archive: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(manifest.read(archive).text)
    return found


def test_unpacking(archive: Path, tmp_path: Path) -> None:
    release = tmp_path / "v1.0.0"
    unpack(archive, KIND, release, tmp_path / "wheels")
    assert {name: (release / name).read_text() for name in TREE} == TREE
    assert (release / "docs/main.py").read_text() == TREE["app/main.py"]
    assert (release / "app/again").readlink() == Path("../README")
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["uv-0.0.1-py3-none-any.whl"]
    assert manifest.parse((release / "manifest.json").read_text()) == manifest.read(archive)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "tree/../../x", "tree//x", "../x", "tree/.", "tree/x\0y", "tree/docs/x"]
)
def test_a_path_that_leaves_the_release(archive: Path, path: str) -> None:
    changed = values(archive)
    changed["files"][path] = describe(b"")
    with pytest.raises(RefusedError, match="leaves the release"):
        manifest.parse(json.dumps(changed))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("tree/x", "/etc"),
        ("tree/x", ".."),
        ("tree/a/x", "../../y"),
        ("tree/x", "docs/../../y"),
        ("tree/x", ""),
        ("wheels/x", "y"),
    ],
)
def test_a_link_that_leaves_the_release(archive: Path, path: str, target: str) -> None:
    changed = values(archive)
    changed["links"][path] = target
    with pytest.raises(RefusedError, match="leaves the release"):
        manifest.parse(json.dumps(changed))


def newer_format(found: dict[str, Any]) -> None:
    found["format"] = 2


def without_name(found: dict[str, Any]) -> None:
    del found["name"]


def setuid(found: dict[str, Any]) -> None:
    found["files"]["tree/README"]["mode"] = 0o4755


def missing_wheel(found: dict[str, Any]) -> None:
    found["targets"][KIND]["wheels"] = ["wheels/gone.whl"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (newer_format, "has format 2"),
        (without_name, "cannot be read"),
        (setuid, "the mode 4755"),
        (missing_wheel, "lacks wheels/gone.whl"),
    ],
)
def test_a_manifest_that_is_refused(
    archive: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    changed = values(archive)
    change(changed)
    with pytest.raises(RefusedError, match=reason):
        manifest.parse(json.dumps(changed))


def rewrite(archive: Path, name: str, data: bytes | str | None) -> None:
    """Replace or add a member of an artifact, make it a link (a text), or take it away."""
    with tarfile.open(archive) as tar:
        streams = [(member.name, tar.extractfile(member)) for member in tar]
        contents: dict[str, bytes | str | None] = {n: s.read() for n, s in streams if s}
    contents[name] = data
    with tarfile.open(archive, "w") as tar:
        for path, what in contents.items():
            member = tarfile.TarInfo(path)
            if isinstance(what, str):
                member.type, member.linkname = tarfile.SYMTYPE, what
                tar.addfile(member)
            elif what is not None:
                member.size = len(what)
                tar.addfile(member, io.BytesIO(what))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("tree/README", b"changed\n", "differs from its checksum"),
        ("tree/README", None, "lacks tree/README"),
        ("tree/stray", b"x", "does not name"),
        ("tree/README", "/etc/passwd", "does not name"),
        ("manifest.json", None, "does not begin with"),
    ],
)
def test_an_artifact_that_was_changed(
    archive: Path, tmp_path: Path, name: str, data: bytes | str | None, reason: str
) -> None:
    rewrite(archive, name, data)
    with pytest.raises(RefusedError, match=reason):
        unpack(archive, KIND, tmp_path / "release", tmp_path / "wheels")


def test_what_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(RefusedError, match="is not an artifact"):
        manifest.read(tmp_path / "x.tar")


def test_wheels_for_other_hosts_do_not_change_the_digest(archive: Path) -> None:
    changed = values(archive)
    changed["files"]["wheels/more.whl"] = describe(b"more")
    changed["files"][manifest.BILL] = describe(b"another bill, as there is one wheel more")
    changed["targets"]["3.99-riscv"] = changed["targets"][KIND]
    before = manifest.read(archive)
    assert manifest.parse(json.dumps(changed)).digest(KIND) == before.digest(KIND)
    changed["files"]["tree/README"] = describe(b"other")
    assert manifest.parse(json.dumps(changed)).digest(KIND) != before.digest(KIND)
