"""Two workers around one item, which go on step by step in whatever order a test chooses.

Everything that takes time in the real service stops at a gate before it: each question to the
cache, each load, the begin and the commit of a transaction. A test opens one gate at a time, for
good or for a failure; what is behind it happens on the real servers. Time is the test's own, for
the workers' clocks and for what expires in the cache.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import redis.asyncio

from app.accounts import Account, Credential, Identity
from app.cache import Cache, CacheDownError
from app.cached import CachedReads, key_of
from app.db import Database, Rows, after_commit
from app.entities import Precondition
from app.items import service
from app.job_handlers import handlers
from app.jobs.handlers import JobResources
from app.jobs.service import Jobs
from app.mail import Mailer
from app.permissions import Role
from app.prepared import Prepared
from app.settings import Settings
from app.writing import Writing

# good: it happens; refused: it does not; lost: it does, and the answer does not arrive.
Verdict = Literal["good", "refused", "lost"]

ITEM = 1
KEY = key_of(service.KIND, ITEM)
# Time is the test's own: nothing expires in the server by itself.
_FOR_EVER = 3600
LEASE_SECONDS = 5
_STEP = 0.02
# So often the loop goes round until all that needs no server has been done.
_ROUNDS = 25


def version_of(kept: bytes) -> int:
    """Return the version of a value in the cache."""
    return int(orjson.loads(kept[kept.index(b"{") :])["quantity"])


@dataclass(eq=False)
class Gate:
    """Somebody who stands before something that takes time."""

    name: str
    worker: "Worker"
    opened: "asyncio.Future[Verdict]"

    @property
    def may_fail(self) -> bool:
        """Whether it is a question to the cache."""
        return self.name not in {"begin", "load", "commit"}


@dataclass(eq=False)
class Actor:
    """A request: a read or a write.

    Attributes:
        least: of a read, the newest version that was confirmed to anybody before it began.
        version: what a read has found, or a write brings; of a write that is under way as well.
    """

    worker: "Worker"
    began: float
    least: int = 0
    version: int = 0
    fenced: bool = True
    committed_at: float | None = None
    task: "asyncio.Task[None]" = field(init=False)


class World:
    """Both workers, the item, and what has happened."""

    def __init__(self, settings: Settings, database: Database, store: redis.asyncio.Redis) -> None:
        self.settings = settings
        self.database = database
        self.now = 1000.0
        self.gates: list[Gate] = []
        self.busy = 0
        self.confirmed = 0
        self.reads: list[Actor] = []
        self.writes: list[Actor] = []
        self.stale: list[str] = []
        self.expires = float("inf")
        self._store = store
        self._jobs = JobResources(settings, database, Mailer(settings))
        self.workers = [Worker(self), Worker(self)]

    @property
    def bound(self) -> float:
        """How long an old value may survive: a lease that is there, and what it is filled with."""
        return self.settings.cache_seconds + LEASE_SECONDS

    def monotonic(self) -> float:
        """Stand in for the clock of `app.cached`."""
        return self.now

    def read(self, worker: "Worker") -> None:
        """Let a client ask for the item."""
        actor = Actor(worker, self.now, least=self.confirmed)
        self.reads.append(actor)
        worker.start(actor, self._read(actor))

    def write(self, worker: "Worker") -> None:
        """Let a client change the item."""
        actor = Actor(worker, self.now, version=len(self.writes) + 1)
        self.writes.append(actor)
        worker.start(actor, self._write(actor))

    def open(self, gate: Gate, verdict: Verdict = "good") -> None:
        """Let somebody go on."""
        self.now += _STEP
        self.gates.remove(gate)
        gate.opened.set_result(verdict)

    async def leave(self, actor: Actor) -> None:
        """Let a client go away before its answer is there."""
        actor.task.cancel()
        with self.asking():
            await asyncio.gather(actor.task, return_exceptions=True)

    async def kill(self, worker: "Worker") -> None:
        """Let a process die where it stands, and another one come in its place."""
        with self.asking():
            await worker.kill()
        self.workers[self.workers.index(worker)] = Worker(self)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        if self.now >= self.expires:
            await self.evict()

    async def evict(self) -> None:
        """Let what is in the cache expire, or give room to something else."""
        await self._store.delete(KEY)
        self.expires = float("inf")

    async def do_jobs(self) -> None:
        """Do the jobs that are in the database."""
        for job, key in await self._pending():
            await handlers["cache.forget"](self._jobs, key=key)
            await self._forget_job(job)

    async def settle(self) -> None:
        """Wait until everybody stands before a gate or has ended."""
        quiet = 0
        while quiet < _ROUNDS:
            await asyncio.sleep(0.0002 if self.busy else 0)
            quiet = 0 if self.busy else quiet + 1

    async def kept(self) -> bytes | None:
        """Return what the cache holds of the item."""
        found: Any = await self._store.get(KEY)
        return None if found is None else bytes(found)

    async def stored(self) -> int:
        """Return the version that is in the database."""
        rows = await self._ask("SELECT quantity FROM items WHERE id = 1")
        return int(rows[0][0])

    @property
    def writing(self) -> "Actor | None":
        """The write that has locked the item."""
        for actor in self.writes:
            if not actor.task.done() and actor.committed_at is None:
                return actor
        return None

    async def gate(self, name: str, worker: "Worker") -> Verdict:
        """Stand before something."""
        gate = Gate(name, worker, asyncio.get_running_loop().create_future())
        self.gates.append(gate)
        try:
            return await gate.opened
        finally:
            with suppress(ValueError):
                self.gates.remove(gate)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask a server, for which all others wait."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def _read(self, actor: Actor) -> None:
        worker = actor.worker
        found = await service.get_item(worker.database, worker.cached, ITEM)  # type: ignore[arg-type]
        actor.version = orjson.loads(found.body)["quantity"]
        if actor.version < actor.least and not self._excused(actor):
            self.stale.append(f"found {actor.version} after {actor.least} was confirmed")

    def _excused(self, read: Actor) -> bool:
        """Say whether what decision 0018 gives up explains an old version."""
        return all(
            write.worker is not read.worker and self._may_hide(write, read.began)
            for write in self.writes
            if write.committed_at is not None and read.version < write.version <= read.least
        )

    def _may_hide(self, write: Actor, at: float) -> bool:
        """Say whether a change may still be missing in the cache: it could not put its fence."""
        assert write.committed_at is not None
        return not write.fenced and at < write.committed_at + self.bound

    async def check_kept(self) -> None:
        """Note when the cache holds what is too old."""
        found = await self.kept()
        if found is None or found[:1] != b"=":
            return
        version = version_of(found)
        for write in self.writes:
            committed = write.committed_at is not None and write.version > version
            # One that has not been confirmed yet takes away what it finds.
            if committed and write.task.done() and not self._may_hide(write, self.now):
                self.stale.append(f"kept {version} after {write.version} was confirmed")

    async def _write(self, actor: Actor) -> None:
        worker = actor.worker
        await self.gate("begin", worker)
        async with self._transaction(actor) as session:
            by = Writing(session, worker.cached, _IDENTITY, Precondition())
            await service.change_item(by, ITEM, {"quantity": actor.version})
            actor.fenced = worker.fenced
            await self.gate("commit", worker)
        self.confirmed = max(self.confirmed, actor.version)

    @asynccontextmanager
    async def _transaction(self, actor: Actor) -> AsyncIterator[Any]:
        """Give the transaction of a write, whose statements and whose end are waited for."""
        ending = False
        async with self.database.writing() as session:
            execute = session.execute

            async def waited_for(*arguments: Any, **options: Any) -> Any:
                with self.asking():
                    return await execute(*arguments, **options)

            def committed() -> None:
                self.busy -= 1
                actor.committed_at = self.now

            session.execute = waited_for  # type: ignore[method-assign]
            after_commit(session, committed)
            try:
                yield session
                ending = True
            finally:
                if ending:
                    self.busy += 1

    async def _pending(self) -> list[tuple[int, str]]:
        rows = await self._ask(
            "SELECT id, args ->> 'key' FROM procrastinate_jobs WHERE task_name = 'cache.forget'"
        )
        return [(row[0], row[1]) for row in rows]

    async def _forget_job(self, job: int) -> None:
        await self._ask(f"DELETE FROM procrastinate_jobs WHERE id = {job} RETURNING id")

    async def _ask(self, statement: str) -> Rows:
        async with self.database.reading() as connection:
            rows: Rows = (await connection.exec_driver_sql(statement)).all()
        return rows


class Worker:
    """One process of the service."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fenced = True
        self.database = GatedDatabase(self)
        self._cache = GatedCache(self)
        self._tasks: list[asyncio.Task[None]] = []
        settings = world.settings
        self.cached = CachedReads(self._cache, Jobs(settings, handlers), settings.cache_seconds)

    def start(self, actor: Actor, request: Coroutine[Any, Any, None]) -> None:
        """Serve a request."""
        actor.task = asyncio.create_task(request)
        self._tasks.append(actor.task)

    async def kill(self) -> None:
        """End all that it does, and its connections."""
        running = [*self._tasks, *self.cached._loads.values(), *self.cached._releases]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._cache.close()


class GatedCache(Cache):
    """The real cache behind gates."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.world.settings)
        self._worker = worker

    async def _through(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        world = self._worker.world
        verdict = await world.gate(name, self._worker)
        if verdict == "refused":
            raise CacheDownError
        with world.asking():
            answer = await ask()
        if verdict == "lost":
            raise CacheDownError
        return answer

    def _lives(self, seconds: float) -> None:
        self._worker.world.expires = self._worker.world.now + seconds

    async def get(self, key: str) -> bytes | None:
        return await self._through("get", lambda: Cache.get(self, key))  # type: ignore[no-any-return]

    async def take(self, key: str, mark: bytes, seconds: float) -> bytes | None:
        async def ask() -> bytes | None:
            found = await Cache.take(self, key, mark, _FOR_EVER)
            if found is None:
                self._lives(seconds)
            return found

        return await self._through("take", ask)  # type: ignore[no-any-return]

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        async def ask() -> None:
            await Cache.put(self, key, value, _FOR_EVER)
            self._lives(seconds)

        self._worker.fenced = False
        await self._through("put", ask)
        self._worker.fenced = True

    async def replace(self, key: str, mark: bytes, value: bytes, seconds: float) -> bool:
        async def ask() -> bool:
            done = await Cache.replace(self, key, mark, value, _FOR_EVER)
            if done:
                self._lives(seconds)
            return done

        return await self._through("replace", ask)  # type: ignore[no-any-return]

    async def remove(self, key: str, mark: bytes) -> None:
        await self._through("remove", lambda: Cache.remove(self, key, mark))

    async def remove_for(self, key: str, mark: bytes) -> None:
        await self._through("remove_for", lambda: Cache.remove_for(self, key, mark))

    async def forget(self, key: str, kind: bytes) -> None:
        await self._through("forget", lambda: Cache.forget(self, key, kind))


class GatedDatabase:
    """The real database; a read stands before a gate."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def fetch(self, statement: Prepared, values: Mapping[str, Any]) -> Rows:
        """Return the rows of a statement."""
        world = self._worker.world
        await world.gate("load", self._worker)
        with world.asking():
            return await world.database.fetch(statement, values)


_IDENTITY = Identity(
    Account(1, "ann", "ann@example.com", "", Role.USER, True, True, datetime.now(UTC)),
    frozenset({"items:write"}),
    Credential.TOKEN,
    1,
    None,
)
