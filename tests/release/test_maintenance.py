"""The site closes and opens by a verb, and a release works meanwhile."""

import json

import pytest

from tests.release.world import World

CLOSED = (
    'set $slipway_maintenance "The service is under maintenance: We '
    r'\\\"move\\\" \\\\ \\u00b7 {soon};";'
)


def closed(world: World) -> str:
    return (world.settings.state / "maintenance/site.conf").read_text()


def test_a_site_closes_and_opens(world: World) -> None:
    assert world.run("maintenance", "status").text == "quay is open\n"
    outcome = world.run(
        *("maintenance", "on", "--by=Ada", "--reason", 'We "move"  \\ · {soon};'),
        *("--allow", "192.0.2.9/24", "2001:db8::1", "--allow", "198.51.100.7"),
    )
    assert outcome.status == 0, outcome.text
    assert "closed for maintenance since" in outcome.text
    lines = closed(world).splitlines()[1:]
    assert lines == [
        CLOSED,
        "allow 127.0.0.1;",
        "allow 192.0.2.0/24;",
        "allow 2001:db8::1/128;",
        "allow 198.51.100.7/32;",
        "deny all;",
        "error_page 403 = @maintenance;",
    ]
    assert (world.folder / "ran").read_text().endswith("reload nginx.service\n")
    assert 'by Ada (We "move" \\ · {soon};), open to 192.0.2.0/24' in world.run("status").text
    state = json.loads(world.run("status", "--json").text)["maintenance"]
    assert state["who"] == "Ada"
    assert 'slipway_maintenance{app="quay"} 1\n' in world.settings.metrics.read_text()
    assert world.release("v1.1.0").status == 0
    assert closed(world).splitlines()[1:] == lines
    assert world.run("maintenance", "off").text == "quay is open\n"
    assert world.run("maintenance", "off").text == "quay is open already\n"
    assert not list((world.settings.state / "maintenance").iterdir())
    assert json.loads(world.run("status", "--json").text)["maintenance"] is None
    assert 'slipway_maintenance{app="quay"} 0\n' in world.settings.metrics.read_text()


def test_what_nginx_refuses_changes_nothing(bare: World) -> None:
    outcome = bare.run("maintenance", "on", "--reason", "refused by the stand-in")
    assert outcome.status == 1
    assert "    | nginx: [emerg] unexpected end of file" in outcome.text
    assert bare.run("maintenance", "status").text == "quay is open\n"
    assert bare.run("maintenance", "on").status == 0
    before = closed(bare)
    assert bare.run("maintenance", "on", "--reason", "refused again").status == 1
    assert closed(bare) == before
    assert (bare.folder / "ran").read_text() == "reload nginx.service\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--allow", "harbour.example"], "is no address and no network"),
        (["--reason", "$uri"], "and no \\$"),
        (["--reason", "x" * 201], "at most 200 characters"),
    ],
)
def test_what_nginx_would_misunderstand_is_refused(
    bare: World, arguments: list[str], reason: str
) -> None:
    outcome = bare.run("maintenance", "on", *arguments)
    assert outcome.status == 2
    assert reason.replace("\\", "") in outcome.text
    assert not (bare.folder / "ran").exists()
