"""A release is compared with the one before it, by what the journal says of their requests."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from slipway_release import traffic
from slipway_release.progress import Progress
from slipway_release.settings import Settings
from slipway_release.state import Operation, Store
from slipway_release.traffic import Traffic
from slipway_release.watch import Comparison
from slipway_release.work import Order, Work
from tests.release.world import World


@pytest.mark.parametrize(
    ("records", "source"), [(True, "the journal of service"), (False, "the journal of Nginx")]
)
def test_a_release_that_fails_more_requests_goes_back(
    world: World, records: bool, source: str
) -> None:
    world.change(watch_seconds=30.0)
    (world.folder / "said/quay@v1.1.0.service").write_text("the last line\n")
    begin = time.monotonic()
    with world.public():
        outcome = world.release("v1.1.0", fails_each=4, records=records)
    assert outcome.status == 1
    # It does not wait for the end of the watch.
    assert time.monotonic() - begin < 25
    assert "v1.1.0 failed" in outcome.text
    assert source in outcome.text
    assert "    | the last line" in outcome.text
    assert world.live() == world.current() == "v1.0.0"
    assert world.running() == {"v1.0.0"}
    assert "after the switch" in json.loads(world.run("history", "--json").text)[-1]["reason"]
    assert world.verdict("v1.1.0") == "failed"


def test_what_a_release_has_failed_does_not_excuse_the_next(world: World) -> None:
    with world.public():
        world.change(watch_seconds=30.0, watch_minimum_requests=300)
        assert world.release("v1.1.0", fails_each=2, records=False).status == 1
        world.change(watch_seconds=3.0, watch_minimum_requests=20)
        outcome = world.release("v1.1.1", fails_each=8, records=False)
    assert outcome.status == 1, outcome.text
    assert "the journal of Nginx" in outcome.text
    assert world.live() == "v1.0.0"


def test_a_release_that_fails_a_little_stays(world: World) -> None:
    world.change(watch_seconds=1.0)
    with world.public():
        outcome = world.release("v1.1.0", fails_each=30)
    assert outcome.status == 0, outcome.text
    assert "  watch" in outcome.text
    assert "steady, " in outcome.text
    assert "too few requests" not in outcome.text


def work(folder: Path, world: World, **changes: object) -> Work:
    settings = dataclasses.replace(world.settings, **changes)  # type: ignore[arg-type]
    order = Order("release", "v1.1.0", "Ada", 0.0, "1")
    operation = Operation("1", "release", "v1.1.0", "v1.0.0", "Ada", 0.0)
    progress = Progress(settings, "1", "release", "v1.1.0")
    return Work(settings, Store(settings), progress, order, operation)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (Traffic(100, 0), Traffic(19, 19), False),
        (Traffic(100, 0), Traffic(100, 5), False),
        (Traffic(100, 0), Traffic(100, 6), True),
        # It was as bad before.
        (Traffic(100, 50), Traffic(100, 52), False),
        (Traffic(100, 50), Traffic(100, 60), True),
        # Too little to say that it was bad before.
        (Traffic(3, 3), Traffic(100, 50), True),
        # The service records its failures alone.
        (Traffic(30, 30), Traffic(30, 30), False),
        (Traffic(0, 0), Traffic(30, 30), False),
        # It records nothing.
        (Traffic(0, 0), Traffic(0, 0), False),
    ],
)
def test_what_is_worse(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: Traffic,
    after: Traffic,
    worse: bool,
) -> None:
    said = {"v1.0.0": before, "v1.1.0": after}
    monkeypatch.setattr(traffic, "of_service", lambda _, version, *__: said[version])
    monkeypatch.setattr(traffic, "of_nginx", lambda *_: Traffic())
    comparison = Comparison(work(tmp_path, world), time.time())
    assert (comparison.go_on() is not None) is worse


def test_the_records_of_nginx_are_complete(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter([Traffic(), Traffic(30, 30)])
    monkeypatch.setattr(traffic, "of_service", lambda *_: Traffic())
    monkeypatch.setattr(traffic, "of_nginx", lambda *_: next(said))
    reason = Comparison(work(tmp_path, world), time.time()).go_on()
    assert reason == (
        "v1.1.0 failed 30 of 30 requests (100.0%) after the switch, the release before it 0 of 0 "
        "requests (0.0%), says the journal of Nginx."
    )


def records(path: Path, *lines: dict[str, object]) -> None:
    path.write_text("".join(json.dumps({"at": 50.0, **line}) + "\n" for line in lines))


def test_only_requests_of_the_public_count(bare: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bare.environment.items():
        monkeypatch.setenv(name, value)
    here: Settings = bare.settings
    said = bare.folder / "said"
    records(
        said / "quay@v1.0.0.service.records",
        {"HTTP_STATUS": "200", "HTTP_ROUTE": "/page"},
        {"HTTP_STATUS": "503"},
        {"HTTP_STATUS": "503", "HTTP_ROUTE": "/health/ready"},
        {"MESSAGE": "a line of something else"},
        {"HTTP_STATUS": "500", "at": 99.0},
    )
    assert traffic.of_service(here, "v1.0.0", 40.0, 60.0) == Traffic(2, 1)
    assert traffic.of_service(here, "v2.0.0", 40.0, 60.0) == Traffic()
    own = {"host": "127.0.0.1", "path": "/page", "status": 502, "upstream_status": "502"}
    records(
        said / "nginx.records",
        own,
        {**own, "status": 200, "upstream_status": "200"},
        {**own, "host": "other.test"},
        {**own, "path": "/health"},
        # Nginx refused it by itself.
        {**own, "status": 503, "upstream_status": ""},
    )
    assert traffic.of_nginx(here, 40.0, 60.0) == Traffic(2, 1)
