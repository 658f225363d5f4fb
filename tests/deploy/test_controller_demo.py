"""The demo signs what it releases with the lab's own key, and shows what a playbook changes."""

import subprocess
from pathlib import Path

import pytest

from deploy.demo.errors import DemoError
from deploy.demo.playbook import Reader
from deploy.demo.progress import Clock
from deploy.demo.signing import Signing


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, of somebody who has told git neither a name nor a key."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "commit", "-q", "--allow-empty", "-m", "Change")


@pytest.fixture
def signing(repository: Path, tmp_path: Path) -> Signing:
    made = Signing(repository, tmp_path / "lab")
    made.ensure_key()
    return made


def test_a_tag_is_signed_and_found_again(signing: Signing, repository: Path) -> None:
    assert signing.newest() is None

    signing.tag(signing.next_version())
    commit(repository)

    assert signing.newest() == "v0.1.0"
    assert signing.mine() == ["v0.1.0"]


def test_the_key_is_made_once_and_is_nobody_elses(signing: Signing, tmp_path: Path) -> None:
    key = tmp_path / "lab/signing/key"
    before = key.read_bytes()

    signing.ensure_key()

    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o077 == 0


def test_versions_are_compared_as_numbers(signing: Signing) -> None:
    signing.tag("v0.9.0")
    signing.tag("v0.10.0")

    assert signing.newest() == "v0.10.0"
    assert signing.next_version() == "v0.10.1"


def test_a_tag_that_another_key_signed_is_none_of_ours(
    signing: Signing, repository: Path, tmp_path: Path
) -> None:
    other = Signing(repository, tmp_path / "other")
    other.ensure_key()
    other.tag("v3.0.0")
    git(repository, "tag", "v4.0.0")

    assert signing.newest() is None
    assert signing.mine() == []


def test_a_tag_that_does_not_lead_to_head_is_left_out(signing: Signing, repository: Path) -> None:
    git(repository, "switch", "-q", "-c", "side")
    commit(repository)
    signing.tag("v0.2.0")
    git(repository, "switch", "-q", "-")

    assert signing.newest() is None


@pytest.mark.parametrize("version", ["v0.1.0", "0.2.0", "v1", "--force"])
def test_a_tag_that_exists_or_is_no_version_is_refused(signing: Signing, version: str) -> None:
    signing.tag("v0.1.0")

    with pytest.raises(DemoError, match=r"is no version|exists already"):
        signing.tag(version)


def test_a_playbook_is_told_in_plays_roles_and_changes() -> None:
    reader = Reader()
    lines = """
PLAY [Prepare every host] ******************************************************
TASK [Gathering Facts] *********************************************************
ok: [web1]
TASK [base : Install packages] *************************************************
changed: [web1]
TASK [base : Set the time zone] ************************************************
ok: [web1]
RUNNING HANDLER [base : Restart journald] **************************************
changed: [web1]
PLAY RECAP *********************************************************************
web1                       : ok=4    changed=2    unreachable=0    failed=0    skipped=0
""".splitlines()

    assert [said for line in lines if (said := reader.read(line))] == [
        "  Prepare every host",
        "    base",
        "      changed: Install packages",
        "      changed: Restart journald",
    ]
    assert reader.changed == {"web1": 2}
    assert reader.trouble == []


def test_the_result_of_a_failed_task_is_kept_until_the_recap() -> None:
    reader = Reader()
    for line in (
        "TASK [nginx : Start] ***",
        "[ERROR]: Task failed: it is said again below",
        'fatal: [web1]: FAILED! => {"msg"',
        "  more",
        "PLAY RECAP ***",
        "web1 : ok=1    changed=0    unreachable=0    failed=1    skipped=0",
    ):
        reader.read(line)

    assert reader.trouble == ['fatal: [web1]: FAILED! => {"msg"', "  more"]


def test_an_error_without_a_result_is_kept() -> None:
    reader = Reader()
    for line in ("[ERROR]: the playbook could not be read", "  at line 3"):
        reader.read(line)

    assert reader.trouble == ["[ERROR]: the playbook could not be read", "  at line 3"]


def test_a_failed_phase_is_in_the_table_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_STARTED", raising=False)
    clock = Clock()
    with pytest.raises(DemoError), clock.phase("lab", "boot"):
        raise DemoError("No room.")

    assert [line.split()[0] for line in clock.table()] == ["Times", "lab", "together"]


def test_the_set_up_before_this_process_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_STARTED", "0.0")

    assert Clock().times[0][0] == "set-up"
    assert Clock().times[0][1] > 1_000_000
