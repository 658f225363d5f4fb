"""A real Nginx with the rendered site, closed and opened by the host tool."""

import json

import pytest

from slipway_release import maintenance
from slipway_release.errors import FailedError
from tests.roles.nginx_site import Site


def test_the_public_is_shut_out_and_others_are_not(site: Site) -> None:
    # The service itself does not run here, so that whoever reaches it hears of that.
    assert site.ask("127.0.0.2").code == "unavailable"
    maintenance.close(site.settings, 'We "move" to Köln', ["127.0.0.64/26"], "Ada")
    closed = site.becomes("127.0.0.2", "maintenance")
    assert closed.status == 503
    assert closed.headers["Retry-After"] == "300"
    assert closed.headers["X-Request-ID"] == "abcd-1234"
    assert closed.headers["Cache-Control"] == "no-store"
    assert closed.headers["Strict-Transport-Security"]
    message = 'The service is under maintenance: We "move" to Köln'
    assert json.loads(closed.body) == {
        "error": {"code": "maintenance", "message": message, "request_id": "abcd-1234"},
        "detail": message,
    }
    for path in ("/health", "/ws/updates", "/api/v1/items?a=b"):
        assert site.ask("127.0.0.2", path).code == "maintenance"
    assert site.ask("127.0.0.2", "/docs").status == 404
    # A release is proved from the host itself; the others were named.
    assert site.ask("127.0.0.1").code == "unavailable"
    assert site.ask("127.0.0.70").code == "unavailable"
    challenge = site.ask("127.0.0.2", "/.well-known/acme-challenge/token", tls=False)
    assert (challenge.status, challenge.body) == (200, b"answer")
    maintenance.open_again(site.settings, "Ada")
    site.becomes("127.0.0.2", "unavailable")


def test_who_meets_no_service_is_told_when_to_come_back(site: Site) -> None:
    for path in ("/api/v1/items", "/ws/ann"):
        answer = site.ask("127.0.0.2", path)
        assert (answer.status, answer.code) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "2"


def test_settings_that_are_wrong_elsewhere_close_nothing(site: Site) -> None:
    configuration = site.settings.state.parent / "nginx.conf"
    right = configuration.read_text()
    configuration.write_text(right.replace("server_tokens off;", "server_tokens perhaps;"))
    with pytest.raises(FailedError) as failed:
        maintenance.close(site.settings, "", [], "Ada")
    assert 'invalid value "perhaps"' in "".join(failed.value.lines)
    assert maintenance.state(site.settings) is None
    assert site.ask("127.0.0.2").code == "unavailable"
