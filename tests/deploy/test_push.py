"""A signed tag that is pushed is released; everything else that is pushed changes nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.push import lock, runs
from tests.deploy.push_host import PushHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[PushHost]:
    made = PushHost(tmp_path)
    made.go()
    yield made
    made.go()
    deadline = time.monotonic() + 60
    while lock.holder_of(made.settings.lock) and time.monotonic() < deadline:
        time.sleep(0.1)


def test_a_signed_tag_is_released_while_the_pusher_reads_along(host: PushHost) -> None:
    host.tag("v1.0.0")
    status, said = host.push("v1.0.0")
    assert status == 0, said
    assert "remote: Releasing v1.0.0" in said
    assert "released v1.0.0 downgrade False alice by push" in said
    assert "variables[]" in said
    assert "remote: v1.0.0 is live." in said
    assert host.tags() == ["refs/tags/v1.0.0"]
    (run,) = runs.newest(host.settings.runs)
    # The client's own word on who it is does not count.
    assert (run.version, run.by, run.status) == ("v1.0.0", "alice", 0)
    assert "v1.0.0" in host.ask("status")[1]
    assert "No release is running." in host.ask("status")[1]


def refused(host: PushHost, *arguments: str, because: str) -> None:
    before = host.tags()
    known = len(runs.newest(host.settings.runs))
    status, said = host.push(*arguments)
    assert status != 0, said
    assert because in said
    assert host.tags() == before
    assert len(runs.newest(host.settings.runs)) == known


def test_a_branch_is_refused(host: PushHost) -> None:
    host.tag("v1.0.0")
    refused(host, "main", because="refs/heads/main is not a tag")
    refused(host, "main", "v1.0.0", because="refs/heads/main is not a tag")


def test_tags_that_nobody_signed_are_refused(host: PushHost) -> None:
    host.tag("v1.0.0", "-m", "v1.0.0", "-a")
    refused(host, "v1.0.0", because="is not signed with an SSH key")
    host.tag("v1.0.1", "--no-sign")
    refused(host, "v1.0.1", because="is a lightweight tag")
    host.tag("harbour")
    refused(host, "harbour", because="is not a version")


def test_a_tag_of_a_stranger_is_refused(host: PushHost) -> None:
    stranger = host.folder / "stranger"
    host.make_key(stranger)
    host.tag("v1.0.0", key=stranger)
    refused(host, "v1.0.0", because="not signed by a key of")


def test_an_old_tag_under_a_new_name_is_refused(host: PushHost) -> None:
    host.tag("v1.0.0")
    host.git("update-ref", "refs/tags/v2.0.0", "refs/tags/v1.0.0")
    refused(host, "v2.0.0", because="was made as v1.0.0 and renamed")


def test_a_released_version_is_neither_moved_nor_deleted(host: PushHost) -> None:
    host.tag("v1.0.0")
    assert host.push("v1.0.0")[0] == 0
    host.git("tag", "-d", "v1.0.0")
    host.tag("v1.0.0")
    refused(host, "--force", "v1.0.0", because="a version is never moved")
    refused(host, "--delete", "v1.0.0", because="is not deleted")


def test_two_versions_at_once_are_refused(host: PushHost) -> None:
    host.tag("v1.0.0")
    host.tag("v1.1.0")
    refused(host, "v1.0.0", "v1.1.0", because="2 versions at once cannot all be live")


def test_an_older_version_needs_leave_and_a_word(host: PushHost) -> None:
    host.tag("v1.0.0")
    refused(host, "-o", "allow-downgrade", "v1.0.0", because="are not taken by push here")
    refused(host, "-o", "turbo", "v1.0.0", because="There is no option 'turbo'")
    host.allow_downgrades(yes=True)
    said = host.push("-o", "allow-downgrade", "v1.0.0")[1]
    assert "released v1.0.0 downgrade True" in said


def test_a_release_outlives_its_pusher_and_shuts_out_the_next(host: PushHost) -> None:
    host.tag("v1.0.0")
    host.hold()
    with host.begin("v1.0.0") as pusher:
        assert pusher.stdout is not None
        for line in pusher.stdout:
            if "released v1.0.0" in line:
                break
        os.killpg(pusher.pid, signal.SIGKILL)
    host.tag("v1.1.0")
    refused(host, "v1.1.0", because="v1.0.0 is being released by alice since 20")
    assert "v1.0.0 is being released by alice" in host.ask("status")[1]
    status, said = host.ask("release v1.0.0")
    assert status == 1
    assert "v1.0.0 is in, but not released. v1.0.0 is being released" in said
    host.go()
    status, said = host.ask("log v1.0.0")
    assert status == 0, said
    assert "released v1.0.0" in said
    assert host.push("v1.1.0")[0] == 0


def test_a_release_that_fails_says_so_and_is_run_again(host: PushHost) -> None:
    host.tag("v6.6.6")
    status, said = host.push("v6.6.6")
    assert "the rudder is broken" in said
    assert "v6.6.6 is NOT released" in said
    status, said = host.ask("log")
    assert status != 0
    assert "the rudder is broken" in said
    assert "FAILED" in host.ask("status")[1]
    playbook = host.kit / "deploy/release.yml"
    playbook.write_text(playbook.read_text().replace("'v6.6.6'", "'never'"))
    status, said = host.ask("release v6.6.6")
    assert status == 0, said
    assert "v6.6.6 is live." in said


def test_a_release_that_is_killed_is_told_as_interrupted(host: PushHost) -> None:
    host.tag("v1.0.0")
    host.hold()
    with host.begin("v1.0.0") as pusher:
        assert pusher.stdout is not None
        for line in pusher.stdout:
            if "released v1.0.0" in line:
                break
        found = subprocess.run(
            ["pgrep", "-f", f"deploy.push --settings={host.path} run"],
            check=True,
            capture_output=True,
            text=True,
        )
        for identity in found.stdout.split():
            os.killpg(int(identity), signal.SIGKILL)
        assert "was interrupted: run it again" in pusher.stdout.read()
    host.go()
    status, said = host.ask("log")
    assert status != 0
    assert "was interrupted" in said
    assert host.ask("release v1.0.0")[0] == 0


@pytest.mark.parametrize(
    "command",
    [
        "",
        "sh",
        "git-upload-pack 'quay.git'",
        "git-receive-pack 'quay.git' --evil",
        "git-receive-pack '../work'",
        "git-receive-pack 'quay.git'; id",
        "git-receive-pack '",
        "release v1.0.0 --force",
        "log v1.0.0 v1.1.0",
        "rollback",
    ],
)
def test_a_key_can_do_nothing_else(host: PushHost, command: str) -> None:
    status, said = host.ask(command)
    assert status == 1
    assert "quay.git" in said
    assert "uid=" not in said


def test_a_version_that_was_never_pushed_is_not_released(host: PushHost) -> None:
    assert "There is no tag v9.9.9" in host.ask("release v9.9.9")[1]
    assert "No release of v9.9.9" in host.ask("log v9.9.9")[1]
    status, said = host.ask("release ../../etc")
    assert status == 1
    assert "is not a version" in said
