"""Unsafe revisions are found, safe ones are not, in the SQL that Alembic makes of real files."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.schema import MIGRATIONS
from deploy.migrations.__main__ import main
from tests.services import OWNER, ROOT, PostgreSQL

HEAD = '''"""A revision."""

import sqlalchemy as sa
from alembic import op

from migrations.indexes import create_index_concurrently

revision = "{id}"
down_revision = {before!r}
{more}


def upgrade() -> None:
{body}


def downgrade() -> None:
    pass
'''
BOATS = """
op.create_table(
    "boats",
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("length", sa.Integer),
)
op.create_table("ports", sa.Column("id", sa.BigInteger, primary_key=True))
"""
BACKFILL = '''
with op.get_context().autocommit_block():
    op.execute(
        """
        DO $$
        DECLARE changed bigint;
        BEGIN
            LOOP
                UPDATE boats SET name = 'nameless; as yet' WHERE id IN (
                    SELECT id FROM boats WHERE name IS NULL LIMIT 2);
                GET DIAGNOSTICS changed = ROW_COUNT;
                COMMIT;
                EXIT WHEN changed = 0;
            END LOOP;
        END $$
        """
    )
'''
COLUMN = 'op.add_column("boats", sa.Column("x", sa.Text))'
INDEX = 'create_index_concurrently("ix", "boats", ["name"])'
CREWS = """
op.create_table("crews", sa.Column("id", sa.Integer))
op.create_index("ix", "crews", ["id"])
op.execute("UPDATE crews SET id = 1")
"""
PORT = """
op.add_column("boats", sa.Column("port", sa.BigInteger))
op.create_foreign_key("f", "boats", "ports", ["port"], ["id"], postgresql_not_valid=True)
"""
UPSERT = """
op.execute(
    "INSERT INTO boats VALUES (1, 'a; DELETE FROM boats', 1) "
    "ON CONFLICT (id) DO UPDATE SET name = ''"
)
"""
# What is wrong with it, and how a revision says it.
UNSAFE_WHEN_EXPANDING = {
    "ban-drop-column": 'op.drop_column("boats", "name")',
    "ban-drop-table": 'op.drop_table("boats")',
    "ban-drop-constraint": 'op.drop_constraint("boats_pkey", "boats")',
    "ban-drop-default": 'op.alter_column("boats", "name", server_default=None)',
    "ban-drop-not-null": 'op.alter_column("boats", "name", nullable=True)',
    "ban-drop-type": 'op.execute("DROP TYPE rig")',
    "ban-drop-view": 'op.execute("DROP VIEW fleet")',
    "ban-revoke": 'op.execute("REVOKE ALL ON boats FROM harbour")',
    "ban-set-schema": 'op.execute("ALTER TABLE boats SET SCHEMA old")',
    "renaming-column": 'op.alter_column("boats", "name", new_column_name="title")',
    "renaming-table": 'op.rename_table("boats", "ships")',
    "ban-new-write-restriction": (
        'op.create_check_constraint("ck", "boats", "length > 0", postgresql_not_valid=True)'
    ),
    "contracts": 'op.execute("TRUNCATE boats")',
}
CONTRACTING = [
    *UNSAFE_WHEN_EXPANDING.values(),
    'op.execute("DROP TRIGGER tide ON boats")',
    'op.execute("DELETE FROM boats WHERE id = 7")',
]
UNSAFE_ALWAYS = [
    ("changing-column-type", 'op.alter_column("boats", "length", type_=sa.BigInteger)'),
    ("adding-not-nullable-field", 'op.alter_column("boats", "name", nullable=False)'),
    ("adding-required-field", 'op.add_column("boats", sa.Column("x", sa.Text, nullable=False))'),
    ("constraint-missing-not-valid", 'op.create_check_constraint("ck", "boats", "length > 0")'),
    ("disallowed-unique-constraint", 'op.create_unique_constraint("uq", "boats", ["name"])'),
    (
        "adding-foreign-key-constraint",
        'op.create_foreign_key("f", "boats", "ports", ["id"], ["id"])',
    ),
    ("require-concurrent-index-creation", 'op.create_index("ix", "boats", ["name"])'),
    ("require-concurrent-index-deletion", 'op.drop_index("ix")'),
    ("change-of-every-row", "op.execute(\"UPDATE boats SET name = 'x' /* WHERE id = 1 */\")"),
    ("change-of-every-row", 'op.execute("DELETE FROM public.boats")'),
    ("change-of-every-row", "op.execute('UPDATE \"boats\" b SET name = (SELECT 1 WHERE true)')"),
    ("change-of-every-row", 'op.execute(sa.table("boats", sa.column("name")).update())'),
    ("change-of-every-row", 'op.execute("WITH d AS (DELETE FROM boats RETURNING 1) SELECT 1")'),
    ("change-of-every-row", 'op.execute("DO $$ BEGIN UPDATE boats SET name = NULL; END $$")'),
    ("unbatched-change", "op.execute(\"UPDATE boats SET name = '' WHERE name IS NULL\")"),
    ("unbatched-change", 'op.execute("DELETE FROM boats WHERE id IN (SELECT id FROM ports)")'),
    (
        "unbatched-change",
        'op.execute("UPDATE boats b SET name = 1 FROM ports p WHERE p.id = b.id")',
    ),
    ("unbatched-change", BACKFILL.replace("COMMIT;", "")),
    ("concurrent-in-transaction", 'op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix")'),
    ("concurrent-not-repeatable", 'op.execute("CREATE INDEX CONCURRENTLY i ON boats (name)")'),
    (
        "concurrent-not-alone",
        f'{INDEX}\ncreate_index_concurrently("iy", "boats", ["length"])',
    ),
    (
        "concurrent-not-alone",
        f"{COLUMN}\n{INDEX}",
    ),
    ("locks-a-table", 'op.execute("LOCK TABLE boats")'),
    ("syntax-error", 'op.execute("ALTER TABEL boats")'),
    ("hidden-from-the-plan", "if not op.get_context().as_sql:\n    op.get_bind()"),
]
SAFE_WHEN_EXPANDING = [
    COLUMN,
    'op.add_column("boats", sa.Column("x", sa.Text, server_default="a", nullable=False))',
    'op.alter_column("boats", "length", server_default="7")',
    INDEX,
    CREWS,
    PORT,
    'op.execute("ALTER TABLE boats VALIDATE CONSTRAINT f")',
    "op.execute(\"UPDATE boats SET name = 'a' WHERE id = 7\")",
    "op.execute(\"UPDATE boats SET name = 'a' WHERE id >= 1 AND id < 1000\")",
    UPSERT,
    "op.execute(\"COMMENT ON TABLE boats IS 'DROP TABLE boats'\")",
    BACKFILL,
]
NOT_NULL = [
    (
        "contract",
        "op.execute('ALTER TABLE boats ADD CONSTRAINT n CHECK (name IS NOT NULL) NOT VALID')",
    ),
    ("contract", 'op.execute("ALTER TABLE boats VALIDATE CONSTRAINT n")'),
    ("expand", 'op.alter_column("boats", "name", nullable=False)'),
]


class Tree:
    """A service whose first revision makes a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = folder / "migrations/versions"
        self.versions.mkdir(parents=True)
        for path in MIGRATIONS.glob("*.py"):
            (folder / "migrations" / path.name).write_text(path.read_text())
        (folder / "app").symlink_to(ROOT / "app")
        settings = '[tool.alembic]\nscript_location = "%(here)s/migrations"\n'
        (folder / "pyproject.toml").write_text(settings)
        self.add(BOATS)

    def add(self, body: str, phase: str | None = "expand", more: str = "") -> None:
        number = len(list(self.versions.glob("*.py"))) + 1
        text = HEAD.format(
            id=f"{number:04}",
            before=f"{number - 1:04}" if number > 1 else None,
            more=f"{f'phase = {phase!r}' if phase else ''}\n{more}",
            body="\n".join(f"    {line}" for line in body.strip().splitlines()),
        )
        (self.versions / f"{number:04}_boats.py").write_text(text)

    def run(self, *arguments: str, url: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "migrations", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "APP_ENVIRONMENT": "production",
                "APP_DATABASE_URL": url,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def judged(tree: Tree, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    status = main(["lint", "--json", f"--root={tree.folder}", *options])
    output, errors = capsys.readouterr()
    assert not errors
    reports: list[dict[str, Any]] = json.loads(output)
    assert status == (1 if any(report["findings"] for report in reports) else 0)
    return reports


def rules(report: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in report["findings"]}


def test_the_revisions_of_the_repository_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", f"--root={ROOT}"]) == 0
    assert capsys.readouterr().out.endswith("revisions are safe.\n")


def test_what_a_contract_revision_is_for_is_unsafe_in_an_expand_revision(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    for body in CONTRACTING:
        tree.add(body, "expand")
    first, *reports = judged(tree, capsys)
    assert not first["findings"]
    for rule, report in zip(UNSAFE_WHEN_EXPANDING, reports, strict=False):
        assert rules(report) == {rule}, report
    assert rules(reports[-2]) == {"contracts"}
    assert rules(reports[-1]) == set()


def test_a_contract_revision_may_take_away(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    for body in CONTRACTING:
        tree.add(body, "contract")
    assert [report for report in judged(tree, capsys) if report["findings"]] == []


@pytest.mark.parametrize("phase", ["expand", "contract"])
def test_what_locks_a_table_in_use_is_unsafe_in_both_phases(
    tree: Tree, capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    for _, body in UNSAFE_ALWAYS:
        tree.add(body, phase)
    _, *reports = judged(tree, capsys)
    for (rule, body), report in zip(UNSAFE_ALWAYS, reports, strict=True):
        assert rule in rules(report), (body, report)


def test_what_harms_nobody_is_safe(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    for body in SAFE_WHEN_EXPANDING:
        tree.add(body)
    assert [report for report in judged(tree, capsys) if report["findings"]] == []


def test_a_column_may_become_required_after_a_constraint_was_validated(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    for phase, body in NOT_NULL:
        tree.add(body, phase)
    tree.add('op.alter_column("boats", "length", nullable=False)')
    reports = judged(tree, capsys)
    assert [rules(report) for report in reports[:-1]] == [set()] * 4
    assert "adding-not-nullable-field" in rules(reports[-1])
    last = judged(tree, capsys, "--since=0003")
    assert [report["revision"] for report in last] == ["0004", "0005"]
    assert rules(last[0]) == set()


def test_the_advised_batches_run(tree: Tree, postgresql: PostgreSQL) -> None:
    database = postgresql.create_database("batches")
    url = postgresql.url(database, OWNER)
    assert tree.run("expand", url=url).returncode == 0
    postgresql.execute("INSERT INTO boats (id) SELECT generate_series(1, 5)", database, OWNER)
    tree.add(BACKFILL)
    done = tree.run("expand", url=url)
    assert done.returncode == 0, done.stderr
    # Each batch has a transaction of its own.
    count = "SELECT count(name), count(DISTINCT xmin::text) FROM boats"
    assert postgresql.execute(count, database) == "5|3"


def test_a_finding_is_told_with_its_place_and_what_to_do(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add('op.add_column("boats", sa.Column("x", sa.Text))\nop.drop_column("boats", "name")')
    assert main(["lint", f"--root={tree.folder}"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "migrations/versions/0002_boats.py: revision 0002 (expand) is UNSAFE"
    assert said[1] == "  ban-drop-column, line 7 of its SQL: ALTER TABLE boats DROP COLUMN name"
    assert said[2] == "    Dropping a column may break existing clients."
    assert said[3].startswith("    Instead: Leave the old shape in place now; take it away")
    assert said[4].startswith("1 of 2 revisions are unsafe.")
    assert said[5].endswith('lint_accepts = {"the-rule": "the reason"}')


def test_a_finding_is_accepted_with_a_reason(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    body = 'op.drop_column("boats", "name")\nop.execute("LOCK TABLE boats")'
    tree.add(body, more='lint_accepts = {"ban-drop-column": "No release ever read it."}')
    _, report = judged(tree, capsys)
    assert rules(report) == {"locks-a-table"}
    assert report["accepted"] == [["ban-drop-column", "No release ever read it."]]


@pytest.mark.parametrize(
    ("accepts", "wrong"),
    [
        ('{"ban-drop-column": ""}', "acceptance-without-reason"),
        ('["ban-drop-column"]', "acceptance-without-reason"),
        ("dict(a=1)", "acceptance-without-reason"),
        ('{"ban-drop-column": "x", "ban-drop-table": "y"}', "needless-acceptance"),
    ],
)
def test_an_acceptance_has_a_reason_and_a_use(
    tree: Tree, capsys: pytest.CaptureFixture[str], accepts: str, wrong: str
) -> None:
    tree.add('op.drop_column("boats", "name")', more=f"lint_accepts = {accepts}")
    assert wrong in rules(judged(tree, capsys)[-1])


def test_a_comment_to_squawk_accepts_nothing(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add(
        r'op.execute("-- squawk-ignore-file\n-- squawk-ignore ban-drop-table\nDROP TABLE boats")'
    )
    assert "ban-drop-table" in rules(judged(tree, capsys)[-1])


def test_a_revision_says_its_phase(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Another team's command may take it for granted; this one refuses to make a plan."""
    tree.add("pass", None)
    assert main(["lint", f"--root={tree.folder}"]) == 2
    assert "Revision 0002 says phase = None" in capsys.readouterr().err
    one = {"revision": "0002", "phase": "expand", "sql": "SELECT 1"}
    (tree.folder / "plan.json").write_text(json.dumps({"pending": [one]}))
    (report,) = judged(tree, capsys, "--command=python -c \"print(open('plan.json').read())\"")
    assert rules(report) == {"phase-missing"}


def test_any_plan_is_judged_from_the_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQL that begins no transaction runs in one; what it commits is behind it."""
    sql = "SELECT 1;\nCOMMIT;\nDROP INDEX CONCURRENTLY IF EXISTS i;\nBEGIN;\nDROP TABLE keel;"
    sql += "\nUPDATE quay.version SET version_num='a1' WHERE quay.version.version_num = 'a0'"
    plan = {"pending": [{"revision": "a1", "phase": "expand", "sql": sql}]}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(plan)))
    assert main(["lint", "--stdin", f"--root={tmp_path}"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("a file that is not here: revision a1 (expand) is UNSAFE")
    assert "ban-drop-table, line 5 of its SQL: DROP TABLE keel" in said
    assert "ban-drop-index, line 3 of its SQL" in said
    assert "concurrent-not-alone" in said
    assert "concurrent-in-transaction" not in said
    assert "version_num" not in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--command=python -c 1/0"], "failed: ZeroDivisionError"),
        (["--command=capstan"], "There is no program capstan"),
        (["--command=echo"], "This is no plan of pending revisions as JSON"),
        (["--since=0099"], "There is no revision 0099 here"),
    ],
)
def test_what_cannot_be_judged_is_said(
    tree: Tree, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    assert main(["lint", f"--root={tree.folder}", *options]) == 2
    assert reason in capsys.readouterr().err
