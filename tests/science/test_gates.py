"""Quality gates refuse nonsense and say what they found."""

import numpy as np

from hotpix_registry.domain import DQ
from hotpix_registry.science.gates import GateBounds, jaccard, judge

REPORT = {
    "z_sd": 1.0,
    "groups": [
        {"exptime_s": 90.0, "exposures": 10, "temperature_k": 0.1, "frames": []},
        {
            "exptime_s": 1000.0,
            "exposures": 20,
            "temperature_k": None,
            "frames": [
                {"used": True, "temperature_k": -0.1},
                {"used": False, "temperature_k": 9.0},
            ],
        },
    ],
}


def plane(n_bad, shape=(100, 100)):
    dq = np.zeros(shape, np.uint16)
    dq.reshape(-1)[:n_bad] = DQ.BAD.value
    return dq


def failing(dq, report=REPORT, **keywords):
    return [gate.name for gate in judge(dq, report, **keywords) if not gate.passed]


def test_a_sane_mask_passes():
    assert failing(plane(50)) == []


def test_a_tenth_of_the_sensor_is_refused():
    assert failing(plane(1500)) == ["flagged fraction"]


def test_informative_flags_do_not_count():
    dq = plane(0)
    dq[...] = DQ.WARM.value
    assert failing(dq) == []


def test_too_few_frames_are_refused_where_the_profile_wants_more():
    gates = judge(plane(50), REPORT, bounds=GateBounds(min_frames=15))
    (gate,) = [gate for gate in gates if not gate.passed]
    assert (gate.name, gate.found, gate.wanted) == ("frames per exposure", "10 of 90 s", "at least 15")


def test_z_scores_that_do_not_scatter_by_one_are_refused():
    assert failing(plane(50), {**REPORT, "z_sd": 0.6}) == ["z-score spread"]


def test_frames_of_different_temperatures_are_refused():
    groups = [{**REPORT["groups"][0], "temperature_k": 2.0}, REPORT["groups"][1]]
    assert failing(plane(50), {**REPORT, "groups": groups}) == ["temperature spread"]


def test_what_cannot_be_judged_is_left_out():
    assert [gate.name for gate in judge(plane(0), {})] == ["flagged fraction"]


def test_a_mask_unlike_the_previous_one_is_refused():
    other = np.roll(plane(50), 5000)
    assert failing(plane(50), previous_dq=plane(50)) == []
    assert failing(plane(50), previous_dq=other) == ["overlap with the previous mask"]
    assert "count against the previous mask" in failing(plane(500), previous_dq=plane(50))


def test_a_previous_mask_of_another_shape_is_refused():
    assert failing(plane(50), previous_dq=plane(50, (50, 100))) == ["shape"]


def test_empty_masks_are_equal():
    empty = np.zeros((3, 3), np.bool_)
    assert jaccard(empty, empty) == 1
    assert failing(plane(0), previous_dq=plane(0)) == []


def test_flagged_pixels_alone_are_judged_as_their_planes():
    rng = np.random.default_rng(3)
    for share in (0.0, 0.02, 0.2):
        own, before = (
            np.where(rng.random((50, 60)) < share, rng.integers(1, 1024, (50, 60)), 0).astype(np.uint16)
            for _ in range(2)
        )
        either = (own != 0) | (before != 0)
        whole = judge(own, REPORT, previous_dq=before)
        assert judge(own[either], REPORT, previous_dq=before[either], pixels=3000) == whole
        assert judge(own[own != 0], REPORT, pixels=3000) == judge(own, REPORT)
