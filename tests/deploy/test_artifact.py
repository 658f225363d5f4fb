"""An artifact is the tag's tree and its wheels, the same bytes each time, and hosts take it."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.artifact import __main__ as command_line
from deploy.artifact import requirements
from deploy.artifact.requirements import Pin
from slipway_release import manifest as manifests
from slipway_release.unpack import REQUIREMENTS, unpack

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> str:
    settings = {"user.name": "Release", "user.email": "release@quay.test", "gpg.format": "ssh"}
    variables = {f"GIT_CONFIG_KEY_{i}": key for i, key in enumerate(settings)}
    variables |= {f"GIT_CONFIG_VALUE_{i}": value for i, value in enumerate(settings.values())}
    command = ["git", "-C", str(folder), *arguments]
    answer = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **variables, "GIT_CONFIG_COUNT": str(len(settings))},
    )
    return answer.stdout.strip()


def wheel(folder: Path, name: str, tags: str) -> str:
    """Write the smallest wheel that pip takes; answer its line of a requirements file."""
    package, version = name.split("-")
    information = f"{package}-{version}.dist-info"
    path = folder / f"{name}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}.py", "answer = 42\n")
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        archive.writestr(f"{information}/METADATA", metadata)
        archive.writestr(f"{information}/WHEEL", f"Wheel-Version: 1.0\nTag: {tags}\n")
        archive.writestr(f"{information}/RECORD", "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{package}=={version} --hash=sha256:{sha256}\n"


class Workshop:
    """A repository, an index of wheels, a signing key and the folders of builds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository, self.index = folder / "repository", folder / "index"
        self.output, self.wheels = folder / "artifacts", folder / "wheels"
        self.key, self.signers = folder / "key", folder / "signers"
        self.repository.mkdir()
        self.index.mkdir()
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.repository)], check=True)
        self.make_key(self.key)
        public = self.key.with_suffix(".pub").read_text().strip()
        self.signers.write_text(f'release@quay.test namespaces="git" {public}\n')
        self.uv = self.pin(wheel(self.index, "uv-0.13.0", "py3-none-any"))
        self.commit(
            {
                "requirements.txt": wheel(self.index, "mast-1.0", "py3-none-any"),
                "quay/main.py": "print('ahoy')\n",
            }
        )

    @staticmethod
    def pin(line: str) -> Pin:
        requirement, _, sha256 = line.strip().partition(" --hash=")
        name, _, version = requirement.partition("==")
        return Pin(name, version, "", (sha256,))

    @staticmethod
    def make_key(path: Path) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)

    def commit(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.repository, "add", "--all")
        git(self.repository, "commit", "-q", "-m", "Change")

    def tag(self, name: str = "v1.0.0", *options: str) -> None:
        sign = options or ("-s",)
        git(self.repository, "-c", f"user.signingkey={self.key}", "tag", *sign, "-m", name, name)

    def arguments(self, tag: str = "v1.0.0", *more: str) -> list[str]:
        return [
            *("build", f"--repository={self.repository}", f"--tag={tag}", "--name=quay"),
            *(f"--output={self.output}", f"--wheels={self.wheels}"),
            *(f"--allowed-signers={self.signers}", "--target=3.11-x86_64", *more),
        ]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    monkeypatch.setattr(requirements, "of_uv", lambda _kit: made.uv)
    return made


Captured = pytest.CaptureFixture[str]


def built(capsys: Captured, arguments: list[str]) -> dict[str, str]:
    capsys.readouterr()
    status = command_line.main(arguments)
    said = capsys.readouterr()
    assert status == 0, said.err
    answer: dict[str, str] = json.loads(said.out.splitlines()[-1])
    return answer


def refused(capsys: Captured, arguments: list[str]) -> str:
    capsys.readouterr()
    assert command_line.main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.strip().splitlines()[-1]


def test_a_host_takes_it(workshop: Workshop, capsys: Captured, tmp_path: Path) -> None:
    kept = workshop.repository / "bin/start"
    kept.parent.mkdir()
    kept.write_text("#!/bin/sh\n")
    kept.chmod(0o755)
    (workshop.repository / "deep/er").mkdir(parents=True)
    (workshop.repository / "deep/er/link").symlink_to("../../quay/main.py")
    workshop.commit({})
    workshop.tag()
    answer = built(capsys, workshop.arguments())
    path = Path(answer["path"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == answer["sha256"]
    manifest = manifests.read(path)
    assert (manifest.name, manifest.version) == ("quay", answer["version"]) == ("quay", "v1.0.0")
    assert manifest.commit == answer["commit"] == git(workshop.repository, "rev-parse", "HEAD")
    assert manifest.tag == git(workshop.repository, "rev-parse", "v1.0.0")
    release, wheels = tmp_path / "release", tmp_path / "unpacked"
    unpack(path, "3.11-x86_64", release, wheels)
    assert (release / "quay/main.py").read_text() == "print('ahoy')\n"
    assert (release / "deep/er/link").read_text() == "print('ahoy')\n"
    assert (release / "bin/start").stat().st_mode & 0o777 == 0o755
    assert (release / "quay/main.py").stat().st_mode & 0o777 == 0o644
    assert "mast==1.0" in (release / REQUIREMENTS).read_text()
    names = {"mast-1.0-py3-none-any.whl", "uv-0.13.0-py3-none-any.whl"}
    assert {found.name for found in wheels.iterdir()} == names
    mast = manifest.files["wheels/mast-1.0-py3-none-any.whl"]
    assert mast.entries == 4
    assert mast.installed > 2 * len("answer = 42\n")


def test_it_is_the_same_twice(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    first = built(capsys, workshop.arguments())
    contents = Path(first["path"]).read_bytes()
    Path(first["path"]).unlink()
    # The index is gone: a rebuild asks nobody for a wheel that it had.
    for path in workshop.index.iterdir():
        path.unlink()
    assert built(capsys, workshop.arguments()) == first
    assert Path(first["path"]).read_bytes() == contents
    with tarfile.open(first["path"]) as tar:
        members = tar.getmembers()
    assert members[0].name == "manifest.json"
    assert [m.name for m in members[1:]] == sorted(m.name for m in members[1:])
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
    seconds = int(git(workshop.repository, "show", "-s", "--format=%ct", "v1.0.0^{commit}"))
    assert {m.mtime for m in members} == {seconds}


def test_one_that_is_there_is_used_unless_it_was_damaged(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.tag()
    first = built(capsys, workshop.arguments())
    path = Path(first["path"])
    number = path.stat().st_ino
    assert built(capsys, workshop.arguments()) == first
    assert path.stat().st_ino == number
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert built(capsys, workshop.arguments()) == first
    assert hashlib.sha256(path.read_bytes()).hexdigest() == first["sha256"]


def test_a_damaged_wheel_is_fetched_again(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    first = built(capsys, workshop.arguments())
    Path(first["path"]).unlink()
    for path in workshop.wheels.glob("*/mast-*.whl"):
        path.write_bytes(b"damaged")
    assert built(capsys, workshop.arguments()) == first


def test_many_builds_at_once_agree(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    code = (
        "import sys; from deploy.artifact import build, __main__\n"
        "from deploy.artifact.requirements import Pin\n"
        f"build.requirements.of_uv = lambda _kit: {workshop.uv!r}\n"
        "sys.exit(__main__.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *workshop.arguments()]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1
    assert json.loads(answers.pop()) == built(capsys, workshop.arguments())
    assert not list(workshop.output.glob(".*"))


def test_only_the_newest_are_kept(workshop: Workshop, capsys: Captured) -> None:
    for number in range(7):
        workshop.tag(f"v1.0.{number}")
        built(capsys, workshop.arguments(f"v1.0.{number}"))
    versions = sorted(path.name.split("-")[1] for path in workshop.output.glob("*.tar"))
    assert versions == [f"v1.0.{number}" for number in range(2, 7)]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "quay/../../outside", ".."])
def test_a_link_out_of_the_tree_is_refused(
    workshop: Workshop, capsys: Captured, target: str
) -> None:
    (workshop.repository / "escape").symlink_to(target)
    workshop.commit({})
    workshop.tag()
    assert "The link escape leads to" in refused(capsys, workshop.arguments())


def test_a_submodule_is_refused(workshop: Workshop, capsys: Captured) -> None:
    commit = git(workshop.repository, "rev-parse", "HEAD")
    git(workshop.repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},vendor")
    git(workshop.repository, "commit", "-q", "-m", "Add a submodule")
    workshop.tag()
    assert "vendor is a submodule" in refused(capsys, [*workshop.arguments(), "--allow-dirty"])


@pytest.mark.parametrize("name", ["manifest.json", "sbom.cdx.json", ".venv/pyvenv.cfg", "web.sock"])
def test_a_name_that_hosts_use_is_refused(workshop: Workshop, capsys: Captured, name: str) -> None:
    workshop.commit({name: "in the way\n"})
    workshop.tag()
    assert f"{name} is in the way" in refused(capsys, workshop.arguments())


def test_a_pointer_to_a_large_file_is_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.commit({"model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"})
    workshop.tag()
    assert "model.bin is in Git LFS" in refused(capsys, workshop.arguments())


@pytest.mark.parametrize("name", ["../etc", "Quay", ""])
def test_a_name_of_no_service_is_refused(workshop: Workshop, capsys: Captured, name: str) -> None:
    workshop.tag()
    assert "names no service" in refused(capsys, [*workshop.arguments(), f"--name={name}"])
