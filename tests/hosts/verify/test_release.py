"""Releases and rollbacks on a live host, seen from outside while requests keep coming."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.hosts.load import Load, Report, Site
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator
from tests.hosts.repository import Repository

FIRST = "v0.1.0"
#: The second release is ahead of the first in its schema, so that the way back is no special case.
REVISION = '''"""A column that the release before knows nothing of."""

import sqlalchemy as sa
from alembic import op

revision = "note"
down_revision = "{before}"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    op.add_column("items", sa.Column("note", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("items", "note")
'''


@pytest.fixture(scope="module", autouse=True)
def _back_to_the_first(operator: Operator, machine: Machine) -> Iterator[None]:
    yield
    assert machine.run("systemctl --failed --plain --no-legend").stdout == ""
    assert machine.release() in {"v0.2.0", FIRST}


def site(machine: Machine) -> Site:
    return Site(machine.site, machine.address, machine.context)


def unharmed(report: Report) -> None:
    assert report.failures == []
    assert report.requests > 500
    assert report.methods["POST"] > 100


async def test_a_second_release_under_load_fails_no_request(
    machine: Machine, operator: Operator, repository: Repository, token: str
) -> None:
    revision = REVISION.format(before=repository.newest_revision())
    repository.tag("v0.2.0", {"migrations/versions/note.py": revision})
    async with Load(site(machine), token, rate=None) as load:
        result = await operator.release("v0.2.0")
    assert result.returncode == 0, result.text
    assert machine.release() == "v0.2.0"
    unharmed(load.report)
    assert set(load.report.releases) == {FIRST, "v0.2.0"}
    running = machine.run(
        f"systemctl list-units --plain --no-legend --state=active '{machine.app}@*.service'"
    ).stdout
    assert re.findall(r"@(v[0-9.]+)\.service", running) == ["v0.2.0"]


@pytest.mark.parametrize(
    ("version", "text", "reason"),
    [
        ("v0.3.0", 'raise RuntimeError("the keel is broken")\n', "the keel is broken"),
        # The preflight gives settings, Gunicorn does not: this one fails only when it is started.
        (
            "v0.3.1",
            (
                "def create_app(settings=None):\n    if settings is None:\n"
                "        raise RuntimeError('no sail')\n"
            ),
            "no sail",
        ),
    ],
)
async def test_a_bad_release_leaves_the_old_one_serving(
    machine: Machine,
    operator: Operator,
    repository: Repository,
    token: str,
    version: str,
    text: str,
    reason: str,
) -> None:
    good = repository.read("app/main.py")
    before = machine.release()
    repository.tag(version, {"app/main.py": text})
    (repository.path / "app/main.py").write_text(good)
    repository.git("commit", "--quiet", "--all", "-m", "Mend it")
    async with Load(site(machine), token) as load:
        result = await operator.release(version)
    assert result.returncode != 0
    assert reason in result.text
    assert machine.release() == before
    assert load.report.failures == []
    assert set(load.report.releases) == {before}


async def test_wrong_requests_are_refused_before_anything_changes(
    machine: Machine, operator: Operator, repository: Repository
) -> None:
    before = machine.run(f"slipway --app {machine.app} status").stdout
    unknown = await operator.release("v9.9.9")
    assert unknown.returncode
    assert "v9.9.9" in unknown.text
    assert "tag" in unknown.text
    deployed = await operator.release(machine.release())
    assert deployed.returncode
    assert "already" in deployed.text
    repository.git("tag", "--force", "v0.9.0")
    unsigned = await operator.release("v0.9.0")
    assert unsigned.returncode
    assert "sign" in unsigned.text
    stray = repository.path / "stray.txt"
    stray.write_text("not committed")
    repository.git("add", "stray.txt")
    try:
        dirty = await operator.release("v0.2.0")
    finally:
        repository.git("reset", "--quiet", "--hard")
    assert dirty.returncode
    assert "stray.txt" in dirty.text or "uncommitted" in dirty.text
    for refused in (unknown, deployed, unsigned, dirty):
        assert "Traceback" not in refused.text
    assert machine.run(f"slipway --app {machine.app} status").stdout == before


async def test_a_rollback_under_load_fails_no_request(
    machine: Machine, operator: Operator, token: str
) -> None:
    async with Load(site(machine), token) as load:
        result = await operator.play("deploy/rollback.yml")
    assert result.returncode == 0, result.text
    assert machine.release() == FIRST
    unharmed(load.report)


def test_the_history_tells_what_happened(machine: Machine) -> None:
    history = machine.run(f"slipway --app {machine.app} history").stdout
    for version in (FIRST, "v0.2.0", "v0.3.0"):
        assert version in history
    assert "fail" in history


def test_requests_are_answered_by_what_status_says(client: httpx.Client, machine: Machine) -> None:
    assert client.get("/health").json()["release"] == machine.release()
    assert machine.release() in machine.run(f"slipway --app {machine.app} status").stdout
