"""The demo: a simulated night, then the very commands that a user types."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from hotpix_registry.cli.output import out, progress_bar, say
from hotpix_registry.errors import HotpixError, UsageError
from hotpix_registry.files import storage_error

DATE = "2018-08-22"


def run(folder: Path, *, size: int, seed: int) -> None:
    """Simulate a night of the camera aspen in a new folder, then ingest, build, mask and plot.

    Raises
    ------
    UsageError
        The folder holds something already.
    HotpixError
        One of the commands failed; it has said why.
    """
    from hotpix_registry.simulate import write_demo_night

    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds something already.", next_step="Name a new folder with -o.")
        (folder / "frames").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from None
    say(
        f"Simulating a night of the camera aspen ({size} x {size} pixels, gain 1.5 e-/adu, "
        "read noise 10 e-): 10 biases, 10 darks of 90 s and 20 of 1000 s"
    )
    with progress_bar("Simulating", unit="frames") as bar:
        frames = write_demo_night(folder / "frames", size=size, seed=seed, progress=bar)
    say(f"{len(frames)} FITS files are in {folder / 'frames'}.")

    database = ["--database", str(folder / "registry.sqlite")]
    mask = folder / f"aspen-{DATE}.fits"
    _run("ingest", str(folder / "frames"), *database)
    _run("build", "--camera", "aspen", *database)
    _run("mask", "--camera", "aspen", "--date", DATE, "-o", str(mask), *database)
    _run("plot", "1", "-o", str(folder / "plots"), *database)
    out("")
    out(f"The mask is {mask}; the pictures are in {folder / 'plots'}.")
    out("The registry is yours to play with:")
    out(f"  export HOTPIX_DATABASE_URL={shlex.quote(str((folder / 'registry.sqlite').absolute()))}")
    out("  hotpix-registry masks")
    out("  hotpix-registry show 1")
    out("  hotpix-registry mask --camera aspen --date 2018-08-23T05:00:00Z --format json")


def _run(*arguments: str) -> None:
    out("")
    out(f"$ {shlex.join(('hotpix-registry', *arguments))}")
    sys.stdout.flush()
    done = subprocess.run(
        [sys.executable, "-m", "hotpix_registry", *arguments], env=dict(os.environ), check=False
    )
    if done.returncode != 0:
        raise HotpixError(f"`hotpix-registry {arguments[0]}` ended with exit code {done.returncode}.")
