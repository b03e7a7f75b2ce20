"""The same frames give the same mask: under each Python that is here, with the oldest and newest libraries.

A third of them lie in compressed tiles, which astropy unpacks, and a third in .gz. `make matrix` makes an
environment for each pair, which takes a minute or two.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from astropy.io import fits

from tests.small_camera import write_campaign
from tests.torture.table import Row, render

CHECKOUT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LIBRARIES = {"oldest": "lowest-direct", "newest": "highest"}
CAMERA = "smallcam-48"
BUILDS = (("--rule", "limit", "--limit", "4"), ("--rule", "evidence+limit"), ("--rule", "evidence"))


def interpreters() -> dict[str, str]:
    """Version → the program, of those that can be found."""
    places = [Path(name) for name in os.environ.get("PATH", "").split(os.pathsep) if name]
    places += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    found: dict[str, str] = {}
    for version in PYTHONS:
        for program in (place / f"python{version}" for place in places):
            if (
                program.exists()
                and subprocess.run([program, "--version"], capture_output=True).returncode == 0
            ):
                found.setdefault(version, str(program))
    return found


def masks(python: Path, folder: Path, place: Path) -> dict[str, str]:
    """Digests of the masks, of their DQ planes and of other forms, as an environment builds them."""
    database = str(place / "registry.sqlite")
    environment = {**os.environ, "HOTPIX_CACHE_DIR": str(place / "cache"), "HOTPIX_DATABASE_URL": database}
    environment.pop("PYTHONPATH", None)

    def hotpix(*arguments: str) -> bytes:
        command = [str(python), "-m", "hotpix_registry", *arguments]
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, check=True).stdout

    hotpix("ingest", str(folder))
    told: dict[str, str] = {}
    for options in BUILDS:
        (built,) = json.loads(hotpix("build", "--camera", CAMERA, *options, "--format", "json"))
        told[options[1]] = built["sha256"]
    for form in ("fits", "npy", "ecsv", "ds9", "lsst"):
        content = hotpix("mask", "--camera", CAMERA, "--date", "2021-03-04", "--format", form)
        told[form] = hashlib.sha256(content).hexdigest()
    return told


def environments(work: Path) -> Iterator[tuple[str, Path]]:
    """An environment for each interpreter and each end of the libraries' versions."""
    subprocess.run([sys.executable, "-m", "venv", work / "uv"], check=True)
    subprocess.run([work / "uv" / "bin" / "pip", "install", "--quiet", "uv"], check=True)
    uv = work / "uv" / "bin" / "uv"
    for version, program in interpreters().items():
        for end, resolution in LIBRARIES.items():
            target = work / f"{version}-{end}"
            subprocess.run([uv, "venv", "--quiet", "--python", program, target], check=True)
            command = [uv, "pip", "install", "--quiet", "--python", target / "bin" / "python"]
            command += [
                "--resolution",
                resolution,
                "--only-binary",
                ":all:",
                "--no-binary",
                "hotpix-registry",
            ]
            subprocess.run([*command, str(CHECKOUT)], check=True)
            yield f"Python {version}, {end} libraries", target / "bin" / "python"


def compress(folder: Path) -> None:
    """Let two of three frames of each exposure time be compressed, each in its way."""
    for number, path in enumerate(sorted(folder.glob("*.fits"))):
        if number % 3 == 1:
            with fits.open(path) as hdus:
                tiles = fits.CompImageHDU(hdus[0].data, hdus[0].header)
                tiles.writeto(path.with_suffix(".fits.fz"))
        elif number % 3 == 2:
            path.with_suffix(".fits.gz").write_bytes(gzip.compress(path.read_bytes()))
        if number % 3:
            path.unlink()


def matrix() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="matrix") as name:
        work = Path(name)
        write_campaign(work / "darks", darks={30: 4, 60: 4, 120: 4})
        compress(work / "darks")
        expected: dict[str, str] | None = None
        for what, python in environments(work):
            place = work / f"at {python.parts[-3]}"
            place.mkdir()
            told = masks(python, work / "darks", place)
            expected = expected or told
            other = [form for form in told if told[form] != expected[form]]
            command = "import numpy, scipy, astropy; print(*(m.__version__ for m in (numpy, scipy, astropy)))"
            versions = subprocess.run(
                [python, "-c", command], capture_output=True, text=True, check=True
            ).stdout.split()
            note = "numpy {}, scipy {}, astropy {}".format(*versions)
            note += f"; other digests: {', '.join(other)}" if other else ""
            yield Row(what, len(told), len(told) - len(other), len(other), note)
            shutil.rmtree(python.parents[1])


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.torture.matrix", description=__doc__).parse_args()
    rows = []
    for row in matrix():
        print(f"{row.fault}: {row.survived} of {row.tried} digests are the same. {row.note}", flush=True)
        rows.append(row)
    print(f"\n{render(rows)}")
    sys.exit(1 if any(row.lost for row in rows) else 0)


if __name__ == "__main__":
    main()
