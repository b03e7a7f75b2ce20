"""Write the registry of one version, to be upgraded by all later ones: `python tell.py FOLDER`.

It is run with the checkout of that version on the path, when the next migration is added. It leaves
`REVISION.sqlite.gz`, and `REVISION.json` with the answers of that day. What a version cannot do yet is
left out of its story.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np

from hotpix_registry.catalogue import schema
from hotpix_registry.domain import Defect, Recipe, Rule
from hotpix_registry.errors import HotpixError
from hotpix_registry.registry import Registry
from tests.small_camera import SHAPE, write_campaign

CAMERA = "smallcam-48"
DATES = ("2019-01-01", "2021-03-04", "2021-05-20", "2021-07-01", "2021-12-24", "2022-03-05", "2024-01-01")


def tell(registry: Registry, folder: Path) -> None:
    registry.ingest([str(path) for path in write_campaign(folder / "first")])
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    registry.ingest([str(path) for path in write_campaign(folder / "second", start=datetime(2022, 3, 4, 22))])
    registry.exclude(["3"], reason="a light leak")
    registry.add_defects(CAMERA, [Defect(x0=1, y0=2, width=3, height=4, reason="hot column")], reason="flats")
    registry.build(CAMERA)
    mask = np.zeros(SHAPE, bool)
    mask[5, 5] = True
    np.save(folder / "theirs.npy", mask)
    registry.import_mask(folder / "theirs.npy", CAMERA, valid_from="2021-06-01", temperature_c=-10.0)
    registry.edit_mask(1, mask=[(9, 9)], reason="seen in flats")
    registry.alias_camera(CAMERA, "little")
    if hasattr(registry, "add_event"):
        registry.add_event(CAMERA, "2021-12-01", "warmup", trim=True, note="power cut")
        registry.create_release("2021A", note="the first")
        registry.revoke(2, reason="streaks")


def answers(registry: Registry) -> dict[str, dict[str, object]]:
    told: dict[str, dict[str, object]] = {}
    for date in DATES:
        try:
            answer = registry.mask(CAMERA, date).answer.as_dict()
        except HotpixError as error:
            told[date] = {"error": type(error).__name__}
        else:
            names = ("mask_id", "version", "sha256", "valid_from", "valid_to", "series", "tx", "receipt")
            told[date] = {name: answer[name] for name in names}
    return told


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "registry.sqlite"
        with Registry(str(path)) as registry:
            tell(registry, folder)
            told = answers(registry)
            dq = {mask["mask_id"]: int(registry.mask_dq(mask["mask_id"]).sum()) for mask in registry.masks()}
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("VACUUM")
        kept = gzip.compress(path.read_bytes(), mtime=0)
        (target / f"{schema.REVISION}.sqlite.gz").write_bytes(kept)
        (target / f"{schema.REVISION}.json").write_text(
            json.dumps({"answers": told, "dq": dq}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
