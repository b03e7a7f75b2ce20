"""A service on the registry of the test, asked in the same process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings


def bearing(secret: str) -> dict[str, str]:
    """The header with which a token is sent."""
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def client(registry: Registry, database: str) -> Iterator[TestClient]:
    """Asks the service without following redirects; an error within it fails the test."""
    with TestClient(create_app(ServerSettings(database=database)), follow_redirects=False) as client:
        yield client
