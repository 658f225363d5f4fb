"""The bill of materials of an artifact: what hosts install, in CycloneDX's JSON.

It is the same for the same artifact: its serial number comes from what it says, its time from the
commit.
"""

import dataclasses
import datetime as dt
import uuid
from collections.abc import Iterable, Mapping

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Commit, Component, ComponentType, Pedigree
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.utils import parse_wheel_filename

from deploy.artifact.lock_graph import Graph, Name, read
from deploy.artifact.repository import Tag

NAME = "sbom.cdx.json"

_NONE = uuid.UUID(int=0)
_INSTALLER = "Installs the wheels on the hosts; the service does not import it."


@dataclasses.dataclass(frozen=True)
class Contents:
    """What there is to bill.

    Attributes:
        name: Name of the service.
        tag: What is released.
        wheels: Every wheel of the artifact by its path in it, with its SHA-256.
        uv: The package that installs them.
        lock: The tree's `uv.lock`; None where a `requirements.txt` takes its place, which does
            not tell who needs what.
    """

    name: str
    tag: Tag
    wheels: Mapping[str, str]
    uv: Name
    lock: bytes | None


def make(contents: Contents) -> bytes:
    """Return the bill of materials as JSON.

    Raises:
        ArtifactError: The lock cannot be read.
    """
    wheels = _by_package(contents.wheels)
    packages = {name: _package(name, files) for name, files in wheels.items()}
    if contents.uv in packages:
        packages[contents.uv].description = _INSTALLER
    root = _root(contents)
    graph = _graph(contents, packages)
    bom = Bom(
        serial_number=_NONE,
        components=packages.values(),
        dependencies=[
            _edges(root, [packages[name] for name in graph.direct if name in packages]),
            *(_edges(packages[name], _needed(packages, graph, name)) for name in packages),
        ],
        metadata=BomMetaData(
            component=root,
            timestamp=dt.datetime.fromtimestamp(contents.tag.seconds, dt.UTC),
            lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
            tools=ToolRepository(
                components=[Component(name="slipway", type=ComponentType.APPLICATION)]
            ),
        ),
    )
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"slipway:sbom:{_text(bom)}")
    return f"{_text(bom)}\n".encode()


def _by_package(wheels: Mapping[str, str]) -> dict[Name, dict[str, str]]:
    found: dict[Name, dict[str, str]] = {}
    for path, sha256 in wheels.items():
        name, version, _, _ = parse_wheel_filename(path.rpartition("/")[2])
        found.setdefault(Name(name, str(version)), {})[path] = sha256
    return dict(sorted(found.items()))


def _package(name: Name, wheels: Mapping[str, str]) -> Component:
    purl = PackageURL("pypi", name=name.name, version=name.version)
    return Component(
        name=name.name,
        version=name.version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[_hash(sha256) for sha256 in wheels.values()],
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(path),
                comment="in the artifact",
                hashes=[_hash(sha256)],
            )
            for path, sha256 in wheels.items()
        ],
    )


def _root(contents: Contents) -> Component:
    tag = contents.tag
    return Component(
        name=contents.name,
        version=tag.name,
        type=ComponentType.APPLICATION,
        bom_ref=f"{contents.name}@{tag.name}",
        pedigree=Pedigree(commits=[Commit(uid=tag.commit)]),
        properties=[
            Property(name="slipway:git:commit", value=tag.commit),
            Property(name="slipway:git:tag", value=tag.identity),
        ],
    )


def _graph(contents: Contents, packages: Mapping[Name, Component]) -> Graph:
    if contents.lock is not None:
        return read(contents.lock)
    return Graph(frozenset(packages) - {contents.uv}, {})


def _needed(packages: Mapping[Name, Component], graph: Graph, name: Name) -> list[Component]:
    """Return what a package needs on these hosts; a lock has what other systems need as well."""
    return [packages[other] for other in graph.needs.get(name, ()) if other in packages]


def _edges(component: Component, needed: Iterable[Component]) -> Dependency:
    return Dependency(component.bom_ref, [Dependency(other.bom_ref) for other in needed])


def _hash(sha256: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=sha256)


def _text(bom: Bom) -> str:
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
