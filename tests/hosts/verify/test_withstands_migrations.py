"""Releases whose migrations fail or wait: the old release serves, and the next run converges."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.hosts.faults import FaultyHost, converges
from tests.hosts.load import Load, Site
from tests.hosts.machine import Machine
from tests.hosts.repository import Repository

REVISION = '''"""{summary}"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None

phase = "{phase}"


def upgrade() -> None:
    {statement}


def downgrade() -> None:
    pass
'''
HARMLESS = 'op.add_column("items", sa.Column("{name}", sa.Integer(), nullable=True))'
FAILS = 'op.execute("SELECT no_such_function()")'
LOCK = "BEGIN; LOCK TABLE items IN ACCESS SHARE MODE; SELECT pg_sleep({seconds});"


def revision(
    repository: Repository, name: str, statement: str, phase: str = "expand"
) -> dict[str, str]:
    """A new revision on top of the tree, as a file."""
    text = REVISION.format(
        summary=f"Test {name}.",
        revision=name,
        before=repository.newest_revision(),
        phase=phase,
        statement=statement,
    )
    return {f"migrations/versions/{name}.py": text}


def schema(machine: Machine) -> str:
    """The revision that the database is at."""
    query = "SELECT version_num FROM alembic_version"
    return machine.run(
        f'runuser -u postgres -- psql -XAt -d {machine.app} -c "{query}"'
    ).stdout.strip()


@contextmanager
def locked(machine: Machine, seconds: int) -> Iterator[None]:
    """A transaction that holds a lock on items which reads and writes do not meet."""
    with machine.background(
        f"runuser -u postgres -- psql -X -d {machine.app} -c '{LOCK.format(seconds=seconds)}'"
    ):
        held = "SELECT 1 FROM pg_locks WHERE relation = 'items'::regclass AND granted"
        machine.wait_for(
            f'runuser -u postgres -- psql -XAt -d {machine.app} -c "{held}" | grep -q 1'
        )
        yield


def test_a_migration_that_fails_switches_nothing(
    host: FaultyHost, client: httpx.Client, repository: Repository, version: Iterator[str]
) -> None:
    machine, before, at = host.machine, host.machine.release(), schema(host.machine)
    path, text = next(iter(revision(repository, "t0001", FAILS).items()))
    result = host.release(host.bring(next(version), {path: text}))
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert "no_such_function" in said
    assert machine.release() == before
    assert schema(machine) == at
    assert client.get("/health").json()["release"] == before
    mended = text.replace(FAILS, HARMLESS.format(name="t0001"))
    converges(host, client, host.bring(next(version), {path: mended}))
    assert schema(machine) == "t0001"


async def test_a_migration_that_waits_for_a_lock_lets_everybody_pass(
    host: FaultyHost, repository: Repository, version: Iterator[str], token: str
) -> None:
    machine = host.machine
    added = revision(repository, "t0002", HARMLESS.format(name="t0002"))
    candidate = host.bring(next(version), added)
    site = Site(machine.site, machine.address, machine.context)

    def release_behind_a_lock() -> str:
        with locked(machine, 6):
            result = host.release(candidate)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    async with Load(site, token, connections=8) as load:
        await asyncio.to_thread(release_behind_a_lock)
    assert load.report.failures == []
    # Whoever queues behind the migration waits for its lock_timeout of a second, not for the lock.
    assert load.report.longest < 4
    assert schema(machine) == "t0002"
    assert machine.release() == candidate.version


def test_the_schema_is_contracted_on_request_when_no_release_needs_the_old_shape(
    host: FaultyHost, repository: Repository, version: Iterator[str], client: httpx.Client
) -> None:
    machine, at, old = host.machine, schema(host.machine), host.machine.release()
    slipway = f"slipway --app {machine.app}"
    drop = revision(repository, "t0003", 'op.drop_column("items", "t0001")', "contract")
    first = host.bring(next(version), drop)
    converges(host, client, first)
    assert schema(machine) == at
    assert "t0003" in machine.run(f"{slipway} status").stdout

    early = machine.run(f"{slipway} contract", check=False)
    assert early.returncode == 2
    assert old in early.stdout + early.stderr
    assert schema(machine) == at

    converges(host, client, host.bring(next(version)))
    machine.run(f"{slipway} contract --by Ada")
    assert schema(machine) == "t0003"
    assert client.get("/api/v1/items").status_code == 200
    assert "by Ada" in machine.run(f"{slipway} history --last=1").stdout

    late = machine.run(f"{slipway} rollback {old}", check=False)
    assert late.returncode == 2
    assert "t0003" in late.stdout + late.stderr
    assert first.version in late.stdout + late.stderr
    machine.run(f"{slipway} rollback")
    assert machine.release() == first.version
    none = machine.run(f"{slipway} rollback {old}", check=False)
    assert none.returncode == 2
    assert machine.release() == first.version


def test_a_restore_point_holds_the_database(machine: Machine) -> None:
    folder = f"/var/lib/slipway/{machine.app}/restore-points"
    newest = machine.run(f"ls -t {folder}/*.dump | head -n 1").stdout.strip()
    listing = machine.run(f"pg_restore --list {newest}").stdout
    assert "TABLE DATA public items" in listing
    assert machine.run(f"stat -c '%a' {folder}").stdout.strip() in {"700", "750"}
    strangers = machine.run(f"runuser -u {machine.app} -- ls {folder}", check=False)
    assert strangers.returncode != 0
