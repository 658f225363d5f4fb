"""The rules of squawk (https://squawkhq.com/docs/rules), as far as they are about a release."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from deploy.artifact.errors import ArtifactError
from deploy.artifact.programs import last_line, run
from deploy.migrations.findings import EXPAND, Finding, Revision
from deploy.migrations.statements import opens_transaction, split

# The oldest PostgreSQL that the kit installs: what is safe there is safe on newer ones.
POSTGRESQL = "15"

_EXCLUDED = (
    # The runner sets both for every revision: LOCK_TIMEOUT and STATEMENT_TIMEOUT of the kit's.
    "require-lock-timeout",
    "require-statement-timeout",
    "require-timeout-settings",
    # A revision is repeated as a whole, because it is one transaction; the checks of this package
    # know the one operation that runs outside of one.
    "prefer-robust-stmts",
    "ban-concurrent-index-creation-in-transaction",
    # What type a column should have is a question to the models, not to a release.
    "ban-char-field",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "require-enum-value-ordering",
)
# What a release that was built before can no longer work with. A contract revision is for that.
_BREAKING = (
    "ban-alter-generated-expression",
    "ban-alter-identity",
    "ban-alter-policy-condition",
    "ban-alter-policy-roles",
    "ban-alter-row-level-security",
    "ban-create-policy",
    "ban-detach-inheritance",
    "ban-disable-trigger",
    "ban-drop-column",
    "ban-drop-constraint",
    "ban-drop-default",
    "ban-drop-domain",
    "ban-drop-extension",
    "ban-drop-function",
    "ban-drop-generated-expression",
    "ban-drop-index",
    "ban-drop-not-null",
    "ban-drop-policy",
    "ban-drop-schema",
    "ban-drop-sequence",
    "ban-drop-table",
    "ban-drop-type",
    "ban-drop-view",
    "ban-new-write-restriction",
    "ban-replace-view-function",
    "ban-revoke",
    "ban-set-schema",
    "renaming-column",
    "renaming-object",
    "renaming-table",
)
_CONTRACT = (
    'Leave the old shape in place now; take it away in a later revision with phase = "contract", '
    "which runs when no release needs it any more."
)
_NOT_NULL = (
    "Add CHECK (… IS NOT NULL) NOT VALID in a contract revision, VALIDATE CONSTRAINT in the next "
    "one, and SET NOT NULL in the one after it, which then reads no row."
)
_ADVICE = {
    "adding-foreign-key-constraint": "Add it NOT VALID, and VALIDATE CONSTRAINT in the next one.",
    "adding-not-nullable-field": _NOT_NULL,
    "adding-required-field": "Give the column a server default, or let it be null for now.",
    "changing-column-type": (
        "Add a column of the new type, write both, fill it in batches, read the new one, and drop "
        "the old one in a contract revision of a later release."
    ),
    "constraint-missing-not-valid": "Add it NOT VALID, and VALIDATE CONSTRAINT in the next one.",
    "disallowed-unique-constraint": (
        "Make a unique index CONCURRENTLY in a revision of its own, then ADD CONSTRAINT … UNIQUE "
        "USING INDEX."
    ),
    "renaming-column": (
        "Add a column with the new name, write both, fill it in batches, and drop the old one in a "
        "contract revision of a later release."
    ),
    "require-concurrent-index-creation": (
        "Make it CONCURRENTLY in an autocommit block, as the only operation of its revision "
        "(here: migrations.indexes.create_index_concurrently)."
    ),
    "require-concurrent-index-deletion": (
        "Drop it CONCURRENTLY in an autocommit block, as the only operation of its revision."
    ),
    "syntax-error": "If PostgreSQL takes it, accept this, and have the statement read by somebody.",
}
_OFTEN = "Write it in another way, or accept it with a reason."


def judge(revisions: Sequence[Revision]) -> list[list[Finding]]:
    """Return the findings of each revision.

    Raises:
        ArtifactError: squawk is not there or does not work.
    """
    found: dict[int, list[Finding]] = {place: [] for place in range(len(revisions))}
    for phase in sorted({revision.phase for revision in revisions}):
        numbers = [n for n, revision in enumerate(revisions) if revision.phase == phase]
        with tempfile.TemporaryDirectory(prefix="slipway-lint-") as folder:
            for number in numbers:
                Path(folder, f"{number}.sql").write_text(_prepared(revisions[number].sql), "utf-8")
            for value in _run(Path(folder), phase):
                number = int(Path(str(value["file"])).stem)
                found[number].append(_finding(value, revisions[number]))
    return [found[number] for number in sorted(found)]


def _prepared(sql: str) -> str:
    """Return what squawk judges: one transaction, and no word to squawk in a comment.

    There is one way to accept a finding, and that one asks for a reason.
    """
    sql = sql.replace("squawk-", "squawk_")
    return sql if opens_transaction(sql) else f"BEGIN; {sql}\n;\nCOMMIT;"


def _run(folder: Path, phase: str) -> list[dict[str, object]]:
    rules = ["--exclude", ",".join(_EXCLUDED), "--include", ",".join(_BREAKING)]
    if phase != EXPAND:
        rules = ["--exclude", ",".join((*_EXCLUDED, *_BREAKING))]
    settings = folder / "none.toml"
    settings.touch()
    command = [_program(), "--reporter=json", f"--pg-version={POSTGRESQL}", *rules]
    files = sorted(folder.glob("*.sql"))
    answer = run([*command, f"--config={settings}", *files], folder=folder)
    return _values(answer)


def _values(answer: "subprocess.CompletedProcess[str]") -> list[dict[str, object]]:
    try:
        values: list[dict[str, object]] = json.loads(answer.stdout)
    except ValueError as error:
        raise ArtifactError(f"squawk failed: {last_line(answer)}") from error
    return values


def _program() -> str:
    beside = Path(sys.executable).with_name("squawk")
    found = str(beside) if beside.is_file() else which("squawk")
    if found is None:
        raise ArtifactError("There is no squawk here: run `make lint` once, which installs it.")
    return found


def _finding(value: dict[str, object], revision: Revision) -> Finding:
    line = int(str(value["line"])) + 1
    rule = str(value["rule_name"])
    before = [one for one in split(revision.sql) if one.line <= line]
    advice = _ADVICE.get(rule) or (_CONTRACT if rule in _BREAKING else value["help"]) or _OFTEN
    return Finding(
        rule=rule,
        problem=_sentence(str(value["message"])),
        advice=_sentence(str(advice)),
        line=before[-1].line if before else line,
        statement=before[-1].excerpt if before else "",
    )


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!")) else f"{words}."
