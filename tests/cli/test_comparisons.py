"""diff, affected, coverage, trend and cite, as a user meets them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests import small_camera
from tests.cli.conftest import Hotpix

PNG = b"\x89PNG"


@pytest.fixture
def storied(stocked: Hotpix) -> Hotpix:
    """Two masks a year apart, the release 2021A of when there was only the first; the second is revoked."""
    with stocked.opened() as registry:
        registry.create_release("2021A")
        mask = np.zeros(small_camera.SHAPE, bool)
        mask[3, 5] = mask[4, 4] = True
        np.save(stocked.cwd / "second.npy", mask)
        registry.import_mask(
            stocked.cwd / "second.npy", "smallcam-48", valid_from="2022-03-04", temperature_c=-10.0
        )
        registry.revoke(2, reason="light leak")
    return stocked


def write_light(folder: Path, name: str, start: str) -> Path:
    return small_camera.write_frame(folder / name, start=start, header={"IMAGETYP": "Light Frame"})


def test_diff_of_two_masks_counts_by_flag_and_draws(storied: Hotpix) -> None:
    done = storied("diff", "1", "2", "-o", "diff.png").ended_with(0, "different rules", "diff.png")
    rows = {line.split()[1]: line.split()[2:] for line in done.out.splitlines() if line.startswith("flag")}
    assert rows["BAD"] == ["5", "1", "1"]
    assert (storied.cwd / "diff.png").read_bytes().startswith(PNG)
    told = storied("diff", "1", "2", "--format", "json").ended_with(0).json
    assert told["jaccard"] == pytest.approx(1 / 7)
    assert {row["name"]: row["new"] for row in storied("diff", "1", "2", "--format", "json").json["flags"]}[
        "MANUAL"
    ] == 2
    assert storied("diff", "1", "2", "--format", "csv").csv[0]["name"] == "BAD"


def test_diff_of_two_states_lists_dates(storied: Hotpix) -> None:
    done = storied("diff", "2021A", "now").ended_with(0)
    assert "from 2022-03-04T00:00:00Z to further notice: mask 2, revoked, instead of mask 1" in done.out
    (change,) = storied("diff", "now", "2021A", "--format", "json").json
    assert (change["before"], change["before_status"], change["after"]) == (2, "revoked", 1)
    assert storied("diff", "2021A", "2021A").ended_with(0, "No date").out == ""
    assert storied("diff", "2021A", "2021A", "--format", "json").json == []
    assert len(storied("diff", "tx1", "now", "--format", "csv").csv) == 2


def test_affected_lists_dates_and_frames(storied: Hotpix) -> None:
    write_light(storied.cwd, "same.fits", "2021-06-01T00:00:00")
    hit = write_light(storied.cwd, "hit.fits", "2022-06-01T00:00:00")
    done = storied("affected", "--since", "2021A", "same.fits", "hit.fits").ended_with(0, "1 of 2 frames")
    assert done.out.splitlines()[-1] == f"{hit}: mask 2, revoked, instead of mask 1"
    told = storied("affected", "--since", "2021A", "same.fits", "hit.fits", "--format", "json").json
    assert [frame["path"] for frame in told["frames"]] == [str(hit)]
    rows = storied("affected", "--since", "2021A", "*.fits", "--format", "csv").csv
    assert [(row["before"], row["after"], row["after_status"]) for row in rows] == [("1", "2", "revoked")]
    assert storied("affected", "--since", "now").ended_with(0, "No date").out == ""


def test_affected_names_what_it_cannot_read(storied: Hotpix) -> None:
    (storied.cwd / "broken.fits").write_text("nothing")
    done = storied("affected", "--since", "2021A", "broken.fits").ended_with(0, "broken.fits", "0 of 1 frame")
    assert "broken" not in done.out
    storied("affected", "--since", "2021A", "broken.fits", "--fail-on-rejected").ended_with(
        8, "Rejected 1 file"
    )


def test_coverage_shows_the_timeline(storied: Hotpix) -> None:
    done = storied("coverage", "--camera", "smallcam-48", "-o", "cov.png").ended_with(0)
    assert "R" in done.out.splitlines()[3]
    assert "mask 2 is revoked" in done.out
    assert (storied.cwd / "cov.png").read_bytes().startswith(PNG)
    (series,) = storied("coverage", "--camera", "smallcam-48", "--format", "json").json["series"]
    assert [stretch["status"] for stretch in series["stretches"]] == ["certified", "revoked"]
    (row,) = storied("coverage", "--camera", "smallcam-48", "--release", "2021A", "--format", "csv").csv
    assert (row["mask_id"], row["valid_to"]) == ("1", "")


def test_trend_tells_what_it_compares(storied: Hotpix) -> None:
    done = storied("trend", "--camera", "smallcam-48", "-o", "trend.png").ended_with(0)
    assert "HOT pixels of smallcam-48 at -10 °C, bin 1x1 (rule limit, 30 and 120 s" in done.out
    assert (storied.cwd / "trend.png").read_bytes().startswith(PNG)
    (told,) = storied("trend", "--camera", "smallcam-48", "--format", "json").json
    assert [campaign["count"] for campaign in told["campaigns"]] == [6]
    assert storied("trend", "--camera", "smallcam-48", "--format", "csv").csv[0]["count"] == "6"


def test_cite_prints_a_sentence_and_writes_a_bundle(storied: Hotpix) -> None:
    done = storied("cite", "--camera", "smallcam-48", "--date", "2021-03-04", "-o", "bundle").ended_with(0)
    assert done.out.startswith("Hot pixels were masked with version 1")
    assert done.out.count("\n") == 1
    for line in (storied.cwd / "bundle" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((storied.cwd / "bundle" / name).read_bytes()).hexdigest() == digest
    receipt = storied("mask", "--camera", "smallcam-48", "--date", "2021-03-04", "--format", "json").json[
        "receipt"
    ]
    assert receipt in storied("cite", "--receipt", receipt).ended_with(0).out
    told = storied("cite", "--release", "2021A", "--format", "json").ended_with(0).json
    assert told["release"]["name"] == "2021A"
    assert "@article{numpy_2020," in told["bibtex"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("diff", "1", "2021A"), 2, "tx1 is the transaction"),
        (("diff", "1", "99"), 2, "There is no mask 99"),
        (("diff", "2021B", "now"), 2, "Did you mean the release 2021A?"),
        (("diff", "tx99", "now"), 2, "the newest is"),
        (("diff", "2021A", "now", "-o", "x.png"), 2, "A picture shows two masks"),
        (("diff", "1", "2", "-o", "x.jpg"), 2, "FILE.png"),
        (("diff", "1", "2", "-o", "no/such/x.png"), 1, "cannot be written"),
        (("diff", "1", "2", "--camera", "smallcam-48"), 2, "Omit the camera"),
        (("diff", "2021A", "now", "--camera", "smalcam-48"), 2, "Did you mean smallcam-48?"),
        (("affected", "--since", "yesterday"), 2, "'yesterday' is no release"),
        (("affected", "--since", "2021A", "nowhere.fits"), 2, "nowhere.fits"),
        (("coverage", "--camera", "smallcam-84"), 2, "Did you mean smallcam-48?"),
        (("coverage", "--camera", "smallcam-48", "--release", "2030A"), 2, "There is no release 2030A"),
        (("trend", "--camera", "smallcam-48", "--flag", "HTO"), 2, "Did you mean HOT?"),
        (("trend", "--camera", "smallcam-48", "--temperature", "-40"), 3, "no mask at -40 °C"),
        (("cite",), 2, "--camera NAME --date DATE"),
        (("cite", "--date", "2021-03-04"), 2, "--camera is missing"),
        (("cite", "--receipt", "hp:x"), 2, "no receipt"),
        (("cite", "--receipt", "hp:x", "--camera", "smallcam-48"), 2, "alone"),
        (("cite", "--camera", "smallcam-48", "--date", "2022-06-01"), 4, "revoked"),
        (("cite", "--camera", "smallcam-48", "--date", "2001-06-01"), 3, "No mask"),
        (("cite", "--release", "2030A"), 2, "There is no release 2030A"),
    ],
)
def test_what_cannot_be_told_is_one_sentence(
    storied: Hotpix, arguments: tuple[str, ...], code: int, words: str
) -> None:
    storied(*arguments).refused(code, words)
