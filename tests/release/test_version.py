"""Versions are ordered as SemVer says."""

import itertools

import pytest

from slipway_release.errors import RefusedError
from slipway_release.version import is_version, precedence

# The example of SemVer 2.0.0, §11, and around it.
ORDER = [
    *("v0.9.10", "v1.0.0-1", "v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.beta"),
    *("v1.0.0-beta", "v1.0.0-beta.2", "v1.0.0-beta.11", "v1.0.0-rc.1", "v1.0.0"),
    *("v1.0.1", "v1.2.0", "v1.10.0", "v2.0.0"),
]


def test_the_order() -> None:
    for older, newer in itertools.combinations(ORDER, 2):
        assert precedence(older) < precedence(newer), (older, newer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.0.0",
        "v1.0",
        "v01.0.0",
        "v1.0.0-01",
        "v1.0.0+1",
        "v1.0.0\n",
        "v1.0.0/../x",
        "v1.0.0-" + "a" * 42,
    ],
)
def test_what_is_no_version(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(RefusedError, match="is not a version"):
        precedence(text)
