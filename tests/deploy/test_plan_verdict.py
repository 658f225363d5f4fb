"""The plan of a release says of each revision whether it is safe."""

import json
import shutil
from pathlib import Path

import pytest

from deploy.migrations import squawk
from tests.deploy.test_artifact import Captured, Workshop, workshop
from tests.deploy.test_plan import asked, planned, told

__all__ = ["workshop"]

# Prints what is in plan.json, as the command of another team's service would.
COMMAND = (
    "import json, sys\n"
    "start = sys.argv[-1]\n"
    "found = [one for one in json.load(open('plan.json')) "
    "if start == 'base' or one['revision'] > start]\n"
    "names = [one['revision'] for one in found]\n"
    "print(json.dumps({'pending': found, 'runs': names, 'waits': []}))\n"
)
CHECKED = "ALTER TABLE keel ADD CONSTRAINT wet CHECK (depth IS NOT NULL) NOT VALID;"
VALID = "ALTER TABLE keel VALIDATE CONSTRAINT wet;"
REQUIRED = "ALTER TABLE keel ALTER COLUMN depth SET NOT NULL;"


def commit(
    workshop: Workshop, tag: str, statements: list[tuple[str, str]], accepts: str = ""
) -> None:
    """Commit a tree with revisions; the last one accepts what is said."""
    files = {"alembic.ini": "[alembic]\nscript_location = schema\n", "plan.py": COMMAND}
    plan = []
    for number, (phase, sql) in enumerate(statements, 1):
        name, last = f"{number:04}", number == len(statements)
        down = f"{number - 1:04}" if number > 1 else None
        files[f"schema/versions/{name}_x.py"] = (
            f"revision = {name!r}\ndown_revision = {down!r}\nphase = {phase!r}\n"
            f"{accepts if last else ''}\n"
        )
        plan.append({"revision": name, "phase": phase, "sql": f"BEGIN;\n{sql}\nCOMMIT;"})
    workshop.commit({**files, "plan.json": json.dumps(plan)})
    workshop.tag(tag)


def said(workshop: Workshop, capsys: Captured, command: str = "python plan.py") -> list[str]:
    text = told(capsys, asked(workshop, "v1.1.0", "--from=v1.0.0", f"--command={command}"))
    lines = [line.strip() for line in text.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("Lint: "))
    return lines[start:]


@pytest.fixture
def first(workshop: Workshop) -> list[tuple[str, str]]:
    statements = [("expand", "CREATE TABLE keel (depth integer);")]
    commit(workshop, "v1.0.0", statements)
    return statements


def test_safe_and_unsafe_revisions_are_told_apart(
    workshop: Workshop, capsys: Captured, first: list[tuple[str, str]]
) -> None:
    safe = ("expand", "ALTER TABLE keel ADD COLUMN name text;")
    drop = ("expand", "ALTER TABLE keel DROP COLUMN depth;")
    commit(workshop, "v1.1.0", [*first, safe, drop])
    lines = said(workshop, capsys)
    assert lines[0] == "Lint: UNSAFE"
    assert lines[1].startswith(
        "0003: ban-drop-column: ALTER TABLE keel DROP COLUMN depth: Dropping a column may break"
    )
    assert lines[2] == "0002: safe"
    arguments = asked(workshop, "v1.1.0", "--from=v1.0.0", "--command=python plan.py")
    (group,) = planned(capsys, arguments)["groups"]
    assert group["schema"]["verdict"]["unsafe"] is True


def test_what_a_revision_accepts_is_told_with_the_reason(
    workshop: Workshop, capsys: Captured, first: list[tuple[str, str]]
) -> None:
    drop = ("expand", "ALTER TABLE keel DROP COLUMN depth;")
    accepts = "lint_accepts = {'ban-drop-column': 'Nobody dives.'}"
    commit(workshop, "v1.1.0", [*first, drop], accepts)
    assert said(workshop, capsys)[:2] == [
        "Lint: safe",
        "0002: safe; accepts ban-drop-column: Nobody dives.",
    ]


def test_a_constraint_of_an_earlier_release_counts(
    workshop: Workshop, capsys: Captured, first: list[tuple[str, str]]
) -> None:
    before = [*first, ("expand", CHECKED), ("expand", VALID)]
    commit(workshop, "v1.0.1", before)
    commit(workshop, "v1.1.0", [*before, ("expand", REQUIRED)])
    arguments = asked(workshop, "v1.1.0", "--from=v1.0.1", "--command=python plan.py")
    assert "Lint: safe" in told(capsys, arguments)
    commit(workshop, "v1.2.0", [*first, ("expand", REQUIRED)])
    arguments = asked(workshop, "v1.2.0", "--from=v1.0.0", "--command=python plan.py")
    assert "0002: adding-not-nullable-field" in told(capsys, arguments)


def test_only_what_concerns_the_database_is_told(
    workshop: Workshop, capsys: Captured, first: list[tuple[str, str]]
) -> None:
    needless = "lint_accepts = {'ban-drop-column': 'Nobody dives.'}"
    commit(workshop, "v1.1.0", [*first, ("expand", VALID)], needless)
    assert said(workshop, capsys)[:2] == ["Lint: safe", "0002: safe"]
    hiding = "def upgrade() -> None:\n    op.get_bind()"
    commit(workshop, "v1.2.0", [*first, ("expand", VALID)], hiding)
    arguments = asked(workshop, "v1.2.0", "--from=v1.0.0", "--command=python plan.py")
    text = told(capsys, arguments)
    assert "0002: hidden-from-the-plan: What it does with get_bind is not in the SQL" in text


def test_a_lint_that_cannot_be_asked_is_told(
    workshop: Workshop,
    capsys: Captured,
    first: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    commit(workshop, "v1.1.0", [*first, ("expand", VALID)])
    broken = tmp_path / "broken"
    shutil.copy("/bin/false", broken)
    monkeypatch.setattr(squawk, "_program", lambda: str(broken))
    lines = said(workshop, capsys)
    assert lines[0] == "Lint: not asked"
    assert "The lint cannot be asked: squawk failed: exit status 1" in lines
