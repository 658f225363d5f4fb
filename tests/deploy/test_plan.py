"""What a release would do is told from git, the locks and what the hosts say."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from deploy.artifact import requirements
from deploy.artifact.errors import ArtifactError
from deploy.plan import __main__ as command_line
from deploy.plan.fleet import Fleet, Host, parse
from deploy.plan.versions import precedence
from slipway_release import version as versions_of_hosts
from tests.deploy.test_artifact import ROOT, Captured, Workshop, git, wheel, workshop

__all__ = ["workshop"]

ANY = "py3-none-any"


def pinned(workshop: Workshop, *names: str) -> str:
    return "".join(wheel(workshop.index, name, ANY) for name in names)


def released(workshop: Workshop, version: str, files: dict[str, str]) -> None:
    workshop.commit({"quay/main.py": f"print('{version}')\n", **files})
    workshop.tag(version)


def asked(workshop: Workshop, tag: str, *more: str) -> list[str]:
    return [
        *(f"--repository={workshop.repository}", f"--tag={tag}"),
        *(f"--allowed-signers={workshop.signers}", f"--wheels={workshop.wheels}"),
        *(f"--plans={workshop.folder / 'plans'}", *more),
    ]


def told(capsys: Captured, arguments: list[str]) -> str:
    capsys.readouterr()
    status = command_line.main(arguments)
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


def planned(capsys: Captured, arguments: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(capsys, [*arguments, "--json"]))
    return found


def fleet_of(monkeypatch: pytest.MonkeyPatch, **values: object) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(values)))
    return "--fleet=-"


def test_commits_and_dependencies_are_told(workshop: Workshop, capsys: Captured) -> None:
    released(workshop, "v1.0.0", {"requirements.txt": pinned(workshop, "mast-1.0", "keel-2.0")})
    workshop.commit({"quay/main.py": "print('halfway')\n"})
    released(workshop, "v1.1.0", {"requirements.txt": pinned(workshop, "mast-1.1", "sail-3.0")})
    text = told(capsys, asked(workshop, "v1.1.0", "--from=v1.0.0"))
    assert "v1.0.0 → v1.1.0 (upgrade)" in text
    commits = git(workshop.repository, "log", "--format=%h %s", "v1.0.0..v1.1.0").splitlines()
    assert len(commits) == 2
    assert all(commit in text for commit in commits)
    assert "Commits: 2\n" in text
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("Dependencies: 3 changed")
    assert lines[start + 1 : start + 4] == ["- keel 2.0", "~ mast 1.0 → 1.1", "+ sail 3.0"]
    assert "go away" not in text


def test_what_goes_away_is_told_by_a_downgrade(workshop: Workshop, capsys: Captured) -> None:
    released(workshop, "v1.0.0", {})
    released(workshop, "v1.1.0", {})
    text = told(capsys, asked(workshop, "v1.0.0", "--from=v1.1.0"))
    assert "v1.1.0 → v1.0.0 (downgrade)" in text
    assert "Refused unless it is asked for: -e release_allow_downgrade=true" in text
    assert "Commits: none" in text
    assert "Commits that are live and go away: 1" in text
    assert git(workshop.repository, "rev-parse", "--short", "v1.1.0^{commit}") in text
    assert "Dependencies: unchanged" in text


def test_a_hotfix_beside_the_live_line_tells_both_sides(
    workshop: Workshop, capsys: Captured
) -> None:
    released(workshop, "v1.0.0", {})
    released(workshop, "v1.1.0", {})
    git(workshop.repository, "checkout", "-q", "-b", "hotfix", "v1.0.0")
    released(workshop, "v1.1.1", {"fix.txt": "fixed\n"})
    (group,) = planned(capsys, asked(workshop, "v1.1.1", "--from=v1.1.0"))["groups"]
    assert (group["gained"]["count"], group["lost"]["count"]) == (1, 1)


def test_thirty_commits_are_shown_and_all_are_counted(workshop: Workshop, capsys: Captured) -> None:
    released(workshop, "v1.0.0", {})
    for number in range(34):
        git(workshop.repository, "commit", "-q", "--allow-empty", "-m", f"Row {number}")
    git(workshop.repository, "commit", "-q", "--allow-empty", "-m", "Paint \x1b[31mred")
    workshop.tag("v1.1.0")
    text = told(capsys, asked(workshop, "v1.1.0", "--from=v1.0.0"))
    assert "Commits: 35" in text
    assert text.count("Row ") == 29
    assert "and 5 before them" in text
    assert "\x1b" not in text


def test_nothing_is_live_yet(workshop: Workshop, capsys: Captured) -> None:
    released(workshop, "v1.0.0", {})
    text = told(capsys, asked(workshop, "v1.0.0"))
    assert "nothing → v1.0.0 (first release)" in text
    assert "Commits: 2" in text
    assert "+ mast 1.0" in text


def test_a_live_version_that_the_repository_lacks_is_no_failure(
    workshop: Workshop, capsys: Captured
) -> None:
    released(workshop, "v1.0.0", {})
    text = told(capsys, asked(workshop, "v1.0.0", "--from=v0.9.0"))
    assert "v0.9.0 → v1.0.0 (upgrade)" in text
    assert "There is no tag v0.9.0" in text
    assert "fetch" in text
    assert "Commits" not in text


def test_a_tag_that_may_not_be_released_is_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag("v1.0.0", "-a")
    assert command_line.main(asked(workshop, "v1.0.0")) == 1
    assert "is not signed" in capsys.readouterr().err


def test_each_live_version_has_a_block_of_its_own(
    workshop: Workshop, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        released(workshop, version, {})
    live = {"web1": "v1.1.0", "web2": "v1.0.0", "web3": "v1.1.0", "web4": "v1.2.0"}
    hosts = {name: {"current": current} for name, current in live.items()}
    option = fleet_of(monkeypatch, hosts=hosts, away=["web5"])
    lines = told(capsys, asked(workshop, "v1.2.0", option)).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "web1, web3: v1.1.0 → v1.2.0 (upgrade)",
        "web2: v1.0.0 → v1.2.0 (upgrade)",
        "web4: v1.2.0 is live already",
    ]
    assert lines.count("  Order: web1 alone, then web2, web3, then web4") == 2
    assert lines.count("  Away: web5; a host catches up at its return") == 2


@pytest.mark.parametrize(
    ("batches", "names", "order"),
    [
        ([1, "50%"], "abcd", ["a", "bc", "d"]),
        ([1, "50%"], "a", ["a"]),
        ([1, 2, "100%"], "abcdef", ["a", "bc", "def"]),
        (["10%"], "abc", ["a", "b", "c"]),
        ([0], "abc", ["abc"]),
        (2, "abc", ["ab", "c"]),
        ("30%", "abcdefg", ["ab", "cd", "ef", "g"]),
    ],
)
def test_batches_are_those_of_ansible(batches: object, names: str, order: list[str]) -> None:
    hosts = {name: {"current": "v1.0.0"} for name in names}
    fleet = parse(json.dumps({"hosts": hosts, "batches": batches}))
    assert ["".join(batch) for batch in fleet.order()] == order


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"hosts": {"a": {}}}', '{"hosts": [{"current": "v1.0.0"}]}']
)
def test_a_fleet_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="The fleet cannot be read"):
        parse(text)


def test_batches_that_are_none_are_refused() -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        parse('{"hosts": {"a": {"current": null}}, "batches": ["half"]}')


def test_the_contract_revisions_of_one_host_are_those_of_the_database() -> None:
    hosts = (Host("a", None, contracted=("0002",)), Host("b", None, contracted=("0002", "0004")))
    assert Fleet(hosts).contracted() == {"0002", "0004"}


def test_versions_are_ordered_as_the_hosts_order_them() -> None:
    names = [
        *("v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.beta", "v1.0.0-beta.2", "v1.0.0-beta.11"),
        *("v1.0.0-rc.1", "v1.0.0", "v1.9.0", "v1.10.0", "v2.0.0"),
    ]
    mixed = names[::-2] + names[::2]
    assert sorted(set(mixed), key=precedence) == names
    assert sorted(set(mixed), key=versions_of_hosts.precedence) == names


def test_a_python_that_the_tag_does_not_take_is_loud(
    workshop: Workshop, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = '[project]\nname = "quay"\nversion = "1"\nrequires-python = ">=3.{}"\n'
    released(workshop, "v1.0.0", {"pyproject.toml": project.format(10)})
    released(workshop, "v1.1.0", {"pyproject.toml": project.format(12)})
    hosts = {
        "web1": {"current": "v1.0.0", "target": "3.11-x86_64"},
        "web2": {"current": "v1.0.0", "target": "3.13-x86_64", "uv": "0.12.0"},
    }
    monkeypatch.setattr(requirements, "of_uv", lambda _kit: workshop.uv)
    text = told(capsys, asked(workshop, "v1.1.0", fleet_of(monkeypatch, hosts=hosts)))
    assert "Python: >=3.10 → >=3.12" in text
    assert "NOT POSSIBLE: the tag does not take the Python of web1\n" in text
    assert "uv: 0.12.0 → 0.13.0" in text


def test_only_what_these_hosts_install_counts(
    workshop: Workshop, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = pinned(workshop, "sail-1.0").replace(" --", " ; python_version < '3.12' --")
    released(workshop, "v1.0.0", {})
    lines = pinned(workshop, "mast-1.0") + marked
    released(workshop, "v1.1.0", {"requirements.txt": lines})
    for minor, changes in ((11, 1), (13, 0)):
        hosts = {"web1": {"current": "v1.0.0", "target": f"3.{minor}-x86_64"}}
        arguments = asked(workshop, "v1.1.0", fleet_of(monkeypatch, hosts=hosts))
        (group,) = planned(capsys, arguments)["groups"]
        assert len(group["dependencies"]["changes"]) == changes


@pytest.mark.parametrize(("point", "said"), [(True, "taken before"), (False, "none")])
def test_the_restore_point_is_told(
    workshop: Workshop,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    point: bool,
    said: str,
) -> None:
    released(workshop, "v1.0.0", {})
    hosts = {"web1": {"current": None, "restore_point": point}}
    text = told(capsys, asked(workshop, "v1.0.0", fleet_of(monkeypatch, hosts=hosts)))
    assert f"Restore point: {said}" in text


def test_a_lock_that_cannot_be_read_is_told_and_the_rest_as_well(
    workshop: Workshop, capsys: Captured
) -> None:
    released(workshop, "v1.0.0", {})
    released(workshop, "v1.1.0", {"requirements.txt": "mast>=1.0\n"})
    text = told(capsys, asked(workshop, "v1.1.0", "--from=v1.0.0"))
    assert "The dependencies cannot be compared: requirements.txt has 'mast>=1.0'" in text
    assert "Commits: 1" in text


def test_it_is_a_command(workshop: Workshop) -> None:
    released(workshop, "v1.0.0", {})
    command = [sys.executable, "-m", "deploy.plan", *asked(workshop, "v1.0.0", "--text")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("every host: nothing → v1.0.0")
    assert not (workshop.folder / "plans").exists()
