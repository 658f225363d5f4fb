"""The module that writes the files of a concern in one exchange."""

import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Runs the module as a host would; answers what it says."""
    given = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}
    program = (
        "import sys; from ansible.module_utils.testing import patch_module_args\n"
        "import json, runpy\n"
        "values = json.load(sys.stdin)['ANSIBLE_MODULE_ARGS']\n"
        "with patch_module_args(values):\n"
        f"    runpy.run_path({str(ROOT / 'library/config_files.py')!r}, run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


@pytest.fixture
def own() -> dict[str, str]:
    """The user and group of this process, who may own files without being root."""
    return {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def test_it_writes_what_differs_and_nothing_the_second_time(
    tmp_path: Path, own: dict[str, str]
) -> None:
    path = tmp_path / "new" / "folder" / "file"
    wanted = [{"path": str(path), "content": "one\n", "mode": "0600", **own}]
    first = run(files=wanted)
    assert first["changed"]
    assert first["paths"] == [str(path)]
    assert first["diff"] == [
        {"before_header": str(path), "after_header": str(path), "before": "", "after": "one\n"}
    ]
    assert path.read_text() == "one\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert not run(files=wanted)["changed"]
    path.chmod(0o644)
    assert run(files=wanted)["changed"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_check_changes_nothing_and_tells_the_same(tmp_path: Path, own: dict[str, str]) -> None:
    path = tmp_path / "new" / "file"
    wanted = [{"path": str(path), "content": "one\n", **own}]
    folders = [{"path": str(tmp_path / "place"), **own}]
    checked = run(check=True, files=wanted, folders=folders)
    assert list(tmp_path.iterdir()) == []
    assert run(files=wanted, folders=folders)["diff"] == checked["diff"]


def test_one_refused_file_leaves_all_as_they_were(tmp_path: Path, own: dict[str, str]) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("old")
    bad.write_text("old")
    answer = run(
        files=[
            {"path": str(good), "content": "new", **own},
            {"path": str(bad), "content": "new", "validate": "grep old %s", **own},
        ]
    )
    assert answer["failed"]
    assert f"The new {bad} is refused by `grep`" in answer["msg"]
    assert good.read_text() == bad.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "good"]


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(
    tmp_path: Path, own: dict[str, str]
) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert run(files=[{"path": str(link), "content": "new", **own}])["changed"]
    assert not link.is_symlink()
    assert target.read_text() == "untouched"


def test_an_unknown_owner_is_named_but_only_expected_in_a_check(
    tmp_path: Path, own: dict[str, str]
) -> None:
    wanted = [{"path": str(tmp_path / "file"), "content": "", "owner": "nobody-of-that-name"}]
    assert run(check=True, files=wanted)["changed"]
    assert "there is no user nobody-of-that-name" in run(files=wanted)["msg"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_listed_any_more_is_deleted(tmp_path: Path, own: dict[str, str]) -> None:
    kept, gone, other = (tmp_path / name for name in ("quay.a@", "quay.b@", "quay-c@"))
    for path in (kept, gone, other):
        path.write_text("unit\n")
    wanted: dict[str, Any] = {
        "files": [{"path": str(kept), "content": "unit\n", **own}],
        "exclusive": [f"{tmp_path}/quay.*@"],
    }
    assert run(check=True, **wanted)["paths"] == [str(gone)]
    assert gone.exists()
    assert run(**wanted)["paths"] == [str(gone)]
    assert not gone.exists()
    assert kept.exists()
    assert other.exists()
    assert run(**wanted)["changed"] is False


def test_what_no_handler_has_loaded_stays_changed(tmp_path: Path, own: dict[str, str]) -> None:
    mark = tmp_path / "folder of its own" / "mark"
    wanted: dict[str, Any] = {
        "files": [{"path": str(tmp_path / "file"), "content": "one\n", **own}],
        "pending": str(mark),
    }
    assert run(check=True, **wanted)["changed"]
    assert not mark.parent.exists()
    assert run(**wanted)["changed"]
    # The run was cut off here; a check does not take the mark away.
    for check in (False, True, False):
        again = run(check, **wanted)
        assert again["changed"]
        assert again["paths"] == []
        assert "an earlier run was cut off" in again["diff"][0]["prepared"]
    mark.unlink()
    assert not run(**wanted)["changed"]
    assert not mark.exists()


def test_the_mark_is_there_before_the_first_file_changes(
    tmp_path: Path, own: dict[str, str]
) -> None:
    # Nothing can be renamed to a folder's place: the module ends amid its work.
    (tmp_path / "b" / "full").mkdir(parents=True)
    files = [{"path": str(tmp_path / name), "content": "new\n", **own} for name in ("a", "b")]
    mark = tmp_path / "mark"
    with pytest.raises(AssertionError, match="IsADirectoryError"):
        run(files=files, pending=str(mark))
    assert (tmp_path / "a").read_text() == "new\n"
    assert mark.exists()


def test_a_refused_file_leaves_no_mark(tmp_path: Path, own: dict[str, str]) -> None:
    file = {"path": str(tmp_path / "file"), "content": "new", "validate": "false %s", **own}
    assert run(files=[file], pending=str(tmp_path / "mark"))["failed"]
    assert list(tmp_path.iterdir()) == []


def test_a_link_takes_the_place_of_a_file(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "folder" / "link"
    wanted = [{"path": str(path), "src": str(target)}]
    assert run(check=True, links=wanted)["changed"]
    assert list(tmp_path.iterdir()) == []
    assert run(links=wanted)["paths"] == [str(path)]
    assert path.readlink() == target
    assert not run(links=wanted)["changed"]
    path.unlink()
    path.write_text("a placeholder")
    assert run(links=wanted)["changed"]
    assert path.readlink() == target
    assert [one.name for one in path.parent.iterdir()] == ["link"]
