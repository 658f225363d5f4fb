"""The pipelines call `make` and nothing else, hand one artifact on, and keep their secrets."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.controller.checks import lint_phase

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GITLAB = ROOT / ".gitlab-ci.yml"
# One target of make and its variables: no second command, no pipe, no expression of the service.
CALL = re.compile(r'(?:sudo )?make ([a-z-]+)(?: [A-Z0-9]+=(?:"[\w$/.-]*"|[\w/.-]+))*')
Document = dict[str, Any]


def load(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def targets() -> set[str]:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    return {name for line in lines if line.startswith(".PHONY:") for name in line.split()[1:]}


def steps(workflow: Document) -> Iterator[tuple[str, Document]]:
    for name, job in workflow["jobs"].items():
        for step in job["steps"]:
            yield name, step


def calls(job: Document) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def workflow_faults(workflow: Document) -> list[str]:
    """Everything by which a workflow breaks the rules of this kit."""
    faults = []
    if workflow["permissions"] not in ({}, {"contents": "read"}):
        faults.append("the workflow may do more than read")
    if "secrets." in str(workflow.get("env")):
        faults.append("a secret is in the environment of every job")
    for name, step in steps(workflow):
        faults += [f"{name}: {fault}" for fault in step_faults(step)]
    for name, job in workflow["jobs"].items():
        if job.get("permissions", {"contents": "read"}) != {"contents": "read"}:
            faults.append(f"{name}: may do more than read")
        if "secrets." in str(job.get("env")):
            faults.append(f"{name}: a secret is in the environment of every step")
        if re.search("make (release|rollback)", str(calls(job))):
            faults += [f"{name}: {fault}" for fault in deployment_faults(job)]
    return faults


def step_faults(step: Document) -> Iterator[str]:
    if "uses" in step:
        if re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]) is None:
            yield f"{step['uses']} is not pinned"
        if "checkout" in step["uses"] and step["with"]["persist-credentials"] is not False:
            yield "the clone keeps the token"
        return
    found = CALL.fullmatch(step["run"])
    if found is None or found[1] not in targets():
        yield f"{step['run']!r} is no call of make"
    elif "secrets." in str(step) and found[1] != "credentials":
        yield f"{step['run']!r} gets a secret"


def deployment_faults(job: Document) -> Iterator[str]:
    environment = job.get("environment")
    lock = job.get("concurrency", {})
    if not environment:
        yield "has no environment, and so no approval"
    if lock.get("group") != f"slipway-{environment}" or lock.get("cancel-in-progress") is not False:
        yield "may run beside another one, or be cancelled by it"
    last = job["steps"][-1]
    if last.get("if") != "always()" or "make credentials-end" not in last["run"]:
        yield "leaves its credentials behind"
    release = next((step for step in job["steps"] if "make release" in step.get("run", "")), None)
    if release is not None:
        wanted = {
            "INVENTORY": f"inventories/{environment}",
            "ARTIFACT": "dist/${{ needs.build.outputs.file }}",
            "SHA256": "${{ needs.build.outputs.sha256 }}",
        }
        if release.get("env") != wanted or "build" not in job["needs"]:
            yield "does not release what was built"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_keeps_the_rules(path: Path) -> None:
    assert workflow_faults(load(path)) == []


def test_actions_are_told_with_their_versions() -> None:
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines()]
    used = [line for line in lines if "uses:" in line]
    assert used
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in used)


def edited(change: Callable[[Document], object]) -> list[str]:
    workflow = copy.deepcopy(load(ROOT / ".github/workflows/release.yml"))
    change(workflow["jobs"]["production"])
    return workflow_faults(workflow)


def test_a_broken_rule_is_seen() -> None:
    secret = {"KEY": "${{ secrets.SLIPWAY_SSH_KEY }}"}
    fault = "production: may run beside another one, or be cancelled by it"
    assert edited(lambda job: job.pop("concurrency")) == [fault]
    assert "has no environment" in edited(lambda job: job.pop("environment"))[0]
    (fault,) = edited(lambda job: job["steps"][0].update(uses="actions/checkout@v7"))
    assert fault.endswith("is not pinned")
    (fault,) = edited(lambda job: job["steps"].pop())
    assert "leaves its credentials behind" in fault
    (fault,) = edited(lambda job: job["steps"][3]["env"].pop("SHA256"))
    assert "does not release what was built" in fault
    assert "gets a secret" in edited(lambda job: job["steps"][3]["env"].update(secret))[0]
    assert "secret is in" in edited(lambda job: job.update(env=secret))[0]
    for command in ("make everything", "make lint && curl x", "make release V=${{ inputs.x }}"):
        extra = {"run": command}

        def insert(job: Document, extra: Document = extra) -> None:
            job["steps"].insert(0, extra)

        fault, *_ = edited(insert)
        assert "is no call of make" in fault


def test_a_tag_is_verified_tested_built_once_and_approved() -> None:
    workflow = load(ROOT / ".github/workflows/release.yml")
    jobs = workflow["jobs"]
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    order = {name: job.get("needs") for name, job in jobs.items()}
    assert order == {
        "verify": None,
        "test": "verify",
        "build": "test",
        "staging": "build",
        "production": ["build", "staging"],
    }
    built = [name for name, job in jobs.items() if "make artifact" in str(calls(job))]
    assert built == ["build"]
    assert jobs["staging"]["environment"] == "staging"
    assert jobs["production"]["environment"] == "production"
    rollback = load(ROOT / ".github/workflows/rollback.yml")
    assert list(rollback["on"]) == ["workflow_dispatch"]
    assert rollback["jobs"]["rollback"]["environment"] == "${{ inputs.environment }}"


def gitlab_jobs() -> dict[str, Document]:
    """The jobs with what they extend."""
    document = load(GITLAB)

    def whole(job: Document) -> Document:
        base = whole(document[job["extends"]]) if "extends" in job else {}
        variables = {**base.get("variables", {}), **job.get("variables", {})}
        return {**base, **job, "variables": variables}

    jobs = {
        name: job for name, job in document.items() if isinstance(job, dict) and "script" in job
    }
    jobs |= {name: job for name, job in document.items() if "extends" in job}
    return {name: whole(job) for name, job in jobs.items() if not name.startswith(".")}


def test_gitlab_calls_make_and_nothing_else() -> None:
    lines = [line for job in gitlab_jobs().values() for line in job["script"]]
    for line in lines + [
        line for job in gitlab_jobs().values() for line in job.get("after_script", [])
    ]:
        found = CALL.fullmatch(line)
        assert found, line
        assert found[1] in targets(), line
    called = {line.split()[1] for line in lines}
    assert called == {"lint", "test", "credentials", "verify", "artifact", "release", "rollback"}


def test_gitlab_releases_one_artifact_one_at_a_time_after_an_approval() -> None:
    jobs = gitlab_jobs()
    deploying = [name for name in jobs if re.search("make (release|rollback)", str(jobs[name]))]
    assert deploying == ["staging", "production", "rollback-staging", "rollback-production"]
    for name in deploying:
        job, environment = jobs[name], name.removeprefix("rollback-")
        assert job["environment"] == job["resource_group"] == environment
        assert job["variables"]["INVENTORY"] == f"inventories/{environment}"
        assert job["after_script"] == ["make credentials-end"]
        (rule,) = job["rules"]
        assert rule.get("when") == ("manual" if environment == "production" else None)
    for name in ("staging", "production"):
        assert 'ARTIFACT="dist/$artifact_file" SHA256="$artifact_sha256"' in str(jobs[name])
        assert "build" in jobs[name]["needs"]
    assert "staging" in jobs["production"]["needs"]
    assert jobs["test"]["needs"] == jobs["lint"]["needs"] == [{"job": "verify", "optional": True}]


def test_host_keys_are_always_checked() -> None:
    texts = [path.read_text() for path in (*WORKFLOWS, GITLAB, ROOT / "Makefile")]
    for setting in (
        "StrictHostKeyChecking=no",
        "StrictHostKeyChecking=accept",
        "HOST_KEY_CHECKING",
    ):
        assert not any(setting in text for text in texts)
    assert "StrictHostKeyChecking=yes" in texts[-1]


def schema_step(folder: Path, name: str) -> int:
    (step,) = [step for step in lint_phase(folder) if step.name == name]
    program = Path(sys.executable).with_name(step.command[0])
    return subprocess.run(
        [str(program), *step.command[1:]], cwd=folder, capture_output=True, check=False, timeout=60
    ).returncode


@pytest.mark.parametrize(
    ("name", "file", "good", "bad"),
    [
        ("workflows", ".github/workflows/release.yml", "runs-on:", "runs-at:"),
        ("workflow-timeouts", ".github/workflows/check.yml", "    timeout-minutes: 15\n", ""),
        ("gitlab-ci", ".gitlab-ci.yml", "resource_group:", "resource-group:"),
    ],
)
def test_the_lint_refuses_what_the_service_would_not_take(
    tmp_path: Path, name: str, file: str, good: str, bad: str
) -> None:
    for path in (*WORKFLOWS, GITLAB):
        copied = tmp_path / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(path.read_text())
    assert schema_step(tmp_path, name) == 0
    text = (tmp_path / file).read_text()
    assert good in text
    (tmp_path / file).write_text(text.replace(good, bad))
    assert schema_step(tmp_path, name) == 1
