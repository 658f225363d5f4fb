"""The wheels of an artifact: those that the lock names, for each kind of host."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.artifact import requirements
from deploy.artifact.errors import ArtifactError
from deploy.artifact.requirements import Pin
from deploy.artifact.target import Target
from deploy.artifact.wheels import Cache
from slipway_release import manifest as manifests
from slipway_release.unpack import REQUIREMENTS, unpack
from tests.deploy.test_artifact import ROOT, Captured, Workshop, built, refused, wheel, workshop

__all__ = ["workshop"]

HASH = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mast==1.0", "no checksum for mast"),
        (f"mast>=1.0 --hash={HASH}", "not one version"),
        (f"mast==1.* --hash={HASH}", "not one version"),
        ("-e ./packages/mast", "no package of an index"),
        ("--index-url https://index.test/simple", "no package of an index"),
        (f"mast @ https://index.test/mast-1.0.tar.gz --hash={HASH}", "not one version"),
        (f"mast == --hash={HASH}", "cannot be read"),
    ],
)
def test_a_line_that_pins_nothing_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        requirements.parse(f"{text}\n", "requirements.txt")


def test_lines_are_read_as_pip_reads_them() -> None:
    text = (
        "# A comment\n\n"
        f"Tall_Mast[rigging]==1.0 ; python_version < '3.12' \\\n    --hash={HASH} \\\n"
        f"    --hash={HASH.replace('0', '1')}  # why\n"
    )
    (pin,) = requirements.parse(text, "requirements.txt")
    assert (pin.name, pin.version, pin.marker) == ("tall-mast", "1.0", 'python_version < "3.12"')
    assert len(pin.hashes) == 2


@pytest.mark.parametrize(
    ("marker", "targets"),
    [
        ("", {"3.10-x86_64", "3.11-x86_64", "3.13-aarch64"}),
        ("python_version < '3.11'", {"3.10-x86_64"}),
        ("python_full_version < '3.11.3'", {"3.10-x86_64", "3.11-x86_64"}),
        ("python_full_version >= '3.12'", {"3.13-aarch64"}),
        ("platform_machine == 'aarch64'", {"3.13-aarch64"}),
        ("sys_platform == 'win32' or implementation_name == 'pypy'", set()),
    ],
)
def test_markers_choose_by_the_kind_of_host(marker: str, targets: set[str]) -> None:
    pin = Pin("mast", "1.0", marker, (HASH,))
    kinds = ("3.10-x86_64", "3.11-x86_64", "3.13-aarch64")
    assert targets == {k for k in kinds if requirements.for_target([pin], Target.parse(k))}


@pytest.mark.parametrize("text", ["", "3.11", "3.11-", "2.7-x86_64", "3.11-x86_64;rm", "3.x-arm"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="not a target"):
        Target.parse(text)


def test_platforms_are_those_of_the_oldest_distribution() -> None:
    tags = Target.parse("3.11-x86_64").platforms()
    assert tags[0] == "manylinux_2_35_x86_64"
    assert {"manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(tags)
    assert "manylinux_2_5_aarch64" not in Target.parse("3.11-aarch64").platforms()


def test_each_target_gets_its_own_wheel(
    workshop: Workshop, capsys: Captured, tmp_path: Path
) -> None:
    lines = [
        wheel(workshop.index, "hull-1.0", "cp311-cp311-manylinux_2_17_x86_64"),
        wheel(workshop.index, "hull-1.0", "cp313-cp313-manylinux_2_28_x86_64"),
        wheel(workshop.index, "hull-1.0", "cp313-cp313-manylinux_2_39_x86_64"),
    ]
    hashes = " ".join(line.split()[1] for line in lines)
    workshop.commit({"requirements.txt": f"hull==1.0 {hashes}\n"})
    workshop.tag()
    answer = built(capsys, workshop.arguments("v1.0.0", "--target=3.13-x86_64"))
    targets = manifests.read(Path(answer["path"])).targets
    assert targets["3.11-x86_64"].wheels == (
        "wheels/hull-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
    )
    assert targets["3.13-x86_64"].wheels == (
        "wheels/hull-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
    )
    unpack(Path(answer["path"]), "3.13-x86_64", tmp_path / "release", tmp_path / "unpacked")
    assert lines[1].split()[1] in (tmp_path / "release" / REQUIREMENTS).read_text()
    assert not list((tmp_path / "unpacked").glob("*cp311*"))


def test_two_versions_of_one_package_both_come(workshop: Workshop, capsys: Captured) -> None:
    old = wheel(workshop.index, "sail-1.0", "py3-none-any").replace(
        " --", " ; python_full_version < '3.11.3' --"
    )
    new = wheel(workshop.index, "sail-2.0", "py3-none-any").replace(
        " --", " ; python_full_version >= '3.11.3' --"
    )
    workshop.commit({"requirements.txt": old + new})
    workshop.tag()
    answer = built(capsys, workshop.arguments())
    assert len(manifests.read(Path(answer["path"])).targets["3.11-x86_64"].wheels) == 2


def test_a_package_without_a_wheel_is_named(workshop: Workshop, capsys: Captured) -> None:
    line = wheel(workshop.index, "keel-1.0", "cp313-cp313-manylinux_2_17_x86_64")
    workshop.commit({"requirements.txt": line})
    workshop.tag()
    assert "keel 1.0 has no wheel for 3.11-x86_64" in refused(capsys, workshop.arguments())


def test_a_wheel_with_another_checksum_is_refused(workshop: Workshop, capsys: Captured) -> None:
    wheel(workshop.index, "keel-1.0", "py3-none-any")
    workshop.commit({"requirements.txt": f"keel==1.0 --hash={HASH}\n"})
    workshop.tag()
    said = refused(capsys, workshop.arguments())
    assert "pip cannot fetch the wheels" in said
    assert "HASHES" in said
    assert not list(workshop.wheels.glob("*/keel*"))


def test_an_index_that_does_not_answer_is_no_missing_wheel(
    workshop: Workshop, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    workshop.commit({"requirements.txt": f"keel==1.0 --hash={HASH}\n"})
    workshop.tag()
    assert "pip cannot fetch the wheels" in refused(capsys, workshop.arguments())


def test_a_tag_without_a_lock_is_refused(workshop: Workshop, capsys: Captured) -> None:
    (workshop.repository / "requirements.txt").unlink()
    workshop.commit({"pyproject.toml": '[project]\nname = "quay"\nversion = "1"\n'})
    workshop.tag()
    assert "neither uv.lock nor a requirements.txt" in refused(capsys, workshop.arguments())


def test_a_broken_lock_is_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.commit({"pyproject.toml": "[project]\n", "uv.lock": "not toml\n"})
    workshop.tag()
    assert "uv.lock cannot be read by uv" in refused(capsys, workshop.arguments())


def test_one_new_package_is_all_that_is_fetched(workshop: Workshop, capsys: Captured) -> None:
    first = (workshop.repository / "requirements.txt").read_text()
    workshop.tag()
    built(capsys, workshop.arguments())
    line = wheel(workshop.index, "oar-1.0", "py3-none-any")
    workshop.commit({"requirements.txt": first + line})
    workshop.tag("v1.1.0")
    capsys.readouterr()
    cache = Cache(workshop.wheels)
    cache.get(requirements.parse(first + line, "requirements.txt"), Target.parse("3.11-x86_64"))
    assert capsys.readouterr().err.splitlines() == ["Fetching for 3.11-x86_64: oar 1.0"]


def kit_alone(repository: Path) -> Path:
    """Tag what this kit depends on, and nothing else of it."""
    repository.mkdir()
    for name in ("pyproject.toml", "uv.lock"):
        (repository / name).write_bytes((ROOT / name).read_bytes())
    who = ["-c", "user.name=Release", "-c", "user.email=release@quay.test"]
    for arguments in (
        ["init", "-q"],
        ["add", "--all"],
        ["commit", "-qm", "x"],
        ["tag", "-am", "x", "v1.0.0"],
    ):
        subprocess.run(["git", "-C", str(repository), *who, *arguments], check=True)
    return repository


def test_this_kit_builds_for_old_and_new_hosts(tmp_path: Path) -> None:
    """The real lock and the real index; hosts of Debian 12 and 13."""
    repository = kit_alone(tmp_path / "repository")
    command = [
        *(sys.executable, "-m", "deploy.artifact", "build", f"--repository={repository}"),
        *("--tag=v1.0.0", "--name=quay", "--target=3.11-x86_64", "--target=3.13-x86_64"),
        f"--output={tmp_path}/artifacts",
    ]
    answers, seconds = [], []
    for _ in range(2):
        for path in tmp_path.glob("artifacts/*"):
            path.unlink()
        begin = time.monotonic()
        answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        seconds.append(time.monotonic() - begin)
        answers.append(json.loads(answer.stdout.splitlines()[-1]))
    assert answers[0] == answers[1]
    # The wheels are there by now; what is left is to read and write 50 MB.
    assert seconds[1] < 3
    manifest = manifests.read(Path(answers[0]["path"]))
    for name in ("3.11-x86_64", "3.13-x86_64"):
        target = manifest.targets[name]
        minor = name.split("-", maxsplit=1)[0].replace(".", "")
        assert any(f"-cp{minor}-" in path for path in target.wheels)
        assert manifest.files[target.uv].installed > 10_000_000
        unpack(Path(answers[0]["path"]), name, tmp_path / name, tmp_path / "unpacked")
        assert "fastapi==" in (tmp_path / name / REQUIREMENTS).read_text()
    assert "async-timeout" in (tmp_path / "3.11-x86_64" / REQUIREMENTS).read_text()
    assert "async-timeout" not in (tmp_path / "3.13-x86_64" / REQUIREMENTS).read_text()
