"""What a lab is told, and what it refuses."""

from pathlib import Path

import pytest

from deploy.lab import network, settings
from deploy.lab.errors import LabError


def test_a_host_is_named_by_as_little_as_its_name() -> None:
    first, second = settings.parse_hosts(["web1", "db1:debian-13:admin:database+cache"])
    assert (first.distribution, first.user) == ("debian-12", "root")
    assert first.groups == ("app", "database", "cache")
    assert (second.distribution, second.user) == ("debian-13", "admin")
    assert second.groups == ("database", "cache")
    assert first.number != second.number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Web 1", "is no host"),
        ("web1:fedora-42", "fedora-42 is not known"),
        ("web1:debian-12:ubuntu", "have the users root and admin"),
        ("web1:debian-12:root:mail", "mail is no group"),
    ],
)
def test_what_cannot_be_right_is_refused_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(LabError, match=reason):
        settings.parse_hosts([text])


def test_two_hosts_cannot_share_a_name() -> None:
    with pytest.raises(LabError, match="same name"):
        settings.parse_hosts(["web1", "web1"])


def test_two_labs_share_nothing(tmp_path: Path) -> None:
    one, other = (settings.identity(tmp_path / name) for name in ("one", "other"))
    assert one != other
    assert network.local_network6(one) != network.local_network6(other)


def test_a_saved_lab_is_read_again(tmp_path: Path) -> None:
    lab = settings.Lab(
        state=tmp_path,
        cache=tmp_path / "cache",
        name="one",
        network="10.213.7.0/24",
        network6="fd00:1:2::/64",
        aliases=("harbour",),
        hosts=settings.parse_hosts(["web1", "web2"]),
    )
    settings.save(lab)
    assert settings.load(tmp_path) == lab
    assert lab.gateway == "10.213.7.1"
    assert len(lab.bridge) <= 15
    with pytest.raises(LabError, match="no host web3, only web1, web2"):
        lab.host("web3")
