"""What the pipelines call: a build without hosts, an artifact that is given, files with secrets."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.artifact.ask_host import _QUESTION
from tests.deploy.test_artifact import ROOT, Workshop, git
from tests.deploy.test_artifact_plays import Fleet

HOSTS = """
all:
  vars: {{app_name: quay, app_asgi: 'main:app', tls_domains: [quay.test], tls_email: a@quay.test,
          release_repository: {repository}, release_allowed_signers: {signers}}}
app: {{hosts: {{web1: {{ansible_host: 127.0.0.1, ansible_port: 1}}}}}}
"""


def environment(**more: str) -> dict[str, str]:
    """The operator's, without what the `make` above this test run tells its own children."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    return {**kept, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_RETRIES": "0", "COLUMNS": "400", **more}


def make(*arguments: str, **variables: str) -> tuple[int, str]:
    answer = subprocess.run(
        ["make", "-C", str(ROOT), *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("pipeline"))
    made.tag("v1.0.0")
    made.commit({"quay/main.py": "print('land')\n"})
    made.tag("v1.1.0-rc.1")
    return made


class Built:
    """An artifact that `make artifact` wrote, and what it said."""

    def __init__(self, workshop: Workshop, folder: Path, targets: str, version: str) -> None:
        self.facts = folder / "facts.env"
        links = f"{os.environ.get('PIP_FIND_LINKS', '')} {workshop.index}"
        self.status, self.output = make(
            "artifact",
            VERSION=version,
            TARGETS=targets,
            NAME="quay",
            REPOSITORY=str(workshop.repository),
            SIGNERS=str(workshop.signers),
            OUTPUT=str(folder / "dist"),
            FACTS=str(self.facts),
            PIP_FIND_LINKS=links,
        )

    @property
    def path(self) -> Path:
        (path,) = (self.facts.parent / "dist").glob("*.tar")
        return path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def built(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Built:
    made = Built(workshop, tmp_path_factory.mktemp("one"), "3.11-x86_64 3.13-x86_64", "v1.1.0-rc.1")
    assert made.status == 0, made.output
    return made


def test_a_build_touches_no_host_and_is_the_same_twice(
    workshop: Workshop, built: Built, tmp_path: Path
) -> None:
    again = Built(workshop, tmp_path, "3.13-x86_64 3.11-x86_64", "v1.1.0-rc.1")
    assert again.status == 0, again.output
    assert again.path.read_bytes() == built.path.read_bytes()
    assert f"{built.sha256}  {built.path}" in built.output.splitlines()
    lines = [f"artifact_file={built.path.name}", f"artifact_sha256={built.sha256}"]
    assert built.facts.read_text().splitlines() == lines
    with tarfile.open(built.path) as tar:
        names = tar.getnames()
    assert {"requirements/3.11-x86_64.txt", "requirements/3.13-x86_64.txt"} <= {*names}


@pytest.mark.parametrize(
    ("version", "targets", "said"),
    [
        ("v1.1", "3.11-x86_64", "Say which version"),
        ("v2.0.0", "3.11-x86_64", "There is no tag v2.0.0"),
        ("v1.0.0", "3.11", "'3.11' is not a target: use one such as 3.11-x86_64"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(
    workshop: Workshop, tmp_path: Path, version: str, targets: str, said: str
) -> None:
    refused = Built(workshop, tmp_path, targets, version)
    assert refused.status != 0
    assert said in refused.output
    assert not refused.facts.exists()


def release(workshop: Workshop, version: str, artifact: Path | str, sha256: str, *more: str) -> str:
    """Say what a release tells that must never reach its host, where nobody answers."""
    inventory = workshop.folder / "hosts.yml"
    text = HOSTS.format(repository=workshop.repository, signers=workshop.signers)
    inventory.write_text(text)
    variables = {"ARTIFACT": str(artifact), "SHA256": sha256, "INVENTORY": str(inventory)}
    status, output = make("release", *more, VERSION=version, **variables)
    assert status != 0
    assert "Traceback" not in output
    return " ".join(output.split())


@pytest.mark.parametrize("arguments", [(), ("ARGS=--check",)])
def test_only_what_was_built_comes_near_a_host(
    workshop: Workshop, built: Built, arguments: tuple[str, ...]
) -> None:
    version, path, sha256 = "v1.1.0-rc.1", built.path, built.sha256
    refusals: dict[str, tuple[str, Path | str, str]] = {
        "asked for: it is not the file that was built": (version, path, "0" * 64),
        "say the SHA-256 that `make artifact` printed": (version, path, ""),
        f"{path} is v1.1.0-rc.1, and v1.0.0 is asked for": ("v1.0.0", path, sha256),
        "lost.tar: build it with `make artifact`": (version, path.with_name("lost.tar"), sha256),
        "There is no artifact .:": (version, "", sha256),
    }
    for said, (asked, file, checksum) in refusals.items():
        output = release(workshop, asked, file, checksum, *arguments)
        assert said in output
        assert "cannot be reached" not in output
    output = release(workshop, version, path, sha256, *arguments)
    assert "web1 cannot be reached" in output


def test_a_file_with_the_right_checksum_can_still_be_wrong(
    workshop: Workshop, built: Built, tmp_path: Path
) -> None:
    stray = tmp_path / "stray.tar"
    stray.write_text("no tar at all")
    sha256 = hashlib.sha256(stray.read_bytes()).hexdigest()
    assert "is no artifact" in release(workshop, "v1.0.0", stray, sha256)
    with tarfile.open(stray, "w") as tar:
        tar.add(workshop.signers, "manifest.json.txt")
    sha256 = hashlib.sha256(stray.read_bytes()).hexdigest()
    assert "has no manifest of format 1" in release(workshop, "v1.0.0", stray, sha256)


def test_the_tag_must_be_the_one_that_was_built_and_signed(
    workshop: Workshop, built: Built, tmp_path: Path
) -> None:
    version, path, sha256 = "v1.1.0-rc.1", built.path, built.sha256
    kept = workshop.signers.read_text()
    workshop.make_key(tmp_path / "other")
    public = (tmp_path / "other.pub").read_text()
    workshop.signers.write_text(f'else@quay.test namespaces="git" {public}')
    try:
        output = release(workshop, version, path, sha256)
    finally:
        workshop.signers.write_text(kept)
    assert "is not signed by a key of" in output
    identity = git(workshop.repository, "rev-parse", f"refs/tags/{version}")
    git(workshop.repository, "tag", "-d", version)
    workshop.tag(version, "-s", "--no-sign", "-s", "-m", "again")
    try:
        output = release(workshop, version, path, sha256)
    finally:
        git(workshop.repository, "update-ref", f"refs/tags/{version}", identity)
    assert "was built of another tag v1.1.0-rc.1" in output


def test_who_may_sign_is_what_the_pipeline_was_given(workshop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    wanted = {
        "VERSION": "v1.0.0",
        "CREDENTIALS": str(folder),
        "REPOSITORY": str(workshop.repository),
    }
    status, output = make("verify", **wanted)
    assert status != 0
    assert f"The file of allowed signers {folder}/allowed_signers is not there" in output
    folder.mkdir()
    shutil.copy(workshop.signers, folder / "allowed_signers")
    assert make("verify", **wanted)[0] == 0
    (folder / "allowed_signers").write_text("")
    status, output = make("verify", **wanted)
    assert status != 0
    assert "is not signed by a key of" in output


@pytest.fixture
def fleet(workshop: Workshop) -> Fleet:
    trial = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if shutil.which("unshare") is None or subprocess.run(trial, check=False).returncode:
        pytest.skip("this machine lets nobody make name spaces")
    shutil.rmtree(workshop.folder / "fleet", ignore_errors=True)
    made = Fleet(workshop)
    made.put(web1="v1.0.0", web2="v1.0.0")
    return made


def given(path: Path, sha256: str) -> list[str]:
    return ["-e", f"release_artifact={path}", "-e", f"release_artifact_sha256={sha256}"]


def test_hosts_get_the_bytes_that_were_built(
    workshop: Workshop, fleet: Fleet, tmp_path: Path
) -> None:
    asked = subprocess.check_output(["/usr/bin/python3", "-c", _QUESTION], text=True)
    made = Built(workshop, tmp_path, asked.strip(), "v1.1.0-rc.1")
    assert made.status == 0, made.output
    arguments = given(made.path, made.sha256)
    status, output = fleet.release("v1.1.0-rc.1", *arguments, "--check")
    assert status == 0, output
    assert "web1, web2: v1.0.0 → v1.1.0-rc.1 (upgrade)" in output
    assert fleet.live() == ["v1.0.0", "v1.0.0"]
    status, output = fleet.release("v1.1.0-rc.1", *arguments)
    assert status == 0, output
    assert fleet.live() == ["v1.1.0-rc.1", "v1.1.0-rc.1"]
    for host in fleet.hosts:
        brought = fleet.state(host) / "incoming/quay-v1.1.0-rc.1.tar"
        assert brought.read_bytes() == made.path.read_bytes()
        assert f"--sha256={made.sha256}" in fleet.asked(host)[0]
    fleet.put(web1="v1.0.0", web2="v1.0.0")
    elsewhere = ["-e", f"release_repository={fleet.folder}"]
    status, output = fleet.release("v1.1.0-rc.1", *arguments, *elsewhere)
    assert status == 0, output
    said = "is no git repository: the signature of v1.1.0-rc.1 was not verified here"
    assert said in " ".join(output.split())


def test_a_kind_of_host_that_was_not_built_for_is_named(
    fleet: Fleet, workshop: Workshop, tmp_path: Path
) -> None:
    made = Built(workshop, tmp_path, "3.99-x86_64", "v1.1.0-rc.1")
    assert made.status == 0, made.output
    for more in ([], ["--check"]):
        status, output = fleet.release("v1.1.0-rc.1", *given(made.path, made.sha256), *more)
        assert status != 0
        assert "is for 3.99-x86_64, and there are hosts of the kind 3." in output
        assert 'make artifact TARGETS="3.' in output
        assert fleet.asked("web1") == []


def test_the_kinds_are_asked_of_the_hosts_of_an_inventory(fleet: Fleet, tmp_path: Path) -> None:
    links = f"{os.environ.get('PIP_FIND_LINKS', '')} {fleet.workshop.index}"
    status, output = make(
        "artifact",
        VERSION="v1.1.0-rc.1",
        INVENTORY=str(fleet.inventory),
        OUTPUT=str(tmp_path / "dist"),
        FACTS=str(tmp_path / "facts"),
        PIP_FIND_LINKS=links,
    )
    assert status == 0, output
    (path,) = (tmp_path / "dist").glob("quay-v1.1.0-rc.1-*.tar")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"{sha256}  {path}" in output
    assert f"artifact_sha256={sha256}" in (tmp_path / "facts").read_text()
    assert fleet.asked("web1") == fleet.asked("web2") == []
    assert [*(fleet.state("web1") / "incoming").iterdir()] == []


@pytest.mark.parametrize("verb", ["release", "rollback", "verify", "artifact"])
@pytest.mark.parametrize("version", ["v1.2.3; touch {}", "$(shell touch {})", "v1.2.3\ntouch {}"])
def test_a_version_is_never_run(verb: str, version: str, tmp_path: Path) -> None:
    trap = tmp_path / "run"
    status, output = make(verb, VERSION=version.format(trap))
    assert status != 0
    assert f"Say which version: make {verb} VERSION=v1.4.2" in output
    assert not trap.exists()
