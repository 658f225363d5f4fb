"""Keys that may push can run one command, and the set-up refuses what it cannot vouch for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.push.errors import PushError
from deploy.push.keys import authorized_keys
from deploy.push.settings import Settings, load

ROOT = Path(__file__).parents[2]


def key_line(folder: Path, comment: str) -> str:
    path = folder / f"key-{len(list(folder.iterdir()))}"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_suffix(".pub").read_text().strip()


def test_each_key_is_restricted_to_the_program_and_named(tmp_path: Path) -> None:
    first, second = key_line(tmp_path, "alice"), key_line(tmp_path, "ci@github")
    keys = tmp_path / "keys"
    keys.write_text(f"# who may push\n\n{first}\n{second}\n")
    assert authorized_keys(keys, "/usr/local/lib/p/quay serve").splitlines() == [
        f'restrict,command="/usr/local/lib/p/quay serve --key=alice" {first}',
        f'restrict,command="/usr/local/lib/p/quay serve --key=ci@github" {second}',
    ]


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("{key}", "not `TYPE KEY NAME`"),
        ('command="sh" {key} alice', "not `TYPE KEY NAME`"),
        ('{key} alice" x', "not `TYPE KEY NAME`"),
        ("{key} $(id)", "not `TYPE KEY NAME`"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "not `TYPE KEY NAME`"),
        ("{key} alice\n{key} alice", "names another key already"),
        ("# nobody", "nobody could push"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, line: str, because: str) -> None:
    bare = " ".join(key_line(tmp_path, "x").split()[:2])
    keys = tmp_path / "keys"
    keys.write_text(line.format(key=bare) + "\n")
    with pytest.raises(PushError, match=because):
        authorized_keys(keys, "serve")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PushError, match=r"cannot be read: .*absent: No such file"):
        authorized_keys(tmp_path / "absent", "serve")


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings = Settings(
        name="quay",
        kit=Path("/opt/slipway"),
        inventory=Path("/opt/slipway/inventories/production"),
        allowed_signers=Path("/etc/slipway-push/quay.allowed_signers"),
        state=Path("/var/lib/slipway-push/quay"),
        arguments=("--vault-password-file=/etc/a b",),
        downgrades=True,
    )
    path = tmp_path / "quay.json"
    path.write_text(settings.text())
    assert load(path) == settings
    path.write_text("{}")
    with pytest.raises(PushError, match="run `make push-host` again"):
        load(path)


def set_up(*arguments: str) -> tuple[int, str]:
    answer = subprocess.run(
        [sys.executable, "-m", "deploy.push", "set-up", "--check", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="making an account needs root")
def test_a_check_of_the_set_up_makes_nothing(tmp_path: Path) -> None:
    keys, signers = tmp_path / "keys", tmp_path / "signers"
    keys.write_text(key_line(tmp_path, "alice") + "\n")
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[app]\nquay1 app_name=trial-quay\n")
    arguments = (f"--inventory={inventory}", f"--keys={keys}")
    status, said = set_up(*arguments)
    assert status == 1
    assert f"Who may sign tags cannot be read: {tmp_path}/allowed_signers" in said
    signers.write_text("# nobody yet\n")
    assert "lists nobody who may sign" in set_up(*arguments, f"--allowed-signers={signers}")[1]
    signers.write_text(f'a@quay.test namespaces="git" {key_line(tmp_path, "alice")}\n')
    status, said = set_up(*arguments, f"--allowed-signers={signers}")
    assert status == 0, said
    assert "would make the account push-trial-quay" in said
    assert "would make the file /etc/slipway-push/trial-quay.json" in said
    assert not Path("/etc/slipway-push/trial-quay.json").exists()
    assert not Path("/var/lib/slipway-push/trial-quay").exists()
    inventory.write_text('[app]\nquay1 app_name=\'{{ lookup("env", "HOME") }}\'\n')
    assert "names no push repository" in set_up(*arguments, f"--allowed-signers={signers}")[1]
