"""The runner of the checks stops at a failure and still tells times and counts."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.controller import checks, phases
from deploy.controller.checks import Step
from deploy.logged import ROOT

REPORT = (
    '<testsuites><testsuite tests="{tests}" failures="{failures}" errors="{errors}" '
    'skipped="{skipped}"/></testsuites>'
)


def python(name: str, code: str, **options: bool | tuple[str, ...]) -> Step:
    return Step(name, (sys.executable, "-c", code), **options)  # type: ignore[arg-type]


def pytest_like(
    name: str, tests: int, failures: int = 0, errors: int = 0, skipped: int = 0
) -> Step:
    """A step that writes a report where pytest would."""
    report = REPORT.format(tests=tests, failures=failures, errors=errors, skipped=skipped)
    code = (
        "import os, pathlib, re, sys\n"
        "path = re.search('--junit-xml=(\\\\S+)', os.environ['PYTEST_ADDOPTS'])[1]\n"
        f"pathlib.Path(path).write_text({report!r})\n"
        f"sys.exit({int(bool(failures or errors))})"
    )
    return python(name, code, reports=True)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def _run(**steps: list[Step]) -> tuple[int, str]:
        monkeypatch.setattr(phases, "ROOT", tmp_path)
        monkeypatch.setattr(phases, "REPORTS", tmp_path / "reports")
        table = {name: (lambda _, chosen=chosen: chosen) for name, chosen in steps.items()}
        monkeypatch.setattr(phases, "PHASES", table)
        code = phases.main(list(steps))
        return code, capfd.readouterr().out

    return _run


def test_tests_of_all_phases_are_summed(run: Callable[..., tuple[int, str]]) -> None:
    host = python("host", "pass", counts=True)
    code, said = run(one=[pytest_like("a", 5, skipped=1)], two=[pytest_like("b", 3), host])

    assert code == 0
    assert said.splitlines()[-1] == "8 passed, 0 failed"


def test_the_first_failing_phase_is_the_last_that_runs(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    never = python("never", f"open({str(tmp_path / 'ran')!r}, 'w')")
    code, said = run(
        one=[pytest_like("a", 2)], two=[pytest_like("b", 4, failures=1, errors=1)], three=[never]
    )

    assert code == 1
    assert not (tmp_path / "ran").exists()
    assert said.splitlines()[-1] == "4 passed, 2 failed"
    assert [
        line.split()[:2] for line in said.splitlines() if line[:3] in {"one", "two", "thr"}
    ] == [
        ["one", "ok"],
        ["two", "FAILED"],
        ["three", "not"],
    ]


def test_the_summary_tells_which_tests_failed_and_why(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    written = tmp_path / "test_written.py"
    written.write_text(
        "import pytest\n"
        "@pytest.fixture\ndef host(): raise OSError('no route to web1')\n"
        "def test_sum(): assert 1 + 1 == 3, 'the sum is wrong'\n"
        "def test_host(host): pass\n"
    )
    command = (sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", str(written))
    _, said = run(one=[Step("real", command, reports=True)], two=[])

    told = said[said.index("two           not run") :].splitlines()
    assert told[-1] == "0 passed, 2 failed"
    failures = [line for line in told if line.startswith("FAILED")]
    assert len(failures) == 2
    assert "test_written.test_sum: AssertionError: the sum is wrong" in failures[0]
    assert "test_written.test_host: " in failures[1]
    assert "no route to web1" in failures[1]


def test_a_failing_check_shows_what_it_said(run: Callable[..., tuple[int, str]]) -> None:
    good = python("good", "print('chatter')")
    bad = python("bad", "print('line 7 is wrong'); raise SystemExit(3)")
    code, said = run(lint=[good, bad])

    assert code == 1
    assert "line 7 is wrong" in said
    assert "chatter" not in said
    assert said.splitlines()[-1] == "0 passed, 1 failed"


def test_every_linter_has_its_say(run: Callable[..., tuple[int, str]]) -> None:
    bad = python("bad", "raise SystemExit(1)")
    code, said = run(lint=[bad, python("worse", "print('and line 9'); raise SystemExit(1)")])

    assert code == 1
    assert "and line 9" in said
    assert said.splitlines()[-1] == "0 passed, 2 failed"


def test_a_test_run_that_dies_without_a_report_has_failed(
    run: Callable[..., tuple[int, str]],
) -> None:
    code, said = run(app=[python("app", "raise SystemExit(4)", reports=True)])

    assert code == 1
    assert said.splitlines()[-1] == "0 passed, 1 failed"


def test_progress_of_a_quiet_step_is_shown(run: Callable[..., tuple[int, str]]) -> None:
    _, said = run(hosts=[python("host", "print('PLAY [x]'); print('noise')", progress=("PLAY",))])

    assert "PLAY [x]" in said
    assert "noise" not in said


def test_steps_beside_each_other_run_at_once_and_both_count(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    meet = (
        "import pathlib, sys, time\n"
        f"mine, other = (pathlib.Path({str(tmp_path)!r}) / name for name in {{names}})\n"
        "mine.touch()\n"
        "end = time.monotonic() + 20\n"
        "while not other.exists() and time.monotonic() < end: time.sleep(0.05)\n"
        "sys.exit(not other.exists())"
    )
    one = python("one", meet.format(names=("a", "b")), counts=True)
    two = python("two", meet.format(names=("b", "a")), counts=True, beside=True)
    bad = python("bad", "print('no host'); raise SystemExit(2)", counts=True, beside=True)
    code, said = run(hosts=[one, two])
    assert (code, said.splitlines()[-1]) == (0, "2 passed, 0 failed")
    code, said = run(hosts=[one, two, bad])
    assert (code, said.splitlines()[-1]) == (1, "2 passed, 1 failed")
    assert "no host" in said


def test_the_longest_scenario_begins_first_and_the_others_run_beside_it() -> None:
    groups = phases.abreast(checks.hosts_phase(ROOT))
    assert [[step.name for step in group] for group in groups] == [
        ["lab"],
        ["debian-12", "fleet", "debian-13"],
    ]


def test_nothing_waits_for_a_keyboard(run: Callable[..., tuple[int, str]]) -> None:
    code, _ = run(lint=[python("reads", "import sys; assert sys.stdin.read() == ''")])

    assert code == 0


def test_every_script_and_every_scenario_is_checked() -> None:
    shellcheck = next(step for step in checks.lint_phase(ROOT) if step.name == "shellcheck")
    hosts = [step.name for step in checks.hosts_phase(ROOT)]

    assert {".ci/run", "deploy/controller/require.sh"} <= set(shellcheck.command)
    assert {"debian-12", "debian-13"} <= set(hosts)
