"""What is checked, phase by phase; `make test` runs all of it."""

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

#: Least share of the branches of `app/` that the tests must reach, in percent.
COVERAGE = 90

#: Long phases that need no host share the processors, whole files at a time. Each process starts
#: servers of its own: more than a few of them take longer to start than they save. Files keep their
#: order: by the number of its tests, as pytest-xdist prefers, the longest file is often the last.
SHARED = ("-n", "auto", "--maxprocesses=4", "--dist=loadfile", "--no-loadscope-reorder")


@dataclass(frozen=True)
class Step:
    """One command of a phase.

    Attributes:
        name: What it is called; its log and its report have this name.
        command: Program and arguments, run at the root of the clone.
        environment: Variables that it gets besides those of the operator.
        reports: Whether pytest runs in it and can write a report.
        counts: Whether it is a test by itself, besides those of its report.
        shown: Whether everything it prints is shown; otherwise only when it fails.
        progress: Parts of lines that are shown all the same.
        beside: Whether it may run at the same time as the step before it.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    reports: bool = False
    counts: bool = False
    shown: bool = False
    progress: tuple[str, ...] = ()
    beside: bool = False


def lint_phase(root: Path) -> list[Step]:
    """Everything that judges the sources without running them."""
    # Hidden folders hold packages and whole file systems of lab hosts.
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    scripts = sorted(path for folder in folders for path in folder.rglob("*.sh"))
    scripts.append(root / ".ci/run")
    playbooks = ("playbook.yml", *(f"deploy/{path.name}" for path in root.glob("deploy/*.yml")))
    steps = [
        # The longest one first: all others run beside it.
        Step("ansible-lint", ("ansible-lint", "--offline", "-q")),
        Step("ruff", ("ruff", "check", "--quiet", ".")),
        Step("ruff-format", ("ruff", "format", "--check", "--quiet", ".")),
        Step("mypy", ("mypy", "--no-error-summary")),
        Step("import-linter", ("lint-imports",)),
        Step("migrations", ("python", "-m", "deploy.migrations", "lint")),
        Step("shellcheck", ("shellcheck", *(str(path.relative_to(root)) for path in scripts))),
        Step("yamllint", ("yamllint", "--strict", ".")),
        *_pipeline_steps(root),
        Step(
            "syntax",
            ("ansible-playbook", "-i", "inventories/production", "--syntax-check", *playbooks),
        ),
    ]
    return [replace(step, beside=True) for step in steps]


def _pipeline_steps(root: Path) -> list[Step]:
    """The pipelines against the schemas of their services, of which the linter has copies."""
    check = ("check-jsonschema", "--builtin-schema")
    workflows = [str(path.relative_to(root)) for path in sorted(root.glob(".github/workflows/*"))]
    return [
        Step("workflows", (*check, "vendor.github-workflows", *workflows)),
        Step("workflow-timeouts", (*check, "custom.github-workflows-require-timeout", *workflows)),
        Step(
            "gitlab-ci",
            (*check, "vendor.gitlab-ci", "--data-transform", "gitlab-ci", ".gitlab-ci.yml"),
        ),
    ]


def roles_phase(_: Path) -> list[Step]:
    """Templates, specs and inventories, without a host."""
    return [_bytecode(), _pytest("roles", "tests/roles", *SHARED)]


def app_phase(root: Path) -> list[Step]:
    """The service against a real PostgreSQL and Redis."""
    # The migrations, a few long tests, first.
    folders = [*(["tests/migrations"] if (root / "tests/migrations").exists() else []), "tests/app"]
    coverage = ("--cov=app", "--cov-branch", f"--cov-fail-under={COVERAGE}")
    return [_bytecode(), _pytest("app", *folders, *SHARED, *coverage)]


def release_phase(_: Path) -> list[Step]:
    """The release on the host, the artifact, the operator's commands and the set-up."""
    return [_bytecode(), _pytest("release", "tests/release", "tests/deploy", *SHARED)]


def hosts_phase(root: Path) -> list[Step]:
    """Booted hosts from bare to serving, seen from outside.

    A scenario leaves about half of two processors idle, so that two of them run at the same time.
    The longest begins first.
    """
    named = {path.parent.name for path in root.glob("tests/hosts/*/molecule.yml")}
    first = [name for name in ("debian-12", "fleet") if name in named]
    longest, *others = (
        _scenario(root, name, {}) for name in [*first, *sorted(named.difference(first))]
    )
    beside = [replace(step, beside=True) for step in others]
    return [_pytest("lab", "tests/lab"), longest, *beside]


def faults_phase(root: Path) -> list[Step]:
    """One host, whose releases are hit at every step instead of a few."""
    return [_scenario(root, "debian-12", {"SLIPWAY_FAULTS": "all"})]


def _scenario(root: Path, name: str, environment: dict[str, str]) -> Step:
    return Step(
        name,
        ("molecule", "test", "--scenario-name", name),
        environment={
            "MOLECULE_GLOB": "tests/hosts/*/molecule.yml",
            # Molecule reads no ansible.cfg and would keep its state in the home folder.
            "ANSIBLE_HOME": str(root / ".ansible"),
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        reports=True,
        counts=True,
        progress=("] Executing", "PLAY [", "changed=", " passed in ", " failed, "),
    )


def _bytecode() -> Step:
    """The installed packages, compiled once.

    The tests start hundreds of processes that write no bytecode. Without it each of them compiles
    what it imports, which takes three times as long as the import.
    """
    packages = sysconfig.get_path("purelib")
    # The modules of Ansible are most of the files, and run on hosts.
    choices = ("-q", "-j", "0", "-x", "/ansible/modules/|/ansible_collections/")
    return Step("bytecode", ("python", "-m", "compileall", *choices, packages))


def _pytest(name: str, *arguments: str) -> Step:
    return Step(name, ("python", "-m", "pytest", "-q", *arguments), reports=True, shown=True)


PHASES: dict[str, Callable[[Path], list[Step]]] = {
    "lint": lint_phase,
    "test-roles": roles_phase,
    "test-app": app_phase,
    "test-release": release_phase,
    "test-hosts": hosts_phase,
    "test-faults": faults_phase,
}
