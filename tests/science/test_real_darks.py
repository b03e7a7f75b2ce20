"""What the detection makes of real darks, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.science.detection import detect
from hotpix_registry.science.gates import jaccard, judge
from hotpix_registry.science.inputs import ArrayRows, DarkFrame, Detector, ExposureGroup

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


def test_even_and_odd_frames_agree_better_than_with_a_fixed_cut(stl_1001):
    """At the guide's 1 e-/s a fixed cut passes through the bulk; the excess over it does not."""
    (sixty, *_), biases = stl_1001
    bias = np.mean([frame.rows.read(0, 1024) for frame in biases.frames], axis=0)
    fixed, ours = [], []
    for half in (sixty.frames[0::2], sixty.frames[1::2]):
        mean = np.mean([frame.rows.read(0, 1024) for frame in half], axis=0)
        fixed.append(2.06 * (mean - bias) / 60 > 1)
        found = detect(
            [ExposureGroup(exptime_s=60.0, frames=half)], STL_1001, Recipe(rule=Rule.CUTOFF), biases=biases
        )
        ours.append((found.dq & DQ.BAD.value) != 0)
    assert jaccard(*ours) > 0.9
    assert jaccard(*fixed) < 0.5
