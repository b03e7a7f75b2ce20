"""The house keeps its order: imports point down, and light paths stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hotpix_registry"

LAYERS = [
    {"cli", "web", "__main__"},
    {"client"},
    {"registry"},
    {"report"},
    {"plots", "simulate"},
    {"catalogue", "science", "fits", "planning", "timeline"},
    {"cameras", "files"},
    {"settings"},
    {"errors"},
    {"domain"},
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


def test_the_domain_needs_the_standard_library_only() -> None:
    tree = ast.parse((PACKAGE / "domain.py").read_text(encoding="utf-8"))
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "code",
    [
        "import hotpix_registry",
        "from hotpix_registry import Registry",
        "import hotpix_registry.cli",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    heavy = {"numpy", "astropy", "ccdproc", "scipy", "matplotlib", "alembic"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not heavy & set(done.stdout.split())
