"""What a pipeline was given is in files of its own, is used by their names, and goes away."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.test_artifact import ROOT, Workshop
from tests.deploy.test_pipeline_targets import environment, make

NAMES = ("ALLOWED_SIGNERS", "SSH_KEY", "KNOWN_HOSTS", "VAULT_PASSWORD")


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    Workshop.make_key(tmp_path / "key")
    texts = (
        "ada ssh-ed25519 AAAA",
        (tmp_path / "key").read_text(),
        "web1 ssh-ed25519 BBBB",
        "pa$$ %s",
    )
    return {f"SLIPWAY_{name}": text for name, text in zip(NAMES, texts, strict=True)}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_they_are_readable_by_their_user_alone(secrets: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "deep/kept"
    status, output = make("credentials", f"CREDENTIALS={folder}", **secrets)
    assert status == 0, output
    assert "Kept: allowed_signers ssh_key known_hosts vault_password\n" in output
    assert mode(folder) == 0o700
    for name in NAMES:
        text = secrets[f"SLIPWAY_{name}"].strip()
        assert (folder / name.lower()).read_text() == f"{text}\n"
        assert mode(folder / name.lower()) == 0o600
        assert text not in output
    assert make("credentials-end", f"CREDENTIALS={folder}")[0] == 0
    assert not folder.exists()
    assert make("credentials-end", f"CREDENTIALS={folder}")[0] == 0


def test_they_may_come_as_files(secrets: dict[str, str], tmp_path: Path) -> None:
    files = {}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text.strip().replace("\n", "\r\n"))
        files[f"{name}_FILE"] = str(tmp_path / name)
    folder = tmp_path / "kept"
    assert make("credentials", CREDENTIALS=str(folder), **files)[0] == 0
    assert (folder / "ssh_key").read_text() == secrets["SLIPWAY_SSH_KEY"]


def test_what_cannot_be_used_is_refused_and_not_kept(
    secrets: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    without_hosts = {name: text for name, text in secrets.items() if "KNOWN" not in name}
    refusals: dict[str, dict[str, str]] = {
        "see docs/pipelines.md": {},
        "SLIPWAY_KNOWN_HOSTS is empty": without_hosts,
        "is no private key": {**secrets, "SLIPWAY_SSH_KEY": "ssh-ed25519 AAAA"},
        "which cannot be read": {"SLIPWAY_SSH_KEY_FILE": str(tmp_path / "nowhere")},
    }
    for said, variables in refusals.items():
        status, output = make("credentials", CREDENTIALS=str(folder), **variables)
        assert status != 0
        assert said in output
        assert not folder.exists()
    for place in ("", "here", "/a folder"):
        assert make("credentials", CREDENTIALS=place, **secrets)[0] != 0


def test_nothing_else_is_deleted_with_them(secrets: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    assert make("credentials-end", f"CREDENTIALS={tmp_path}")[0] == 0
    assert (tmp_path / "mine").read_text() == "kept"
    status, output = make("credentials", f"CREDENTIALS={tmp_path}", **secrets)
    assert status != 0
    assert "holds other things" in output


def told(**variables: str) -> dict[str, str]:
    """The environment that the programs of a target get."""
    answer = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "--eval=told: ; @env", "told"],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)


def test_a_play_is_told_where_they_are(secrets: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    assert make("credentials", CREDENTIALS=str(folder), **secrets)[0] == 0
    seen = told(CREDENTIALS=str(folder))
    assert seen["ANSIBLE_PRIVATE_KEY_FILE"] == str(folder / "ssh_key")
    assert seen["ANSIBLE_VAULT_PASSWORD_FILE"] == str(folder / "vault_password")
    options = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes"
    assert seen["ANSIBLE_SSH_COMMON_ARGS"] == options
    assert "ANSIBLE_PRIVATE_KEY_FILE" in os.environ or "ANSIBLE_PRIVATE_KEY_FILE" not in told()
