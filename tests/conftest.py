"""One registry fixture, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from hotpix_registry.registry import Registry
from hotpix_registry.settings import KEYS
from tests import compiled
from tests.databases import PostgreSQL, give_id, migrate, running_postgresql
from tests.object_store import Store, running_store
from tests.told import Stories, Story

compiled.share()

LONG = (
    "test_torture",
    "test_fleet",
    "test_jobs",
    "test_mirror",
    "test_history",
    "test_openapi",
    "test_bombs",
)
REAL_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each process begin with its share of the long tests: what is left at the end is short."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.path.stem in LONG]
    short = [item for item in items if item.path.stem not in LONG]

    def part(of: list[pytest.Item], number: int) -> list[pytest.Item]:
        return of[number * len(of) // processes : (number + 1) * len(of) // processes]

    items[:] = [item for n in range(processes) for item in (*part(long, n), *part(short, n))]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A failure to start is a failure, not a skip."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema and without an id."""
    path = tmp_path_factory.mktemp("migrated") / "registry.sqlite"
    migrate(str(path))
    return path


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgresql.empty_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.sqlite")
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a new registry, once of each kind."""
    if request.param == "sqlite":
        path = str(tmp_path / "registry.sqlite")
        shutil.copyfile(request.getfixturevalue("migrated_file"), path)
        give_id(path)
        yield path
    else:
        with request.getfixturevalue("postgresql").new_registry() as url:
            yield url


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Stories:
    return Stories(tmp_path_factory.mktemp("stories"))


@pytest.fixture
def told(database: str, stories: Stories) -> Callable[[Story], Path]:
    """Gives the registry of the test what a story did to one; to be called before all else, once."""
    return partial(stories.tell, database=database)


@pytest.fixture
def registry(database: str) -> Iterator[Registry]:
    with Registry(database) as opened:
        yield opened


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache, registry or settings."""
    monkeypatch.setenv("HOTPIX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("HOTPIX_CONFIG", raising=False)
    for key in KEYS:
        if key != "cache_dir":
            monkeypatch.delenv(f"HOTPIX_{key.upper()}", raising=False)


@pytest.fixture(scope="session")
def s3() -> Iterator[Store]:
    with running_store() as store:
        yield store


@pytest.fixture
def store(s3: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An S3 server, and the settings that lead to it."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.failures.clear()
    return s3


@pytest.fixture
def real_data() -> Path:
    """The folder of real frames and headers beside the checkout, where there is one."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real frames (../shared/data) are not on this machine")
    return REAL_DATA
