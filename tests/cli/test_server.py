"""Commands against a server print what they print against the database."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotpix_registry.cli import main
from hotpix_registry.domain import Defect, Recipe, Rule
from hotpix_registry.registry import Registry
from tests import small_camera
from tests.cli.conftest import Hotpix
from tests.databases import PostgreSQL
from tests.serving import serving
from tests.story import CAMERA, import_pixels

LIGHT = {"IMAGETYP": "Light Frame", "DATE-OBS": "2021-03-05T22:00:00"}


@dataclass(frozen=True, slots=True)
class Both:
    """The command line on a database, and on a server of it."""

    database: Hotpix
    server: Hotpix
    url: str


def tell_a_story(registry: Registry, folder: Path) -> None:
    """Two masks of one series, a candidate, a revoked one, an event, a release, defects, science frames."""
    small_camera.write_campaign(folder / "darks")
    (folder / "darks" / "torn.fits").write_bytes(b"SIMPLE  =                    T")
    registry.ingest([folder / "darks"])
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    registry.create_release("2021A", note="before the warm-up")
    registry.add_defects(CAMERA, [Defect(x0=1, y0=2, width=3, height=4, reason="hot column")], reason="flats")
    registry.add_event(CAMERA, "2021-06-01", "warmup", trim=True, note="power cut")
    import_pixels(registry, folder, "2021-06-02", [5, 70])
    registry.revoke(import_pixels(registry, folder, "2021-08-02", [6]), reason="streaks")
    registry.edit_mask(1, mask=[(9, 9)], reason="seen in flats")
    for number, cards in enumerate(({}, {"DATE-OBS": "2021-06-05T22:00:00"}, {"INSTRUME": "other"})):
        small_camera.write_frame(folder / "lights" / f"{number}.fits", header=LIGHT | cards)
    small_camera.write_frame(folder / "lights" / "dark.fits")
    (folder / "lights" / "text.fits").write_text("no FITS")


@contextmanager
def asked_both_ways(database: str, folder: Path) -> Iterator[Both]:
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("HOTPIX_CACHE_DIR", str(folder / "cache"))
        with Registry(database) as registry:
            tell_a_story(registry, folder)
        with serving(database) as url:
            cache = {"HOTPIX_CACHE_DIR": str(folder / "cache")}
            asking = Hotpix(folder, None, {**cache, "HOTPIX_SERVER_URL": url})
            yield Both(Hotpix(folder, database, cache), asking, url)


@pytest.fixture(scope="module")
def both_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    with asked_both_ways(str(folder / "registry.sqlite"), folder) as both:
        yield both


@pytest.fixture(scope="module")
def both_on_postgresql(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    with postgresql.new_registry() as database, asked_both_ways(database, folder) as both:
        yield both


# no parameters of what lives longer than a test: it would end whenever the tests' order turns to the other
@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest) -> Both:
    return request.getfixturevalue(f"both_on_{request.param}")


NIGHT = ("--camera", CAMERA, "--date", "2021-03-04")
READING = [
    ("mask", *NIGHT),
    *[("mask", *NIGHT, "--format", form) for form in ("json", "fits", "npy", "ecsv", "ds9", "lsst", "siril")],
    ("mask", *NIGHT, "--preset", "HOT|STUCK", "--temperature", "-10", "--explain"),
    ("mask", *NIGHT, "--explain", "--format", "json", "--as-of", "tx3"),
    ("mask", "--camera", CAMERA, "--date", "2001-01-01", "--explain"),
    ("mask", "--camera", CAMERA, "--date", "2001-01-01", "--explain", "--format", "json"),
    ("mask", "--camera", CAMERA, "--date", "2021-09-01"),
    ("mask", "--camera", CAMERA, "--date", "2021-09-01", "--allow-revoked"),
    ("mask", "--camera", "nobody", "--date", "2021-09-01"),
    ("mask", *NIGHT, "--binning", "0x0"),
    ("mask", "--receipt", "hp:1"),
    ("mask", "--for", "lights"),
    ("mask", "--for", "lights", "--format", "json", "--explain"),
    ("mask", "--for", "lights/0.fits", "lights/dark.fits", "lights/text.fits"),
    ("masks",),
    ("masks", "--camera", CAMERA, "--release", "2021A", "--format", "json"),
    ("masks", "--format", "csv"),
    ("show", "1"),
    ("show", "1", "--format", "json"),
    ("show", "99"),
    ("report", "1"),
    ("report", "1", "--format", "json"),
    ("report", "2", "--against", "1"),
    ("cameras",),
    ("cameras", "--format", "json"),
    ("cameras", "show", CAMERA),
    ("cameras", "show", CAMERA, "--toml"),
    ("cameras", "show", CAMERA, "--format", "json"),
    ("cameras", "show", "nobody"),
    ("frames",),
    ("frames", "--camera", CAMERA, "--exposures", "30", "--format", "json"),
    ("frames", "--rejected"),
    ("header", "lights/0.fits"),
    ("defects", "--camera", CAMERA),
    ("defects", "--camera", CAMERA, "--format", "json"),
    ("event", "list", "--camera", CAMERA),
    ("release", "list"),
    ("log",),
    ("log", "--format", "json"),
    ("history",),
    ("history", "--camera", CAMERA, "--format", "csv"),
    ("coverage", "--camera", CAMERA),
    ("coverage", "--camera", CAMERA, "--release", "2021A"),
    ("trend", "--camera", CAMERA),
    ("trend", "--camera", CAMERA, "--format", "json"),
    ("diff", "1", "2"),
    ("diff", "1", "2", "--format", "json"),
    ("diff", "2021A", "now"),
    ("affected", "--since", "2021A"),
    ("affected", "--since", "tx4", "lights", "--format", "json"),
    ("affected", "--since", "2021A", "lights"),
    ("cite", *NIGHT),
    ("cite", *NIGHT, "--format", "json"),
    ("cite", "--release", "2021A"),
    ("build", "--camera", CAMERA, "--dry-run"),
    ("build", "--camera", CAMERA, "--dry-run", "--format", "json"),
    ("identify", "darks/dark_120s_01.fits"),
    ("identify", "darks/dark_120s_01.fits", "lights/text.fits", "--format", "json"),
    ("apply", "auto", "lights/0.fits", "lights/1.fits", "lights/dark.fits", "--dry-run"),
    ("apply", "1", "lights/0.fits", "--dry-run", "--format", "json"),
    ("apply", "2021-03-04", "--camera", CAMERA, "lights/0.fits", "--dry-run"),
]


Run = Callable[[Hotpix, tuple[str, ...]], tuple[int, bytes, bytes]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process, since there are so many; gives exit code, output and messages."""

    def run(hotpix: Hotpix, command: tuple[str, ...]) -> tuple[int, bytes, bytes]:
        monkeypatch.chdir(hotpix.cwd)
        for name in ("HOTPIX_DATABASE_URL", "HOTPIX_SERVER_URL", "HOTPIX_CACHE_DIR", "COLUMNS"):
            monkeypatch.delenv(name, raising=False)
            if name in hotpix.environment:
                monkeypatch.setenv(name, hotpix.environment[name])
        monkeypatch.setattr(sys, "argv", ["hotpix-registry", *command])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsysbinary.readouterr()

    return run


@pytest.mark.parametrize(
    ("both", "command"),
    [("sqlite", command) for command in READING] + [("postgresql", command) for command in READING[::3]],
    indirect=["both"],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_reading_command_prints_the_same(both: Both, run: Run, command: tuple[str, ...]) -> None:
    assert run(both.server, command) == run(both.database, command)


@pytest.mark.parametrize(
    "command",
    [
        ("mask", *NIGHT, "--preset", "all", "-o", "OUT.fits"),
        ("diff", "1", "2", "-o", "OUT.png"),
        ("cite", *NIGHT, "-o", "OUT.zip"),
        ("apply", "auto", "lights/0.fits", "-o", "OUT.fits"),
    ],
    ids=" ".join,
)
def test_a_reading_command_writes_the_same(
    both: Both, run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    _writes_the_same(both, run, tmp_path, command)


@pytest.mark.parametrize("both", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "command",
    [
        ("plot", "1", "-o", "OUT"),
        ("report", "1", "--format", "html", "-o", "OUT.html"),
        ("coverage", "--camera", CAMERA, "--release", "2021A", "-o", "OUT.png"),
        ("trend", "--camera", CAMERA, "-o", "OUT.png"),
    ],
    ids=" ".join,
)
def test_a_command_that_draws_writes_the_same(
    both: Both, run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """On one kind of database: to draw takes seconds, and what is drawn has been read before."""
    _writes_the_same(both, run, tmp_path, command)


def _writes_the_same(both: Both, run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    written = []
    for name, hotpix in (("database", both.database), ("server", both.server)):
        folder = tmp_path / name
        folder.mkdir()
        code, _, err = run(hotpix, tuple(part.replace("OUT", str(folder / "out")) for part in command))
        assert code == 0, err
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append([(str(path.relative_to(folder)), path.read_bytes()) for path in files])
    assert written[0]
    assert written[1] == written[0]


@pytest.mark.parametrize(
    ("command", "route"),
    [
        (("ingest", "darks"), "POST /v1/frames"),
        (("build", "--camera", CAMERA), "POST /v1/cameras/NAME/build"),
        (("certify", "1"), "POST /v1/masks/ID/certify"),
        (("revoke", "1", "--reason", "no"), "POST /v1/masks/ID/revoke"),
        (("event", "add", "--camera", CAMERA, "--date", "2022-01-01", "--kind", "anneal"), "/events"),
        (("release", "create", "X"), "POST /v1/releases"),
        (("edit", "1", "--mask", "1,1", "--reason", "no"), "--database"),
        (("verify",), "--database"),
        (("backup", "copy.sqlite"), "--database"),
        (("cameras", "confirm", CAMERA), "--database"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_writing_command_says_how_else_it_is_done(
    both: Both, run: Run, command: tuple[str, ...], route: str
) -> None:
    code, out, err = run(both.server, command)
    assert (code, out, err.count(b"\n")) == (2, b"", 1), err
    assert both.url.encode() in err
    assert route.encode() in err


def test_a_database_that_is_named_as_near_wins_over_the_server(both: Both) -> None:
    unreachable = both.database.with_settings(HOTPIX_SERVER_URL="http://127.0.0.1:1")
    unreachable("masks").ended_with(0)
    nowhere = Hotpix(both.database.cwd, None, unreachable.settings)
    nowhere("masks", "--database", both.database.database or "").ended_with(0)
    nowhere("masks").refused(7, "http://127.0.0.1:1", "connection refused")


def test_a_mask_that_was_asked_for_is_given_without_the_server(tmp_path: Path) -> None:
    database = str(tmp_path / "registry.sqlite")
    with Registry(database) as registry:
        small_camera.write_campaign(tmp_path / "darks")
        registry.ingest([tmp_path / "darks"])
        registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    light = small_camera.write_frame(tmp_path / "light.fits", header=LIGHT)
    with serving(database) as url:
        hotpix = Hotpix(tmp_path, None, {"HOTPIX_SERVER_URL": url})
        online = hotpix("mask", *NIGHT).ended_with(0)
        of_frame = hotpix("mask", "--for", light).ended_with(0)
    again = hotpix("mask", *NIGHT).ended_with(0, "This is from the cache: its answer of ")
    assert again.out == online.out
    assert hotpix("mask", "--for", light).ended_with(0, "from the cache").out == of_frame.out
    hotpix("mask", "--camera", CAMERA, "--date", "2021-03-05").refused(7, "no earlier answer")
