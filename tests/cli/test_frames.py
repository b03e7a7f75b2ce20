"""Looking at frames, and correcting what is known of them."""

from __future__ import annotations

import pytest
from astropy.table import Table

from tests.cli.conftest import Hotpix
from tests.small_camera import write_frame

FRAME_KEYS = {"frame_id", "camera", "kind", "night", "exptime_s", "status", "sha256", "paths", "sources"}


def test_frames_are_filtered_by_what_is_known_of_them(stocked: Hotpix) -> None:
    write_frame(
        stocked.cwd / "warm.fits", start="2021-05-04T22:00:00", header={"SET-TEMP": 5.0, "CCD-TEMP": 5}
    )
    write_frame(stocked.cwd / "other.fits", exptime_s=30.002, header={"INSTRUME": "Othercam"})
    stocked.ingest("warm.fits", "other.fits")
    stocked("frames", "exclude", "1", "--reason", "light leak").ended_with(0, "Excluded 1 frame from")

    def found(*filters: str) -> int:
        rows = stocked("frames", *filters, "--format", "json").ended_with(0).json
        assert all(row.keys() >= FRAME_KEYS for row in rows)
        return len(rows)

    assert found() == 13
    assert found("--camera", "smallcam-48") == 12
    assert found("--nights", "2021-05-01..2021-05-31") == 1
    assert found("--exposures", "30") == 5
    assert found("--temperature", "4.5") == 1
    assert found("--kind", "bias") == 3
    assert found("--status", "excluded") == 1
    (stocked.cwd / "warm.fits").unlink()
    assert found("--status", "missing") == 1


def test_every_format_can_be_read_by_machines(stocked: Hotpix) -> None:
    assert {row["camera"] for row in stocked("frames", "--format", "csv").ended_with(0).csv} == {
        "smallcam-48"
    }
    table = Table.read(stocked("frames", "--format", "ecsv").ended_with(0).out, format="ascii.ecsv")
    assert len(table) == 11
    none = stocked("frames", "--nights", "1999-01-01", "--format", "csv").ended_with(0)
    assert none.csv == []
    assert stocked("frames", "--nights", "1999-01-01").ended_with(0, "No frames").out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("frames", "--nights", "2021-03-05..2021-03-04"), "end before they begin"),
        (("frames", "--nights", "soon"), "'soon' is no range"),
        (("frames", "--status", "lost"), "'lost' is no status"),
        (("frames", "--exposures", "nan"), "'nan'"),
        (("frames", "--camera", "smallcam"), "Did you mean smallcam-48?"),
        (("frames", "exclude", "999", "--reason", "x"), "no catalogued frame 999"),
        (("frames", "fix", "1", "--reason", "x", "--set", "exptime=60"), "'exptime=60' is no correction"),
        (("frames", "fix", "1", "--reason", "x", "--set", "exptime_s=nan"), "'nan' does not fit exptime_s"),
        (("frames", "fix", "1", "--reason", "x", "--set", "exptime_s=-1"), "'-1' does not fit exptime_s"),
        (("frames", "fix", "1", "--reason", "x", "--set", "n_combined=0"), "'0' does not fit n_combined"),
        (("frames", "fix", "1", "--reason", "x", "--set", "unit=parsec"), "'parsec' does not fit unit"),
        (("frames", "fix", "1", "--reason", "x", "--set", "start=2021-03-04"), "does not fit start"),
        (("frames", "fix", "1", "--reason", "x", "--set", "camera=nocam"), "no camera nocam"),
    ],
)
def test_what_cannot_be_understood_is_one_sentence_and_changes_nothing(
    stocked: Hotpix, arguments: tuple[str, ...], words: str
) -> None:
    before = stocked.frames()
    stocked(*arguments).refused(2, words)
    assert stocked.frames() == before


def test_a_start_that_was_corrected_makes_a_twin_a_frame_of_its_own(hotpix: Hotpix) -> None:
    """A camera whose clock stood still: two exposures with the same start."""
    write_frame(hotpix.cwd / "a.fits")
    write_frame(hotpix.cwd / "b.fits", header={"OBSERVER": "somebody"})
    hotpix.ingest("a.fits", "b.fits")
    assert [frame.twin_of for frame in hotpix.frames()] == [None, 1]
    fix = ("frames", "fix", "b.fits", "--set", "start=2021-03-04T23:30:00Z", "--reason", "the clock stood")
    assert hotpix(*fix).ended_with(0, "Corrected 1 frame").out == "2\n"
    assert [frame.twin_of for frame in hotpix.frames()] == [None, None]
    assert hotpix.frames()[1].facts.sources["start_us"] == "correction"
