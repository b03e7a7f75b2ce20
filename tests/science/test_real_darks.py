"""What the detection makes of real darks, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.science.detection import detect
from hotpix_registry.science.gates import judge
from hotpix_registry.science.inputs import ArrayRows, DarkFrame, Detector, ExposureGroup
from tests.benchmarks import halves

DARKS = Path(__file__).parents[3] / "shared" / "data" / "darks"

pytestmark = pytest.mark.skipif(not DARKS.is_dir(), reason="the real darks are not beside this checkout")

STL_1001 = Detector(gain_e_per_adu=2.06)
ST_7 = Detector(gain_e_per_adu=2.55)


def group(exptime_s, paths):
    frames = []
    for path in sorted(paths):
        data = fits.getdata(path, memmap=False).astype(np.uint16)
        frames.append(DarkFrame(rows=ArrayRows(data), name=path.name))
    return ExposureGroup(exptime_s=exptime_s, frames=tuple(frames))


@pytest.fixture(scope="module")
def stl_1001():
    folder = DARKS / "stl1001_2017"
    groups = [
        group(60.0, [*folder.glob("darks-expos1-Neg5-*"), *folder.glob("darks-expos60s-Neg5-*")]),
        *(group(t, folder.glob(f"darks-expos{t:g}s-Neg5-*")) for t in (10.0, 30.0, 300.0)),
    ]
    return groups, group(0.0, folder.glob("biases-Neg5-*"))


@pytest.fixture(scope="module")
def st_7():
    folder = DARKS / "st7_2019"
    return [group(t, folder.glob(f"*D{t:g}s*")) for t in (120.0, 300.0, 900.0)]


def test_the_charges_of_the_stl_1001_lie_on_lines(stl_1001):
    groups, biases = stl_1001
    found = detect(groups, STL_1001, Recipe(rule=Rule.EVIDENCE_AND_LIMIT), biases=biases)
    assert found.report["line"]["mean_chi2_per_degree"] == pytest.approx(1, abs=0.05)
    assert found.report["z_sd"] == pytest.approx(1, abs=0.05)
    assert 500 < found.counts["BAD"] < 5000
    assert all(gate.passed for gate in judge(found.dq, found.report))


def test_steps_of_the_stl_1001s_thermometer_are_not_steps_of_its_sensor(stl_1001):
    """CCD-TEMP jumps by 0.41 °C among the 60 s frames; their hot pixels know nothing of it."""
    groups, biases = stl_1001
    found = detect(groups[:1], STL_1001, Recipe(rule=Rule.CUTOFF), biases=biases)
    temperatures = [frame["temperature_k"] for frame in found.report["groups"][0]["frames"]]
    assert max(temperatures) - min(temperatures) < 0.1


def test_three_exposures_of_the_st_7_lie_on_lines_without_bias_frames(st_7):
    found = detect(st_7, ST_7, Recipe(rule=Rule.EVIDENCE_AND_LIMIT))
    assert found.bias_method == "scalar offset"
    assert found.report["line"]["mean_chi2_per_degree"] == pytest.approx(1, abs=0.05)
    assert found.report["z_sd"] == pytest.approx(1, abs=0.05)
    assert 50 < found.counts["BAD"] < 2000
    assert found.counts["COLUMN"] == 0


def test_the_charges_of_the_st_7_leave_their_lines_where_the_limit_is(st_7):
    """χ² is what noise makes it up to 2 e-/s, twice that from 4 e-/s on, ten times and more above 8."""
    found = detect(st_7, ST_7, Recipe(rule=Rule.EVIDENCE_AND_LIMIT))
    typical = {row["from_e_per_s"]: row["median_chi2"] for row in found.report["line"]["hot"]}
    assert all(typical[rate] == pytest.approx(1, abs=0.15) for rate in (0.25, 0.5, 1.0))
    assert typical[2.0] < 1.5 < typical[4.0] < 10 < typical[8.0]
    assert 5 < found.limit.e_per_s < 8


def agreement(name):
    """Our rule, or a fixed cut → what even and odd frames of these darks have in common."""
    (darks,) = [each for each in halves.real_darks() if each.name.startswith(name)]
    rows = halves.compare_halves([darks])
    return {row.removeprefix(f"{darks.name}: "): numbers for row, (numbers,) in rows.items()}


def test_the_stl_1001s_even_and_odd_frames_agree_far_better_than_a_cut_of_the_same_difference():
    of = agreement("STL-1001, 6 × 60 s halved; single")
    ours = of["our evidence+limit"]
    assert ours["flagged"] > 1000
    assert ours["jaccard"] > 0.83
    assert ours["same_number_difference"] < 0.65


def test_levels_of_dark_current_agree_or_not_by_how_many_pixels_lie_there():
    """A tenth of the STL-1001's hot pixels lie at 10 e-/s above the bulk, hardly any at 20."""
    of = agreement("STL-1001, 6 × 60 s halved; single")
    assert of["dark current > 10 e-/s"]["jaccard"] < 0.75
    assert of["dark current > 20 e-/s"]["jaccard"] > 0.98


def test_60_s_frames_alone_agree_no_worse_than_a_cut_of_the_same_number():
    ours = agreement("STL-1001, 6 × 60 s halved, nothing")["our cutoff"]
    assert ours["jaccard"] > 0.91
    assert ours["jaccard"] > ours["same_number_dark_current"]


def test_two_and_three_frames_of_the_st_7_agree_far_better_than_a_cut_of_the_same_difference():
    ours = agreement("ST-7")["our evidence+limit"]
    assert ours["jaccard"] > 0.8
    assert ours["same_number_difference"] < 0.25
