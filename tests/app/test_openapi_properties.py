"""Requests made up from the OpenAPI document: whatever comes, the answer is one that it declares.

SLIPWAY_EXAMPLES says how many requests each operation gets at least; `make test-properties` sends
more than ten thousand.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.settings import Settings
from tests.app.stage import KEYS, NOBODY, SESSIONS, Operation, Stage, stage_on
from tests.app.test_access import ALLOWED
from tests.services import PostgreSQL, RedisServer

EXAMPLES = int(os.environ.get("SLIPWAY_EXAMPLES", "18"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CALLERS = (NOBODY, SESSIONS["user"], SESSIONS["super_admin"], KEYS["super_admin"])
# Each of these hashes a password when its input is good.
SLOW = {
    "/api/v1/auth/change-password",
    "/api/v1/auth/login",
    "/api/v1/auth/token",
    "/api/v1/users/password-reset",
    "/api/v1/users/register",
}
# The client counts by itself.
_LENGTH = "Content-Length"
# The document leaves it out.
DOCUMENTED = [operation for operation in ALLOWED if operation != ("GET", "/metrics")]


@dataclass
class Bench:
    """The service, its document, and what was sent so far."""

    stage: Stage
    run: Callable[..., Any]
    schema: Any
    sent: Counter[Operation] = field(default_factory=Counter)
    done: Counter[Operation] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def bench(
    postgresql: PostgreSQL, redis_server: RedisServer, settings_with: Callable[..., Settings]
) -> Iterator[Bench]:
    """One instance with its documentation on a loop of its own, because Hypothesis waits for it."""
    limits = (name for name in Settings.model_fields if name.startswith("limit_"))
    unlimited = {name: "" for name in limits if name != "limit_default"}
    stack = AsyncExitStack()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        changed = settings_with(environment="development", **unlimited)
        stage = runner.run(stack.enter_async_context(stage_on(postgresql, redis_server, changed)))
        document = runner.run(stage.client.get("/openapi.json")).json()
        yield Bench(stage, runner.run, schemathesis.openapi.from_dict(document))
        runner.run(stack.aclose())


def cases(operation: APIOperation[Any, Any, Any, Any]) -> st.SearchStrategy[Case[Any]]:
    """Return requests that fit the document, and requests that do not."""
    fitting = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not list(operation.iter_parameters()) and not operation.body:
        return fitting
    return fitting | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def request_of(case: Case[Any], headers: dict[str, str]) -> httpx.Request:
    """Return a request as schemathesis would send it, with a credential of ours."""
    arguments = case.as_transport_kwargs(base_url="http://testserver")
    arguments["headers"] = {**arguments["headers"], **headers}
    names = ("method", "url", "headers", "params", "data", "json", "cookies", "files")
    given = {name: arguments[name] for name in names if name in arguments}
    prepared = requests.Request(**given).prepare()
    sent = {
        name: value if isinstance(value, str) else value.decode("latin-1")
        for name, value in prepared.headers.items()
        if name != _LENGTH
    }
    content: Any = prepared.body
    return httpx.Request(str(prepared.method), str(prepared.url), headers=sent, content=content)


def check(case: Case[Any], answer: httpx.Response) -> None:
    case.validate_response(answer, checks=CHECKS)
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        body = answer.json()
        assert set(body) == {"error", "detail"}
        assert set(body["error"]) == {"code", "message", "request_id"}
        assert body["error"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("operation", DOCUMENTED, ids=" ".join)
def test_every_answer_is_one_that_the_document_declares(bench: Bench, operation: Operation) -> None:
    method, path = operation
    described = bench.schema[path][method]
    stage = bench.stage

    @settings(
        max_examples=max(EXAMPLES // 3, 6) if path in SLOW else EXAMPLES,
        phases=[Phase.generate, Phase.shrink],
        deadline=None,
        database=None,
        # Every run of the short kind sends the same, so that it fails for a change alone.
        derandomize="SLIPWAY_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=cases(described),
        caller=st.sampled_from(CALLERS),
        own_ids=st.booleans(),
        spread=st.integers(0, 2**32),
    )
    def answers(case: Case[Any], caller: str, own_ids: bool, spread: int) -> None:
        # Without a number that varies an operation without input would run out of examples.
        del spread
        if own_ids:
            case.path_parameters.update(
                {name: stage.ids_of(caller)[name] for name in case.path_parameters}
            )
        request = request_of(case, stage.headers[caller])
        stage.client.cookies.clear()
        answer = bench.run(stage.client.send(request))
        note(answer)
        check(case, answer)

    def note(answer: httpx.Response) -> None:
        bench.sent[operation] += 1
        bench.done[operation] += answer.is_success
        # What logs a caller out, takes an account away or locks it would leave nothing to ask for.
        if method != "GET" and (answer.is_success or answer.status_code == 403):
            bench.run(stage.set_back())

    def carried_out(caller: str) -> None:
        answer = bench.run(stage.call(operation, caller))
        # A form with files was sent as a stream.
        bench.run(answer.request.aread())
        note(answer)
        assert answer.is_success, answer.text
        check(described.Case(path_parameters=stage.ids_of(caller)), answer)

    bench.run(stage.set_back())
    for caller in CALLERS:
        if caller in ALLOWED[operation]:
            carried_out(caller)
    answers()


def test_every_operation_was_asked_and_carried_out(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        told = f"{bench.sent.total()} requests to {len(bench.sent)} operations"
        print(f"\n{told}, of which {bench.done.total()} were carried out")  # noqa: T201
    assert set(bench.sent) == set(bench.done) == set(DOCUMENTED)
    least = {path: EXAMPLES // 3 if path in SLOW else EXAMPLES for _, path in DOCUMENTED}
    few = {one: count for one, count in bench.sent.items() if count < least[one[1]]}
    assert few == {}
    assert bench.sent.total() >= int(os.environ.get("SLIPWAY_REQUESTS", "0"))
