"""A service on the registry of the test, asked in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests import small_camera
from tests.cli.conftest import Hotpix
from tests.story import CAMERA, import_pixels


def bearing(secret: str) -> dict[str, str]:
    """The header with which a token is sent."""
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def client(registry: Registry, database: str) -> Iterator[TestClient]:
    """Asks the service without following redirects; an error within it fails the test."""
    with TestClient(create_app(ServerSettings(database=database)), follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a registry that the tests only read, or nearly so.

    It has frames, a rejected file, a built mask, two imported ones of which one is revoked, a release and
    an event.
    """
    folder = tmp_path_factory.mktemp("story")
    with ExitStack() as stack:
        database = str(folder / "registry.sqlite")
        if request.param == "postgresql":
            database = stack.enter_context(request.getfixturevalue("postgresql").new_registry())
        tell_a_story(database, folder)
        yield folder, database


def tell_a_story(database: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, Registry(database) as registry:
        patch.setenv("HOTPIX_CACHE_DIR", str(folder / "cache"))
        small_camera.write_campaign(folder / "darks")
        (folder / "darks" / "broken.fits").write_bytes(b"SIMPLE  =                    T")
        registry.ingest([folder / "darks"])
        registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
        registry.create_release("2021A", note="the first")
        import_pixels(registry, folder, "2021-05-01", [5, 70])
        third = import_pixels(registry, folder, "2021-07-01", [70, 71])
        registry.revoke(third, reason="streaks")
        registry.add_event(CAMERA, "2022-01-01", "anneal", note="first", trim=True)


@pytest.fixture(scope="package")
def story_client(place: tuple[Path, str]) -> Iterator[TestClient]:
    """Asks one service for all tests: a new one takes a tenth of a second until it answers."""
    with TestClient(create_app(ServerSettings(database=place[1])), follow_redirects=False) as client:
        yield client


@pytest.fixture
def hotpix(place: tuple[Path, str]) -> Hotpix:
    return Hotpix(*place)
