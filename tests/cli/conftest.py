"""The command line as a user meets it: a real process, its exit code, and what it printed."""

from __future__ import annotations

import csv
import ctypes
import json
import multiprocessing
import os
import pkgutil
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hotpix_registry import cli
from hotpix_registry.__main__ import main
from hotpix_registry.domain import Frame, Recipe, Rule
from hotpix_registry.registry import Registry
from tests import small_camera

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def csv(self) -> list[dict[str, str]]:
        return list(csv.DictReader(self.out.splitlines()))

    def ended_with(self, code: int, *words: str) -> Done:
        """The exit code, no traceback, no warning of Python's, and these words on standard error."""
        assert "Traceback" not in self.err + self.out, self.err
        assert not re.search(r"\.py:\d+: \w+Warning", self.err), self.err
        assert self.code == code, (self.command, self.err, self.out)
        for word in words:
            assert word in self.err, (word, self.err)
        return self

    def refused_after_warnings(self, code: int, *words: str) -> Done:
        """As `refused`, where the answer's own warnings came first."""
        lines = [line for line in self.err.splitlines() if not line.startswith("Warning: ")]
        return replace(self, err="\n".join(lines) + "\n").refused(code, *words)

    def refused(self, code: int, *words: str) -> Done:
        """As `ended_with`, with one line on standard error and nothing on standard output."""
        self.ended_with(code, *words)
        assert self.err.startswith("hotpix-registry: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.rstrip().endswith((".", "?")), self.err
        assert self.out == ""
        return self


@dataclass(frozen=True, slots=True)
class Hotpix:
    """Runs `hotpix-registry` in a process of its own."""

    cwd: Path
    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    beforehand: Callable[[], Any] | None = None
    """what the process does before anything else"""
    from_scratch: bool = False

    def on(self, database: str | Path) -> Hotpix:
        return replace(self, database=str(database))

    def with_settings(self, **settings: str) -> Hotpix:
        return replace(self, settings={**self.settings, **settings})

    def with_small_files(self, n_bytes: int) -> Hotpix:
        """A process that can write no file beyond this size: what a full disk looks like to it."""
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
        return replace(self, beforehand=limit)

    @contextmanager
    def opened(self) -> Iterator[Registry]:
        """The registry itself: what a test prepares or looks at costs no process."""
        with Registry(self.database) as registry:
            yield registry

    def frames(self) -> list[Frame]:
        with self.opened() as registry:
            return registry.frames()

    def ingest(self, *paths: str, **options: Any) -> dict[str, Any]:
        """The report on paths relative to the working directory."""
        with self.opened() as registry:
            return registry.ingest([str(self.cwd / path) for path in paths], **options).as_dict()

    @property
    def environment(self) -> dict[str, str]:
        # byte code is kept, as it is at a user's: processes then start in half the time
        left_out = ("HOTPIX_DATABASE_URL", "PYTHONDONTWRITEBYTECODE")
        environment = {k: v for k, v in os.environ.items() if k not in left_out}
        environment |= {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "200"}
        if self.database is not None:
            environment["HOTPIX_DATABASE_URL"] = self.database
        return environment | dict(self.settings)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start `python -m hotpix_registry`."""
        return subprocess.Popen(
            [sys.executable, "-m", "hotpix_registry", *map(str, arguments)],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=self.beforehand,
        )

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Done:
        command = tuple(map(str, arguments))
        if self.from_scratch:
            with self.start(*command) as process:
                out, err = process.communicate(stdin.encode(), timeout=120)
            code = process.returncode
        else:
            code, out, err = self._forked(command, stdin.encode())
        # what is no text (a mask on standard output) stays countable
        return Done(command, code, out.decode("utf-8", "replace"), err.decode())

    def killed_after(self, delay_s: float, *arguments: str | Path) -> int:
        """The exit code of a command that got `kill -9` this long after its start, or had ended before."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "0").touch()
            command = tuple(map(str, arguments))
            process = FORKS.Process(target=_run, args=(folder, command, self, self.environment))
            process.start()
            process.join(delay_s)
            process.kill()
            process.join()
            assert process.exitcode is not None
            return process.exitcode

    def at_once(self, commands: Sequence[tuple[str, ...]]) -> list[Done]:
        """Commands each of which is begun before any other has ended."""
        with ExitStack() as stack:
            begun = [(command, stack.enter_context(self._fork(command))) for command in commands]
            ended = [(command, wait()) for command, wait in begun]
        return [Done(c, code, out.decode("utf-8", "replace"), err.decode()) for c, (code, out, err) in ended]

    def _forked(self, command: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        with self._fork(command, stdin) as wait:
            return wait()

    @contextmanager
    def _fork(
        self, command: tuple[str, ...], stdin: bytes = b""
    ) -> Iterator[Callable[[], tuple[int, bytes, bytes]]]:
        """A process of its own, forked from one that has imported everything: ten times as fast.

        Gives what waits for its end, and tells its exit code and what it wrote.
        """

        def wait() -> tuple[int, bytes, bytes]:
            process.join(timeout=120)
            assert process.exitcode is not None, command
            return process.exitcode, (Path(folder) / "1").read_bytes(), (Path(folder) / "2").read_bytes()

        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "0").write_bytes(stdin)
            process = FORKS.Process(target=_run, args=(folder, command, self, self.environment))
            process.start()
            yield wait


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "alembic.command",
        "hotpix_registry.fits.maskfile",
        "hotpix_registry.plots",
        "hotpix_registry.registry.build",
        "hotpix_registry.registry.camera_book",
        "hotpix_registry.science.detection",
        "psycopg",
        *(f"hotpix_registry.cli.{module.name}" for module in pkgutil.iter_modules(cli.__path__)),
        "tests.cli.made",
        "tests.torture.__main__",
    ]
)


def _run(folder: str, command: tuple[str, ...], hotpix: Hotpix, environment: dict[str, str]) -> None:
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(f"{folder}/{number}", flags), number)
    sys.stdin = os.fdopen(0)
    os.chdir(hotpix.cwd)
    os.environ.clear()
    os.environ.update(environment)
    if hotpix.beforehand is not None:
        hotpix.beforehand()
    sys.argv = ["hotpix-registry", *command]
    main()


@pytest.fixture
def hotpix(tmp_path: Path) -> Hotpix:
    """The command line on an SQLite registry that does not exist yet."""
    return Hotpix(tmp_path, str(tmp_path / "registry.sqlite"))


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `darks/` and a `registry.sqlite` of them that holds one mask; never to be changed."""
    folder = tmp_path_factory.mktemp("stock")
    small_camera.write_campaign(folder / "darks")
    hotpix = Hotpix(folder, str(folder / "registry.sqlite"), {"HOTPIX_CACHE_DIR": str(folder / "cache")})
    hotpix.ingest("darks")
    with hotpix.opened() as registry:
        registry.build("smallcam-48", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    return folder


@pytest.fixture
def stocked(stock: Path, hotpix: Hotpix) -> Hotpix:
    """The command line on a registry of its own with eleven frames and one mask."""
    for name in ("registry.sqlite", "registry.sqlite-wal"):
        if (stock / name).exists():
            shutil.copy(stock / name, hotpix.cwd / name)
    return hotpix


def obey_permissions() -> None:
    """Give up root's right to read and write what permissions forbid (Linux; after exec it is gone)."""
    prctl, drop_from_bounding_set = ctypes.CDLL(None).prctl, 24
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        prctl(drop_from_bounding_set, capability, 0, 0, 0)


@pytest.fixture
def stranger(hotpix: Hotpix) -> Hotpix:
    """The command line of a user whom permissions bind, which they do not for root."""
    if os.geteuid() != 0:
        return hotpix
    if not sys.platform.startswith("linux"):
        pytest.skip("permissions do not bind root")
    return replace(hotpix, beforehand=obey_permissions, from_scratch=True)
