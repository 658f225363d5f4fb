"""The bill of materials of an artifact: all that hosts install, the same each time."""

import datetime as dt
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.artifact import requirements
from deploy.artifact.errors import ArtifactError
from deploy.artifact.lock_graph import Name, read
from slipway_release.unpack import unpack
from tests.deploy.test_artifact import ROOT, Captured, Workshop, built, git, wheel, workshop

__all__ = ["workshop"]

PROJECT = """
[project]
name = "quay"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["mast[flag]"]
"""

LOCK = """
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "cloth"
version = "3.1"
{cloth}

[[package]]
name = "mast"
version = "1.0"
{mast}
dependencies = [{{ name = "rope" }}]

[package.optional-dependencies]
flag = [{{ name = "cloth" }}]

[[package]]
name = "needle"
version = "9.0"
{needle}

[[package]]
name = "quay"
version = "0.1.0"
source = {{ virtual = "." }}
dependencies = [{{ name = "mast", extra = ["flag"] }}]

[package.dev-dependencies]
dev = [{{ name = "needle" }}]

[package.metadata]
requires-dist = [{{ name = "mast", extras = ["flag"] }}]

[package.metadata.requires-dev]
dev = [{{ name = "needle" }}]

[[package]]
name = "rope"
version = "2.0"
{rope}
"""


def source(index: Path, name: str) -> str:
    sha256 = wheel(index, name, "py3-none-any").strip().partition("--hash=")[2]
    url = f"https://files.test/{name}-py3-none-any.whl"
    return (
        'source = { registry = "https://index.test/simple" }\n'
        f'wheels = [{{ url = "{url}", hash = "{sha256}" }}]'
    )


def locked(workshop: Workshop) -> None:
    names = {
        name.partition("-")[0]: name for name in ("mast-1.0", "rope-2.0", "cloth-3.1", "needle-9.0")
    }
    sources = {short: source(workshop.index, name) for short, name in names.items()}
    git(workshop.repository, "rm", "-q", "requirements.txt")
    workshop.commit({"pyproject.toml": PROJECT, "uv.lock": LOCK.format(**sources)})
    workshop.tag()


def bill(artifact: dict[str, str]) -> dict[str, Any]:
    path = Path(artifact["path"])
    text = path.with_suffix(".cdx.json").read_text()
    with tarfile.open(path) as tar:
        member = tar.extractfile("sbom.cdx.json")
        assert member is not None
        assert member.read().decode() == text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_it_lists_what_hosts_install_and_who_needs_it(
    workshop: Workshop, capsys: Captured, tmp_path: Path
) -> None:
    locked(workshop)
    artifact = built(capsys, workshop.arguments())
    found = bill(artifact)
    root = found["metadata"]["component"]
    assert (root["type"], root["name"], root["version"]) == ("application", "quay", "v1.0.0")
    assert root["pedigree"]["commits"] == [{"uid": artifact["commit"]}]
    with tarfile.open(artifact["path"]) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    wheels = {p: f["sha256"] for p, f in manifest["files"].items() if p.endswith(".whl")}
    assert {
        (reference["url"], reference["hashes"][0]["alg"], reference["hashes"][0]["content"])
        for component in found["components"]
        for reference in component["externalReferences"]
    } == {(path, "SHA-256", sha256) for path, sha256 in wheels.items()}
    purls = {component["purl"]: component["hashes"] for component in found["components"]}
    assert set(purls) == {
        *("pkg:pypi/cloth@3.1", "pkg:pypi/mast@1.0", "pkg:pypi/rope@2.0"),
        "pkg:pypi/uv@0.13.0",
    }
    assert all(len(hashes) == 1 for hashes in purls.values())
    edges = {one["ref"]: one.get("dependsOn", []) for one in found["dependencies"]}
    assert edges[root["bom-ref"]] == ["pkg:pypi/mast@1.0"]
    assert edges["pkg:pypi/mast@1.0"] == ["pkg:pypi/cloth@3.1", "pkg:pypi/rope@2.0"]
    assert edges["pkg:pypi/rope@2.0"] == []
    release = tmp_path / "release"
    unpack(Path(artifact["path"]), "3.11-x86_64", release, tmp_path / "unpacked")
    assert json.loads((release / "sbom.cdx.json").read_text()) == found


def test_it_is_the_same_twice_and_another_for_another_commit(
    workshop: Workshop, capsys: Captured
) -> None:
    locked(workshop)
    first = built(capsys, workshop.arguments())
    path = Path(first["path"]).with_suffix(".cdx.json")
    contents = path.read_bytes()
    path.unlink()
    assert built(capsys, workshop.arguments()) == first
    assert path.read_bytes() == contents
    before = bill(first)
    seconds = git(workshop.repository, "show", "-s", "--format=%ct", "v1.0.0^{commit}")
    time = dt.datetime.fromisoformat(before["metadata"]["timestamp"])
    assert time.timestamp() == int(seconds)
    workshop.commit({"quay/main.py": "print('land')\n"})
    workshop.tag("v1.0.1")
    assert (
        bill(built(capsys, workshop.arguments("v1.0.1")))["serialNumber"] != before["serialNumber"]
    )


def test_a_list_of_requirements_has_all_wheels_of_all_targets(
    workshop: Workshop, capsys: Captured
) -> None:
    lines = [
        wheel(workshop.index, "hull-1.0", f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64")
        for minor in (11, 13)
    ]
    hashes = " ".join(line.split()[1] for line in lines)
    workshop.commit({"requirements.txt": f"hull==1.0 {hashes}\n"})
    workshop.tag()
    found = bill(built(capsys, workshop.arguments("v1.0.0", "--target=3.13-x86_64")))
    (hull,) = [one for one in found["components"] if one["name"] == "hull"]
    assert {one["content"] for one in hull["hashes"]} == {
        one.removeprefix("--hash=sha256:") for one in hashes.split()
    }
    edges = {one["ref"]: one.get("dependsOn", []) for one in found["dependencies"]}
    assert edges[found["metadata"]["component"]["bom-ref"]] == ["pkg:pypi/hull@1.0"]


def test_the_bills_of_old_artifacts_go_with_them(workshop: Workshop, capsys: Captured) -> None:
    for number in range(7):
        workshop.tag(f"v1.0.{number}")
        built(capsys, workshop.arguments(f"v1.0.{number}"))
    artifacts = {path.with_suffix(".cdx.json") for path in workshop.output.glob("*.tar")}
    assert set(workshop.output.glob("*.cdx.json")) == artifacts


def test_the_graph_of_the_shipped_lock_reaches_every_pin() -> None:
    names = ("uv.lock", "pyproject.toml")
    files = {name: (ROOT / name).read_bytes() for name in names}
    graph = read(files["uv.lock"])
    reached = graph.direct.union(*graph.needs.values())
    pins = {Name.of(pin.name, pin.version) for pin in requirements.of_tree(files)}
    assert pins <= reached
    assert not any(name.name in {"pytest", "ansible"} for name in reached)


@pytest.mark.parametrize("lock", [b"\xff", b"package = 1", b"[[package]]\nsource = {}\n"])
def test_a_lock_that_is_none_is_refused(lock: bytes) -> None:
    if b"source" in lock:
        lock = lock.replace(b"{}", b'{ virtual = "." }')
    with pytest.raises(ArtifactError, match=r"uv\.lock cannot be read"):
        read(lock)
