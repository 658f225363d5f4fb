"""Runs phases of checks one after the other and tells what came of them.

A phase is a list of steps; the first phase that fails ends the run. Whatever happened, the time of
each phase is told, with each test that failed and why; the last line counts the tests that passed
and failed.
"""

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy.controller.checks import PHASES, Step
from deploy.logged import ROOT, run_logged

REPORTS = ROOT / ".slipway/reports"
_LAST_LINES = 80
_LONGEST_REASON = 400
_AT_ONCE = 2


@dataclass
class Count:
    """Tests that ran: how many passed, failed and were skipped, and what the failed ones said."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Count") -> None:
        """Take the tests of another count as well."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures


@dataclass
class Outcome:
    """How a phase ended, and how many seconds it took."""

    name: str
    seconds: float = 0.0
    good: bool = True
    count: Count = field(default_factory=Count)


def main(arguments: list[str] | None = None) -> int:
    """Run the phases that are named.

    Args:
        arguments: Names of phases; those of the command line by default.

    Returns:
        0 when every step of every phase passed, 1 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.controller.phases", description=__doc__)
    parser.add_argument("phases", nargs="+", choices=[*PHASES], metavar="PHASE")
    wanted = parser.parse_args(arguments).phases
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    try:
        for name in wanted:
            outcomes.append(Outcome(name))
            run_phase(outcomes[-1])
            if not outcomes[-1].good:
                break
    except KeyboardInterrupt:
        say("Interrupted.")
    say("\n".join(summary(outcomes, wanted)))
    return 0 if all(outcome.good for outcome in outcomes) else 1


def run_phase(outcome: Outcome) -> None:
    """Run the steps of a phase, and write down how it went.

    A failing test run ends it; linters are quick, so that the others have their say as well.
    """
    started = time.monotonic()
    outcome.good = False
    try:
        for steps in abreast(PHASES[outcome.name](ROOT)):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                counts = list(pool.map(lambda step: run_step(step, outcome.name), steps))
            for counted in counts:
                outcome.count.add(counted)
            if any(
                counted.failed and step.reports for step, counted in zip(steps, counts, strict=True)
            ):
                break
        outcome.good = not outcome.count.failed
    finally:
        outcome.seconds = time.monotonic() - started


def abreast(steps: list[Step]) -> list[list[Step]]:
    """Put the steps together that run at the same time."""
    groups: list[list[Step]] = []
    for step in steps:
        if step.beside and groups:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def run_step(step: Step, phase: str) -> Count:
    """Run one step to its end and count its tests; one without tests counts when it fails."""
    started = time.monotonic()
    report = REPORTS / f"{step.name}.xml"
    report.unlink(missing_ok=True)
    environment = {**os.environ, **step.environment}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    if step.reports:
        environment["PYTEST_ADDOPTS"] = f"--junit-xml={report} -o junit_family=xunit2"
        say(f"== {phase}: {step.name}")
    if step.shown:
        code = subprocess.run(
            step.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False
        ).returncode
    else:
        code = _quietly(step, environment)
    counted = read_report(report) if step.reports else Count()
    if step.counts:
        counted.passed += code == 0
    if code and not counted.failed:
        counted.failed = 1
        counted.failures.append(f"{step.name}: ended with {code}")
    say(
        f"{'FAILED' if code else 'ok':>6}  {phase}: {step.name}  {time.monotonic() - started:.1f} s"
    )
    return counted


def _quietly(step: Step, environment: dict[str, str]) -> int:
    """Run a step into its log; only a failure, and the lines it marks as progress, are shown."""
    log = REPORTS / f"{step.name}.log"

    def tell(line: str) -> None:
        if step.progress and any(mark in line for mark in step.progress):
            say(f"        {step.name}: {line.strip()}")

    code = run_logged(step.command, log, tell, environment)
    if code:
        lines = log.read_text(encoding="utf-8").splitlines()
        say("\n".join(lines[-_LAST_LINES:]))
        if len(lines) > _LAST_LINES:
            say(f"        {len(lines) - _LAST_LINES} earlier lines are in {log.relative_to(ROOT)}")
    return code


def read_report(path: Path) -> Count:
    """Count the tests of a JUnit report; a report that was never written has none."""
    if not path.exists():
        return Count()
    # The report was written by the test run that this process started, on this machine.
    suites = ET.parse(path).getroot().iter("testsuite")  # noqa: S314
    count = Count()
    for suite in suites:
        failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        skipped = int(suite.get("skipped", "0"))
        total = int(suite.get("tests", "0"))
        failures = [line for case in suite.iter("testcase") for line in _failures(case)]
        count.add(Count(max(total - failed - skipped, 0), failed, skipped, failures))
    return count


def _failures(case: ET.Element) -> list[str]:
    """What a test of a report said when it failed, or when what it stands on did."""
    name = f"{case.get('classname', '')}.{case.get('name', '')}"
    reasons = [found.get("message", "") for found in case if found.tag in {"failure", "error"}]
    return [f"{name}: {' '.join(reason.split())[:_LONGEST_REASON]}" for reason in reasons]


def summary(outcomes: list[Outcome], wanted: list[str]) -> list[str]:
    """Tell the time of each phase, what was left out, and the tests of all of them."""
    total = Count()
    lines = [""]
    for outcome in outcomes:
        total.add(outcome.count)
        state = "ok" if outcome.good else "FAILED"
        skipped = f", {outcome.count.skipped} skipped" if outcome.count.skipped else ""
        lines.append(
            f"{outcome.name:<14}{state:<8}{outcome.seconds:8.1f} s   "
            f"{outcome.count.passed} passed, {outcome.count.failed} failed{skipped}"
        )
    lines += [f"{name:<14}not run" for name in wanted[len(outcomes) :]]
    lines += [f"FAILED  {failure}" for failure in total.failures]
    lines.append(f"{'together':<22}{sum(outcome.seconds for outcome in outcomes):8.1f} s")
    lines.append(f"{total.passed} passed, {total.failed} failed")
    return lines


def say(text: str) -> None:
    """Tell whoever waits, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
