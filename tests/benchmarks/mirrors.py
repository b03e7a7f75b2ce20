"""How long a mirror of many masks takes: `python -m tests.benchmarks.mirrors [--masks 10000]`.

The registry has masks of 2048 x 2048 pixels with 4,000 of them flagged, a hundred in a transaction, each with
20 KB of numbers for its pictures. It is mirrored from its file and over HTTP on loopback, then brought up to
date after one more transaction. `--json FILE` writes the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries, schema
from hotpix_registry.catalogue.engine import parse_url
from hotpix_registry.domain import Configuration, Rule
from hotpix_registry.registry import derived, mirror
from hotpix_registry.registry.derived import Derived
from tests.plain_masks import add_camera, mask_values
from tests.serving import serving

IN_ONE = 100
"""masks in a transaction"""
SHAPE, FLAGGED, NUMBERS = (2048, 2048), 4000, 20_000


def fill(registry: Registry, masks: int) -> None:
    rng = np.random.default_rng(1)
    camera = add_camera(registry, CameraProfile(name="aspen"))
    dq = np.zeros(SHAPE, np.uint16)
    dq.flat[rng.choice(dq.size, FLAGGED, replace=False)] = 13
    made = Derived(
        rule=Rule.LIMIT,
        dq=dq,
        configuration=Configuration(),
        set_point=("-10.0", -10.0),
        nights=("2021-01-01", "2021-01-01"),
        exposures_s=(90.0, 1000.0),
        inputs=(),
        recipe={},
        note="",
    )
    values = mask_values(derived.pack(made, camera), camera)
    for first in range(1, masks + 1, IN_ONE):
        with registry._writing("fill") as (connection, tx):
            series = queries.series_id(connection, camera.camera_id, Configuration(), made.set_point, tx)
            rows = [
                values
                | {"series_id": series, "created_tx": tx, "version": n, "build_key": f"{n}"}
                | {"numbers": rng.bytes(NUMBERS)}
                for n in range(first, min(first + IN_ONE, masks + 1))
            ]
            connection.execute(schema.masks.insert(), rows)


def measure(source: str, path: Path) -> dict[str, Any]:
    started = time.perf_counter()
    synced = mirror.sync(source, parse_url(str(path)))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "masks": synced.masks, "bytes": synced.bytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--masks", type=int, default=10_000, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} at the start")
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="hp") as name:
        folder = Path(name)
        file = str(folder / "registry.sqlite")
        with Registry(file) as registry:
            fill(registry, options.masks)
        with serving(file) as url:
            found["from a file"] = measure(file, folder / "a.sqlite")
            found["over HTTP"] = measure(url, folder / "b.sqlite")
            found["nothing new, over HTTP"] = measure(url, folder / "b.sqlite")
            with Registry(file) as registry:
                registry.create_release("one-more")
            found["one transaction more, over HTTP"] = measure(url, folder / "b.sqlite")
    for what, one in found.items():
        rate = f", {one['masks'] / one['seconds']:.0f} masks/s" if one["masks"] else ""
        print(f"{what}: {one['seconds']:.2f} s for {one['masks']} masks, {one['bytes'] / 1e6:.1f} MB{rate}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
