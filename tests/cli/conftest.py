"""The command line as a user meets it: a real process, its exit code, and what it printed."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hotpix_registry.domain import Frame, Recipe
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
    options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, database: str | Path) -> Hotpix:
        return replace(self, database=str(database))

    def with_settings(self, **settings: str) -> Hotpix:
        return replace(self, settings={**self.settings, **settings})

    def with_options(self, **options: Any) -> Hotpix:
        """Options of `subprocess.Popen`."""
        return replace(self, options={**self.options, **options})

    def with_small_files(self, n_bytes: int) -> Hotpix:
        """A process that can write no file beyond this size: what a full disk looks like to it."""
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
        return self.with_options(preexec_fn=limit)

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

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HOTPIX_DATABASE")}
        environment |= {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "200"}
        if self.database is not None:
            environment["HOTPIX_DATABASE_URL"] = self.database
        return subprocess.Popen(
            [sys.executable, "-m", "hotpix_registry", *map(str, arguments)],
            cwd=self.cwd,
            env=environment | dict(self.settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self.options,
        )

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Done:
        with self.start(*arguments) as process:
            out, err = process.communicate(stdin.encode(), timeout=120)
        # what is no text (a mask on standard output) stays countable
        return Done(
            tuple(map(str, arguments)), process.returncode, out.decode("utf-8", "replace"), err.decode()
        )


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
        registry.build("smallcam-48", recipe=Recipe(limit_e_per_s=4.0))
    return folder


@pytest.fixture
def stocked(stock: Path, hotpix: Hotpix) -> Hotpix:
    """The command line on a registry of its own with eleven frames and one mask."""
    for name in ("registry.sqlite", "registry.sqlite-wal"):
        if (stock / name).exists():
            shutil.copy(stock / name, hotpix.cwd / name)
    return hotpix


def _obey_permissions() -> None:
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
    return hotpix.with_options(preexec_fn=_obey_permissions)
