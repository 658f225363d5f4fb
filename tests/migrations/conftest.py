"""Databases of their own for the migrations."""

from collections.abc import Iterator

import pytest

from tests.services import OWNER, PostgreSQL, running_postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One cluster for all tests."""
    with running_postgresql() as cluster:
        yield cluster


@pytest.fixture
def database(postgresql: PostgreSQL, request: pytest.FixtureRequest) -> str:
    """An empty database with the name of the test."""
    return postgresql.create_database(request.node.originalname[:60])


@pytest.fixture
def url(postgresql: PostgreSQL, database: str) -> str:
    """The URL of the empty database for the role that owns it."""
    return postgresql.url(database, OWNER)
