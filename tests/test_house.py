"""The house keeps its order: imports point down, and light paths stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hotpix_registry.registry import Registry
from tests.small_camera import write_frame

PACKAGE = Path(__file__).parents[1] / "hotpix_registry"

LAYERS = [
    {"cli", "web", "__main__"},
    {"remote"},
    {"registry"},
    {"client"},
    {"report"},
    {"plots", "simulate"},
    {"catalogue", "science", "fits", "planning", "timeline"},
    {"cameras", "files", "places", "tables", "work"},
    {"settings"},
    {"toml"},
    {"errors"},
    {"domain", "instants", "answers"},
]
BELOW_ONLY = {"catalogue", "science", "fits"}


def parts() -> dict[str, set[str]]:
    """Each part of the house, and the parts that it imports."""
    imports: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found = imports.setdefault(part, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "hotpix_registry":
                names = [f"hotpix_registry.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            found |= {name.split(".")[1] for name in names if name.startswith("hotpix_registry.")}
    return imports


def test_imports_point_down_only() -> None:
    level = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    for part, imported in parts().items():
        if part == "__init__":
            continue
        for other in imported - {part, "__version__"}:
            assert level[part] <= level[other], f"{part} imports {other}"
            if part in BELOW_ONLY:
                assert other not in BELOW_ONLY - {part}, f"{part} imports its neighbour {other}"


@pytest.mark.parametrize("module", ["domain.py", "instants.py"])
def test_what_is_at_the_bottom_needs_the_standard_library_only(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


EVALUATING = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}
"""what runs, or may run, what it reads"""
RUNNING = {"eval", "exec", "__import__"}


def test_nothing_that_is_read_is_run() -> None:
    for path in (*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "migrations").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {module.split(".")[0] for module in modules} & EVALUATING, path
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert called not in RUNNING, (path, called)
                assert given.get("shell", "False") == "False", (path, called)
                if called in ("np.load", "numpy.load"):
                    assert given.get("allow_pickle") == "False", path


HEAVY = {
    *("numpy", "astropy", "ccdproc", "scipy", "matplotlib", "alembic"),
    *("dask", "distributed", "fsspec", "aiohttp"),
}
COMMAND = """
import sys
from hotpix_registry.cli import main
sys.argv = ["hotpix-registry", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imported_by(code: str, *arguments: str) -> set[str]:
    """The modules that a process of its own has at its end; it prints them last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set((done.stderr or done.stdout).split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import hotpix_registry",
        "from hotpix_registry import Registry",
        "import hotpix_registry.cli",
        "from hotpix_registry import Client; Client('http://127.0.0.1:1')",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert not HEAVY & imported_by(f"{code}; import sys; print(*sys.modules)")


def test_the_client_needs_no_database_library() -> None:
    code = "from hotpix_registry import Client; Client('http://127.0.0.1:1'); import sys; print(*sys.modules)"
    assert not {"sqlalchemy", "urllib3", "pydantic", "fastapi"} & imported_by(code)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["mask", "--help"], ["frames", "--help"]])
def test_help_needs_no_database_library(arguments: list[str]) -> None:
    assert not (HEAVY | {"sqlalchemy", "hotpix_registry.registry"}) & imported_by(COMMAND, *arguments)


def test_a_command_imports_its_own_module_alone_and_one_kind_of_database(
    registry: Registry, database: str
) -> None:
    imported = imported_by(COMMAND, "masks", "--database", database)
    assert [name for name in sorted(imported) if name.endswith("_commands")] == [
        "hotpix_registry.cli.version_commands"
    ]
    assert not (HEAVY | {"rich.console"}) & imported
    if database.endswith(".sqlite"):
        assert not {"psycopg", "sqlalchemy.dialects.postgresql"} & imported


def test_frames_on_a_disk_need_nothing_of_those_elsewhere(database: str, tmp_path: Path) -> None:
    write_frame(tmp_path / "dark.fits")
    imported = imported_by(COMMAND, "ingest", str(tmp_path / "dark.fits"), "--database", database)
    assert not {"fsspec", "hotpix_registry.places.objects", "hotpix_registry.places.reading"} & imported
    assert not {"numpy", "astropy"} & imported


THRESHOLD = """
import gc, sys
from hotpix_registry.cli import main
usual = gc.get_threshold()
sys.argv = ["hotpix-registry", *sys.argv[1:]]
try:
    main()
finally:
    print("as usual" if gc.get_threshold() == usual else "seldom", file=sys.stderr)
"""


def test_garbage_is_looked_for_as_usual_as_soon_as_work_begins(tmp_path: Path) -> None:
    dark, database = str(write_frame(tmp_path / "dark.fits")), str(tmp_path / "registry.sqlite")
    for arguments, often in (
        (("--version",), "seldom"),
        (("survey", dark), "as usual"),
        (("ingest", dark, "--database", database), "as usual"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", THRESHOLD, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stderr.splitlines()[-1] == often, arguments
