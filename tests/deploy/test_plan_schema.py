"""The revisions that a release brings are told in the SQL of the tag's own tree."""

import dataclasses
import json
from pathlib import Path

import pytest

from deploy.artifact.repository import Repository
from deploy.plan.plan import UPGRADE, Group, Plan
from deploy.plan.schema import Revision, Schema, Verdict, Workplace, difference, with_sql
from deploy.plan.text import lines
from tests.deploy.test_artifact import Captured, Workshop, git, wheel, workshop
from tests.deploy.test_plan import asked as asked_for
from tests.deploy.test_plan import planned, told

__all__ = ["workshop"]

HISTORY = [
    Revision("0001", "expand"),
    Revision("0002", "expand"),
    Revision("0003", "contract"),
    Revision("0004", "expand"),
]

# Stands for `python -m migrations plan --json`: it needs a package, and tells what it can see.
PLAN = """
import json, os, pathlib, sys
import mast
start = sys.argv[sys.argv.index("--from") + 1]
all = {"0001": "expand", "0002": "expand", "0003": "contract", "0004": "expand"}
pending = [
    {"revision": name, "phase": phase, "summary": f"The {name}",
     "sql": f"ALTER {name} {mast.answer};"}
    for name, phase in all.items() if name > start or start == "base"
]
pathlib.Path("../seen.json").write_text(json.dumps(dict(os.environ)))
print(json.dumps({"current": start, "head": "0004", "pending": pending,
                  "runs": ["0001", "0002"], "waits": ["0003", "0004"]}))
"""


def brought(schema: Schema) -> list[str]:
    return [revision.id for revision in schema.pending]


def versioned(name: str, phase: str) -> dict[str, str]:
    down = f"'{int(name) - 1:04}'" if name != "0001" else None
    text = f"revision = '{name}'\ndown_revision = {down}\nphase = '{phase}'\n"
    return {f"schema/versions/{name}_x.py": text}


def test_the_whole_plan_tells_them(workshop: Workshop, capsys: Captured) -> None:
    ini = {"alembic.ini": "[alembic]\nscript_location = schema\n", "plan.py": PLAN.lstrip()}
    workshop.commit(ini | versioned("0001", "expand") | versioned("0002", "expand"))
    workshop.tag()
    workshop.commit(versioned("0003", "contract") | versioned("0004", "expand"))
    workshop.tag("v1.1.0")
    arguments = asked_for(workshop, "v1.1.0", "--from=v1.0.0", "--command=python plan.py")
    seen = [line.strip() for line in told(capsys, arguments).splitlines()]
    start = seen.index("Migrations: none would run, 2 wait")
    assert seen[start + 1 : start + 5] == [
        "0003 (contract, waits for `slipway contract`): The 0003",
        "ALTER 0003 42;",
        "0004 (expand, waits behind `slipway contract`): The 0004",
        "ALTER 0004 42;",
    ]
    (group,) = planned(capsys, asked_for(workshop, "v1.1.0", "--from=v1.0.0"))["groups"]
    assert [one["id"] for one in group["schema"]["pending"]] == ["0003", "0004"]
    back = told(capsys, asked_for(workshop, "v1.0.0", "--from=v1.1.0"))
    assert "Revisions that stay, though the tag lacks them: 0003, 0004" in back


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, ["Lint: not asked"]),
        (Verdict(unsafe=False), ["Lint: safe"]),
        (Verdict(unsafe=True, findings=("0001: drops x",)), ["Lint: UNSAFE", "  0001: drops x"]),
    ],
)
def test_what_the_lint_says_is_told(verdict: Verdict | None, said: list[str]) -> None:
    pending = (Revision("0001", "expand", "Crew", "DROP x;"),)
    schema = Schema(pending=pending, runs=("0001",), verdict=verdict)
    group = Group(("web1",), "v1.0.0", UPGRADE, None, None, None, None, schema, None, ())
    found = list(lines(Plan("v1.1.0", "c", (("web1",),), (), (), (group,))))
    assert found[-len(said) :] == [f"  {line}" for line in said]
    assert "      DROP x;" in found


def test_revisions_that_cannot_be_read_are_told(workshop: Workshop, capsys: Captured) -> None:
    workshop.commit({"alembic.ini": "[alembic]\nscript_location = schema\n"})
    workshop.commit(versioned("0002", "expand"))
    workshop.tag()
    text = told(capsys, asked_for(workshop, "v1.0.0"))
    assert "The migrations cannot be compared: schema/versions/0002_x.py builds on" in text


def test_what_the_live_tree_lacks_is_pending() -> None:
    schema = difference(HISTORY[:1], HISTORY, frozenset())
    assert brought(schema) == ["0002", "0003", "0004"]
    assert (schema.runs, schema.waits) == (("0002",), ("0003", "0004"))


def test_a_contract_revision_is_pending_until_it_was_run() -> None:
    assert brought(difference(HISTORY[:3], HISTORY[:3], frozenset())) == ["0003"]
    assert brought(difference(HISTORY, HISTORY, frozenset({"0003"}))) == []
    assert brought(difference(HISTORY[:1], HISTORY, frozenset({"0003"}))) == ["0002", "0004"]


def test_what_comes_after_a_contract_revision_waits_with_it() -> None:
    schema = difference(HISTORY, HISTORY, frozenset())
    assert brought(schema) == ["0003", "0004"]
    assert (schema.runs, schema.waits) == ((), ("0003", "0004"))


def test_a_downgrade_keeps_the_schema() -> None:
    schema = difference(HISTORY, HISTORY[:2], frozenset())
    assert schema.pending == ()
    assert schema.kept == ("0003", "0004")


@pytest.fixture
def place(workshop: Workshop) -> Workplace:
    plan = PLAN.lstrip()
    workshop.commit({"plan.py": plan, "no.py": "raise SystemExit('the keel is broken')\n"})
    workshop.tag()
    return Workplace("python plan.py --json", workshop.folder / "plans", workshop.wheels)


def asked(workshop: Workshop, place: Workplace, schema: Schema) -> Schema:
    repository = Repository(workshop.repository)
    return with_sql(schema, HISTORY, repository, repository.tag("v1.0.0"), place)


def test_the_sql_comes_from_the_tree_with_its_packages(
    workshop: Workshop, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", "secret")
    schema = asked(workshop, place, difference(HISTORY[:2], HISTORY, frozenset()))
    assert schema.problem == ""
    assert [(r.id, r.phase, r.summary, r.sql) for r in schema.pending] == [
        ("0003", "contract", "The 0003", "ALTER 0003 42;"),
        ("0004", "expand", "The 0004", "ALTER 0004 42;"),
    ]
    assert (schema.runs, schema.waits) == ((), ("0003", "0004"))
    commit = git(workshop.repository, "rev-parse", "HEAD")
    seen = json.loads((place.plans / commit / "seen.json").read_text())
    assert "ANSIBLE_VAULT_PASSWORD" not in seen
    assert not list(place.plans.glob(".*"))


def test_a_first_release_starts_from_nothing(workshop: Workshop, place: Workplace) -> None:
    schema = asked(workshop, place, difference([], HISTORY, frozenset()))
    assert brought(schema) == ["0001", "0002", "0003", "0004"]
    assert all(revision.sql for revision in schema.pending)


def test_a_tree_is_made_once(workshop: Workshop, place: Workplace) -> None:
    pending = difference(HISTORY[:2], HISTORY, frozenset())
    first = asked(workshop, place, pending)
    for path in workshop.index.iterdir():
        path.unlink()
    for path in workshop.wheels.glob("*/*.whl"):
        path.unlink()
    assert asked(workshop, place, pending) == first


def test_only_the_newest_trees_are_kept(workshop: Workshop, place: Workplace) -> None:
    repository = Repository(workshop.repository)
    for number in range(5):
        workshop.commit({"quay/main.py": f"print({number})\n"})
        workshop.tag(f"v2.0.{number}")
        schema = difference(HISTORY[:3], HISTORY, frozenset({"0003"}))
        tag = repository.tag(f"v2.0.{number}")
        assert with_sql(schema, HISTORY, repository, tag, place).problem == ""
    commit = git(workshop.repository, "rev-parse", "HEAD")
    assert len(list(place.plans.iterdir())) == 3
    assert (place.plans / commit).is_dir()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("python no.py", "`python no.py --from 0002` failed: the keel is broken"),
        ("capstan", "there is no program capstan"),
        ("echo", "did not print its pending revisions as JSON"),
        ("python 'unclosed", "No closing quotation"),
    ],
)
def test_a_command_that_fails_is_told_with_the_revisions(
    workshop: Workshop, place: Workplace, command: str, reason: str
) -> None:
    place = dataclasses.replace(place, command=command)
    schema = asked(workshop, place, difference(HISTORY[:2], HISTORY, frozenset()))
    assert reason in schema.problem
    assert brought(schema) == ["0003", "0004"]
    assert (schema.runs, schema.waits) == ((), ("0003", "0004"))


def test_a_package_that_cannot_be_had_is_told(workshop: Workshop, place: Workplace) -> None:
    line = wheel(workshop.index, "keel-1.0", "cp37-cp37m-manylinux_2_17_x86_64")
    workshop.commit({"requirements.txt": line})
    workshop.tag("v1.0.1")
    repository = Repository(workshop.repository)
    schema = difference(HISTORY[:2], HISTORY, frozenset())
    found = with_sql(schema, HISTORY, repository, repository.tag("v1.0.1"), place)
    assert "keel 1.0 has no wheel" in found.problem
    assert list(place.plans.iterdir()) == []


def test_nothing_is_made_where_nothing_is_pending_or_no_command_is_set(
    workshop: Workshop, place: Workplace
) -> None:
    none = difference(HISTORY, HISTORY, frozenset({"0003"}))
    assert asked(workshop, place, none) == none
    some = difference(HISTORY[:2], HISTORY, frozenset())
    assert asked(workshop, dataclasses.replace(place, command=""), some) == some
    assert not place.plans.exists()


def test_a_link_leads_where_the_tag_says(workshop: Workshop, place: Workplace) -> None:
    (workshop.repository / "again.py").symlink_to("plan.py")
    workshop.commit({})
    workshop.tag("v1.0.1")
    repository = Repository(workshop.repository)
    linked = dataclasses.replace(place, command="python again.py")
    schema = difference(HISTORY[:2], HISTORY, frozenset())
    found = with_sql(schema, HISTORY, repository, repository.tag("v1.0.1"), linked)
    assert found.problem == ""
    commit = git(workshop.repository, "rev-parse", "HEAD")
    assert (place.plans / commit / "tree/again.py").readlink() == Path("plan.py")
