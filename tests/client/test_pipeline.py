"""A pipeline on another machine: a process that has the client alone, and reduces frames with ccdproc."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.registry import Registry
from tests import small_camera
from tests.serving import serving
from tests.story import CAMERA

PIPELINE = """
import sys
import ccdproc
from astropy import units as u
from ccdproc import CCDData, ImageFileCollection
from hotpix_registry import Client

client = Client()
lights = ImageFileCollection("lights")
dark = CCDData.read("darks/dark_120s_01.fits", unit="adu")
for found in client.masks_for(lights):
    ccd = CCDData.read(found.frame, unit="adu")
    ccd = ccdproc.subtract_dark(ccd, dark, exposure_time="EXPTIME", exposure_unit=u.s)
    client.apply(ccd)
    ccd.write(found.frame.replace("lights", "reduced"))
print(*sys.modules)
"""


def test_a_process_with_the_client_alone_reduces_frames_with_the_right_masks(
    registry: Registry, database: str, tmp_path: Path
) -> None:
    small_camera.write_campaign(tmp_path / "darks")
    registry.ingest([tmp_path / "darks"])
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    for number in range(3):
        start = small_camera.NIGHT + timedelta(hours=number)
        header = {"IMAGETYP": "Light Frame"}
        path = tmp_path / "lights" / f"{number}.fits"
        small_camera.write_frame(path, exptime_s=120.0, start=start, header=header)
    (tmp_path / "reduced").mkdir()
    with serving(database) as url:
        environment = {**os.environ, "HOTPIX_SERVER_URL": url, "HOTPIX_CACHE_DIR": str(tmp_path / "far")}
        done = subprocess.run(
            [sys.executable, "-c", PIPELINE], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert not {"sqlalchemy", "psycopg", "hotpix_registry.registry"} & set(done.stdout.split())
    answer = registry.mask(CAMERA, "2021-03-04").answer
    for number in range(3):
        with fits.open(tmp_path / "reduced" / f"{number}.fits") as reduced:
            assert np.array_equal(reduced["MASK"].data.astype(bool), small_camera.hot_pixels())
            assert reduced[0].header["HPXSHA"] == answer.sha256
            assert registry.replay(reduced[0].header["HPXRCPT"]).answer.mask_id == answer.mask_id
    assert len(list((tmp_path / "far").glob("*/*.fits"))) == 1


def test_a_client_that_is_killed_leaves_nothing_half_written(
    registry: Registry, database: str, tmp_path: Path
) -> None:
    small_camera.write_campaign(tmp_path / "darks")
    registry.ingest([tmp_path / "darks"])
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    killed = """
import os, signal
from pathlib import Path
from hotpix_registry import Client

Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Client().mask("smallcam-48", "2021-03-04").array
"""
    cache = tmp_path / "far"
    with serving(database) as url:
        environment = {**os.environ, "HOTPIX_SERVER_URL": url, "HOTPIX_CACHE_DIR": str(cache)}
        done = subprocess.run([sys.executable, "-c", killed], cwd=tmp_path, env=environment)
        assert done.returncode == -9
        assert [p.name for p in cache.rglob("*") if p.is_file() and not p.name.endswith(".tmp")] == []
        whole = killed.replace("Path.replace", "replaced")
        assert subprocess.run([sys.executable, "-c", whole], cwd=tmp_path, env=environment).returncode == 0
