"""From darks to flags: the guide's rule by an oracle, and what the noise model adds to it."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.errors import NothingToBuild
from hotpix_registry.science.detection import detect
from hotpix_registry.science.inputs import ArrayRows, DarkFrame, Detector, ExposureGroup
from hotpix_registry.science.survey import survey
from hotpix_registry.simulate import REFERENCE_TEMP_C, Population, SimulatedCamera

GUIDE = Detector(gain_e_per_adu=1.5, read_noise_e=10.0)
EVIDENCE = Recipe(rule=Rule.EVIDENCE)
LIMIT_4 = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
EXPOSURES_S = (90.0, 1000.0)


def group(exptime_s, arrays, pedestal=1000.0, **keywords):
    return ExposureGroup(
        exptime_s=exptime_s,
        frames=tuple(
            DarkFrame(rows=ArrayRows(array), name=f"{exptime_s:g} s {i}", pedestal=pedestal, **keywords)
            for i, array in enumerate(arrays)
        ),
    )


def flag(detection, which):
    return (detection.dq & which.value) != 0


def plain_frames(rate_e_per_s, exptime_s, n, seed=0):
    """Frames of a camera with nothing but dark current, read noise and rounding."""
    rng = np.random.default_rng((seed, round(exptime_s)))
    charge = rng.poisson(rate_e_per_s * exptime_s, (n, *rate_e_per_s.shape)) + rng.normal(
        0, 10, (n, *rate_e_per_s.shape)
    )
    return list(np.clip(np.rint(1000 + charge / 1.5), 0, 65535).astype(np.uint16))


def hot_rates(shape=(200, 200), n_hot=500, seed=1):
    rng = np.random.default_rng(seed)
    rate = np.full(shape, 0.01)
    rate.reshape(-1)[rng.choice(rate.size, n_hot, replace=False)] = 0.3 / rng.uniform(0.006, 1, n_hot)
    return rate


# --- the guide's rules ---------------------------------------------------------------


def test_the_rule_limit_selects_what_plain_numpy_selects():
    """The oracle: dark current in the shorter exposure > 4 e-/s, without noise nor rejection."""
    rate = hot_rates()
    short = np.rint(1000 + rate * 90 / 1.5).astype(np.uint16)
    long = np.rint(1000 + rate * 1000 / 1.5).astype(np.uint16)
    found = detect([group(1000.0, [long] * 4), group(90.0, [short] * 3)], GUIDE, LIMIT_4)
    assert np.array_equal(flag(found, DQ.BAD), 1.5 * (short - 1000.0) / 90 > 4)
    assert found.limit.source == "given"
    assert found.exposures_s == (90.0, 1000.0)


def test_two_masters_without_any_bias_make_the_guides_mask():
    """Combined darks months apart, each with an offset of its own, nothing known of the bias."""
    rate = hot_rates()
    rng = np.random.default_rng(3)
    short = (rate * 90 / 1.5 + rng.normal(0, 2, rate.shape) + 7.0).astype(np.float32)
    long = (rate * 1000 / 1.5 + rng.normal(0, 2, rate.shape) + 3.0).astype(np.float32)
    found = detect(
        [
            group(90.0, [short], pedestal=None, n_combined=10),
            group(1000.0, [long], pedestal=None, n_combined=20),
        ],
        GUIDE,
        LIMIT_4,
    )
    assert found.bias_method == "scalar offset"
    dark_90 = 1.5 * (short - np.median(short)) / 90
    sure = np.abs(dark_90 - 4) > 0.02
    assert np.array_equal(flag(found, DQ.BAD)[sure], (dark_90 > 4)[sure])


@pytest.mark.parametrize(
    ("unit", "factor"), [("adu", 1.0), ("electron", 1.5), ("adu/s", 1 / 90), ("electron/s", 1.5 / 90)]
)
def test_masters_count_in_their_own_unit(unit, factor):
    rate = hot_rates()
    short = (rate * 90 / 1.5 * factor).astype(np.float32)
    long = (rate * 1000 / 1.5).astype(np.float32)
    found = detect(
        [
            group(90.0, [short], None, n_combined=10, unit=unit, bias_subtracted=True),
            group(1000.0, [long], None, n_combined=20, bias_subtracted=True),
        ],
        GUIDE,
        LIMIT_4,
    )
    assert found.bias_method == "already subtracted"
    sure = np.abs(rate - 4) > 1e-3
    assert np.array_equal(flag(found, DQ.BAD)[sure], (rate > 4)[sure])


def test_of_three_exposures_the_longest_is_compared_with_the_quietest_of_the_shorter_ones():
    rate = hot_rates()
    groups = [group(t, plain_frames(rate, t, n)) for t, n in ((30.0, 5), (300.0, 5), (700.0, 5), (1000.0, 5))]
    found = detect(groups, GUIDE, LIMIT_4)
    assert found.limit.exposures_s == (300.0, 1000.0)
    assert found.numbers["short_s"] == 300


def test_a_single_exposure_is_cut_above_its_surroundings():
    rate = hot_rates()
    found = detect([group(300.0, plain_frames(rate, 300.0, 10))], GUIDE, Recipe(rule=Rule.CUTOFF))
    sure = np.abs(rate - 1.01) > 0.1
    assert np.array_equal(flag(found, DQ.HOT)[sure], (rate > 1.01)[sure])
    assert found.limit.e_per_s is None


@pytest.mark.parametrize("rule", [Rule.LIMIT, Rule.EVIDENCE_AND_LIMIT])
def test_with_one_exposure_time_the_cutoff_takes_the_limits_place(rule):
    groups = [group(300.0, plain_frames(hot_rates(), 300.0, 10))]
    by_cutoff = detect(groups, GUIDE, Recipe(rule=Rule.CUTOFF))
    found = detect(groups, GUIDE, Recipe(rule=rule))
    assert np.array_equal(flag(found, DQ.HOT), flag(by_cutoff, DQ.HOT))
    assert flag(found, DQ.BAD)[flag(found, DQ.HOT)].all()


def test_a_noisy_exposure_needs_five_sigma_besides_the_number():
    rate = np.full((200, 200), 0.01)
    found = detect([group(5.0, plain_frames(rate, 5.0, 1))], GUIDE, Recipe(rule=Rule.CUTOFF))
    assert flag(found, DQ.HOT).sum() <= 2


def test_amplifier_glow_is_no_mask():
    camera = SimulatedCamera.create((256, 512), seed=5, glow_e_per_s=3.0)
    found = detect([camera.group(300.0, 5)], camera.detector, Recipe(rule=Rule.CUTOFF))
    corner = flag(found, DQ.HOT)[:25, :50]
    assert camera.truth.mean_charge(300.0)[:25, :50].mean() / 300 > 1.2
    assert corner.mean() < 0.01


def test_each_bayer_colour_has_its_own_bulk():
    rate = np.full((128, 128), 0.02)
    rate[0::2, 0::2] = 2.0
    rate[10, 10], rate[21, 21] = 4.5, 4.5
    groups = [group(300.0, plain_frames(rate, 300.0, 10))]
    colour = dataclasses.replace(GUIDE, bayer_pattern="RGGB")
    found = detect(groups, colour, Recipe(rule=Rule.CUTOFF))
    assert np.argwhere(flag(found, DQ.HOT)).tolist() == [[10, 10], [21, 21]]


def test_no_masking_is_an_empty_plane():
    found = detect([group(300.0, plain_frames(hot_rates(), 300.0, 3))], GUIDE, Recipe(rule=Rule.NONE))
    assert not found.dq.any()


def test_saturated_and_listed_pixels_are_bad_under_every_rule():
    rate = np.full((100, 100), 0.01)
    rate[3, 4] = 500.0
    listed = np.zeros(rate.shape, np.bool_)
    listed[50:52, 60] = True
    groups = [group(t, plain_frames(rate, t, 4)) for t in EXPOSURES_S]
    for rule in (Rule.LIMIT, Rule.EVIDENCE, Rule.EVIDENCE_AND_LIMIT, Rule.CUTOFF):
        found = detect(groups, GUIDE, Recipe(rule=rule), manual=listed)
        assert np.argwhere(flag(found, DQ.DARK_SATURATED)).tolist() == [[3, 4]]
        assert np.argwhere(flag(found, DQ.MANUAL)).tolist() == [[50, 60], [51, 60]]
        assert flag(found, DQ.BAD)[3, 4]
        assert flag(found, DQ.BAD)[50:52, 60].all()


# --- the noise model -------------------------------------------------------------------


def test_good_pixels_are_hardly_ever_flagged():
    """The null: 250,000 normal pixels, expected false flags about one a frame."""
    rate = np.full((500, 500), 0.01)
    found = detect(
        [group(t, plain_frames(rate, t, n)) for t, n in ((90.0, 10), (1000.0, 20))], GUIDE, EVIDENCE
    )
    assert found.counts["BAD"] <= stats.poisson.ppf(0.999, 1.0)
    assert found.report["z_sd"] == pytest.approx(1, abs=0.02)


def test_evidence_finds_the_uncorrectable_and_spares_the_others(camera, darks):
    found = detect(darks, camera.detector, EVIDENCE)
    bad = flag(found, DQ.BAD)
    wanted = camera.truth.uncorrectable(EXPOSURES_S, with_bias=False)
    doubtful = camera.truth.doubtful(EXPOSURES_S, with_bias=False)
    assert (bad & wanted).sum() >= 0.9 * wanted.sum()
    assert (bad & ~wanted & ~doubtful).sum() <= 0.04 * bad.sum()
    assert (bad & camera.truth.normal).sum() <= 4
    assert found.report["z_sd"] == pytest.approx(1, abs=0.02)
    assert found.counts["STUCK"] >= (camera.truth.stuck_index.size)


def test_the_default_rule_contains_the_guides_mask(camera, darks):
    both = detect(darks, camera.detector, Recipe(rule=Rule.EVIDENCE_AND_LIMIT))
    guide = detect(darks, camera.detector, Recipe(rule=Rule.LIMIT))
    assert both.limit.e_per_s == guide.limit.e_per_s
    assert flag(both, DQ.BAD)[flag(guide, DQ.BAD)].all()
    assert both.counts["BAD"] > guide.counts["BAD"] > 0


def test_bias_frames_show_offset_pixels_and_spare_them(camera, darks, biases):
    found = detect(darks, camera.detector, EVIDENCE, biases=biases)
    offset = np.zeros(camera.shape, np.bool_)
    strong = camera.truth.offset_e > 200
    offset.reshape(-1)[camera.truth.offset_index[strong]] = True
    assert found.bias_method == "bias frames"
    assert (flag(found, DQ.PEDESTAL) & offset).sum() >= 0.95 * offset.sum()
    assert (flag(found, DQ.DARK_NONLINEAR) & offset).sum() <= 0.05 * offset.sum()
    without = detect(darks, camera.detector, EVIDENCE)
    assert without.counts["PEDESTAL"] == 0
    assert without.report["tests"]["pedestal"] == "not tested"


def test_few_bias_frames_do_not_blur_what_the_darks_show(camera, darks):
    """A sensor without fixed pattern: three bias frames tell the offset pixels, and nothing of the others."""
    one_pattern = survey(darks, camera.group(0.0, 3), camera.detector, lambda: None)
    assert one_pattern.bias_pattern.share < 0.05
    assert one_pattern.bias_pattern.noise_e2 == pytest.approx(100 / 3, rel=0.01)
    blind = flag(detect(darks, camera.detector, EVIDENCE), DQ.BAD)
    found = flag(detect(darks, camera.detector, EVIDENCE, biases=camera.group(0.0, 3)), DQ.BAD)
    changed = camera.truth.population == Population.CHANGED
    assert (found & changed).sum() >= (blind & changed).sum() - 1
    assert not (found & ~blind & camera.truth.normal).any()


def test_a_fixed_pattern_is_believed_pixel_by_pixel():
    camera = SimulatedCamera.create((512, 512), seed=4, fixed_pattern_adu=5.0)
    darks = [camera.group(90.0, 10), camera.group(1000.0, 20)]
    pattern = survey(darks, camera.group(0.0, 10), camera.detector, lambda: None).bias_pattern
    assert pattern.share == pytest.approx(7.5**2 / (7.5**2 + 10.0), abs=0.02)
    found = detect(darks, camera.detector, EVIDENCE, biases=camera.group(0.0, 10))
    assert found.report["z_sd"] == pytest.approx(1, abs=0.02)
    assert (flag(found, DQ.BAD) & camera.truth.normal).sum() <= 4


def test_charge_gathered_while_bias_frames_are_read_out_is_measured_in_hot_pixels():
    """Read out for half a second, a pixel of 100 e-/s has 50 e- in a bias frame, and in every dark."""
    rng = np.random.default_rng(8)
    rate = 10 ** rng.uniform(-2, 2.3, (200, 200)) * (rng.random((200, 200)) < 0.05) + 0.01

    def late(exptime_s, n):
        return group(exptime_s, plain_frames(rate * (exptime_s + 0.5), 1.0, n, seed=int(exptime_s)))

    darks = [late(60.0, 10), late(300.0, 10)]
    assert survey(darks, late(0.0, 3), GUIDE, lambda: None).bias_pattern.readout_s == pytest.approx(
        0.5, abs=0.05
    )
    found = detect(darks, GUIDE, EVIDENCE, biases=late(0.0, 3))
    assert found.counts["DARK_NONLINEAR"] <= 3


def test_a_degree_between_the_groups_is_measured_and_does_no_harm(camera, darks):
    warm = camera.group(90.0, 10, epoch=1, temperature_c=REFERENCE_TEMP_C + 1)
    found = detect([warm, darks[1]], camera.detector, EVIDENCE)
    assert found.report["groups"][0]["temperature_k"] == pytest.approx(1.0, abs=0.15)
    wanted = camera.truth.uncorrectable(EXPOSURES_S, with_bias=False)
    doubtful = camera.truth.doubtful(EXPOSURES_S, with_bias=False)
    false = flag(found, DQ.BAD) & ~wanted & ~doubtful
    assert false.sum() <= 0.05 * found.counts["BAD"]


def test_five_degrees_between_the_groups_are_refused_by_name(camera, darks):
    warm = camera.group(90.0, 10, epoch=1, temperature_c=REFERENCE_TEMP_C + 5)
    with pytest.raises(NothingToBuild, match=r"90 s frames \(90 s 1.*\+4\.\d K"):
        detect([warm, darks[1]], camera.detector, EVIDENCE)


def test_jitter_between_frames_is_measured_and_does_no_harm(camera):
    jittery = [camera.group(90.0, 10, epoch=1, jitter_c=0.2), camera.group(1000.0, 20, jitter_c=0.2)]
    found = detect(jittery, camera.detector, EVIDENCE)
    assert found.report["groups"][1]["rate_factors_applied"]
    wanted = camera.truth.uncorrectable(EXPOSURES_S, with_bias=False)
    doubtful = camera.truth.doubtful(EXPOSURES_S, with_bias=False)
    false = flag(found, DQ.BAD) & ~wanted & ~doubtful
    assert false.sum() <= 0.05 * found.counts["BAD"]


def test_a_frame_taken_before_the_cooler_settled_is_left_out_by_name(camera, darks):
    early = camera.group(1000.0, 1, temperature_c=REFERENCE_TEMP_C + 2).frames[0]
    late = dataclasses.replace(
        darks[1], frames=(*darks[1].frames[1:6], dataclasses.replace(early, name="early"))
    )
    found = detect([darks[0], late], camera.detector, EVIDENCE)
    assert any("early was left out" in warning for warning in found.report["warnings"])
    assert found.report["groups"][1]["frames_rejected"] == 1


def test_a_wrong_gain_is_noticed_and_harmless(camera, darks):
    wrong = dataclasses.replace(camera.detector, gain_e_per_adu=1.875)
    found = detect(darks, wrong, EVIDENCE)
    assert found.report["noise"]["gain_e_per_adu"] == pytest.approx(1.5, rel=0.05)
    assert "1.875" in found.report["warnings"][0]
    assert (flag(found, DQ.BAD) & camera.truth.normal).sum() <= 4


def test_a_third_exposure_tests_the_line(camera, darks, biases):
    found = detect([*darks, camera.group(300.0, 10)], camera.detector, EVIDENCE, biases=biases)
    assert found.exposures_s == (90.0, 300.0, 1000.0)
    assert found.report["line"]["degrees_of_freedom"] == 2
    assert found.report["line"]["mean_chi2_per_degree"] == pytest.approx(1, abs=0.03)
    typical = {row["from_e_per_s"]: row["median_chi2"] for row in found.report["line"]["hot"]}
    assert typical[0.125] == pytest.approx(1, abs=0.15)
    assert typical[4.0] > 4


def test_single_frames_work_and_the_report_says_what_they_cannot_show(camera, darks):
    singles = [dataclasses.replace(each, frames=each.frames[:1]) for each in darks]
    found = detect(singles, camera.detector, EVIDENCE)
    assert found.counts["BAD"] < 0.002 * found.dq.size
    assert found.report["tests"]["in_time"] == "not tested"
    assert any("there are fewer than three" in warning for warning in found.report["warnings"])


def test_a_clamped_black_level_is_told():
    camera = SimulatedCamera.create((256, 256), seed=3, pedestal_adu=0.0, overscan_columns=0)
    found = detect([camera.group(90.0, 5), camera.group(1000.0, 5)], camera.detector, EVIDENCE)
    assert any("black level" in warning for warning in found.report["warnings"])
    assert found.counts["BAD"] < 0.1 * found.dq.size


def test_fixed_pattern_without_bias_frames_condemns_nobody():
    camera = SimulatedCamera.create((512, 512), seed=4, fixed_pattern_adu=5.0)
    found = detect([camera.group(90.0, 10), camera.group(1000.0, 20)], camera.detector, EVIDENCE)
    assert (flag(found, DQ.BAD) & camera.truth.normal).sum() <= 4
    assert found.counts["COLUMN"] == 0


# --- what must not matter --------------------------------------------------------------


@pytest.mark.parametrize(("strip_rows", "workers"), [(1, 1), (7, 2), (64, 3), (1000, 1)])
def test_strips_and_workers_do_not_matter(camera, darks, biases, strip_rows, workers):
    few = [dataclasses.replace(each, frames=each.frames[:5]) for each in darks]
    small = [crop(each, 100) for each in few]
    reference = detect(small, camera.detector, EVIDENCE, biases=crop(biases, 100))
    other = detect(
        small, camera.detector, EVIDENCE, biases=crop(biases, 100), strip_rows=strip_rows, workers=workers
    )
    assert np.array_equal(reference.dq, other.dq)
    assert reference.report == other.report


def crop(each, rows):
    return dataclasses.replace(
        each,
        frames=tuple(
            dataclasses.replace(frame, rows=ArrayRows(frame.rows.read(0, rows))) for frame in each.frames
        ),
    )


def test_the_order_of_groups_and_frames_does_not_matter(camera, darks):
    reference = detect(darks, camera.detector, EVIDENCE)
    rng = np.random.default_rng(1)
    shuffled = [
        dataclasses.replace(each, frames=tuple(each.frames[i] for i in rng.permutation(len(each.frames))))
        for each in reversed(darks)
    ]
    other = detect(shuffled, camera.detector, EVIDENCE)
    assert np.array_equal(reference.dq, other.dq)
    assert reference.report == other.report


def test_a_constant_on_all_frames_changes_nothing_when_bias_frames_move_with_it(camera, darks, biases):
    def raised(each):
        return dataclasses.replace(
            each,
            frames=tuple(
                dataclasses.replace(
                    frame,
                    rows=ArrayRows(np.minimum(frame.rows.read(0, 128), 65000) + np.uint16(500)),
                    pedestal=None,
                )
                for frame in each.frames
            ),
        )

    def same(each):
        return dataclasses.replace(
            each,
            frames=tuple(
                dataclasses.replace(
                    frame, rows=ArrayRows(np.minimum(frame.rows.read(0, 128), 65000)), pedestal=None
                )
                for frame in each.frames
            ),
        )

    recipe = Recipe(rule=Rule.EVIDENCE_AND_LIMIT)
    before = detect([same(each) for each in darks], camera.detector, recipe, biases=same(biases))
    after = detect([raised(each) for each in darks], camera.detector, recipe, biases=raised(biases))
    assert np.array_equal(before.dq & ~np.uint16(2), after.dq & ~np.uint16(2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (65, 3), (130, 70)])
def test_any_shape_works(shape):
    rng = np.random.default_rng(1)
    groups = [
        group(t, [np.rint(rng.normal(1000, 7, shape)).astype(np.uint16) for _ in range(3)])
        for t in EXPOSURES_S
    ]
    for rule in (Rule.EVIDENCE_AND_LIMIT, Rule.CUTOFF):
        for detector in (GUIDE, dataclasses.replace(GUIDE, bayer_pattern="RGGB")):
            assert detect(groups, detector, Recipe(rule=rule)).dq.shape == shape


# --- what people see -------------------------------------------------------------------


def test_the_report_is_json_and_the_numbers_fit_together(camera, darks):
    steps = []
    found = detect(
        darks,
        camera.detector,
        Recipe(rule=Rule.EVIDENCE_AND_LIMIT),
        progress=lambda *step: steps.append(step),
    )
    assert json.loads(json.dumps(found.report, allow_nan=False))["counts"] == found.counts
    numbers = found.numbers
    assert numbers["hist_short"].size == numbers["hist_long"].size == numbers["hist_edges"].size - 1
    assert numbers["threshold_counts"].size == numbers["threshold_edges"].size
    assert np.all(np.diff(numbers["threshold_counts"]) <= 0)
    assert numbers["points_short"].dtype == numbers["points_long"].dtype == np.float32
    assert numbers["points_short"].size == numbers["points_dq"].size <= 20_000
    assert np.sum(numbers["points_dq"] & 1) == found.counts["BAD"]
    assert numbers["ceiling_short_e_per_s"] == pytest.approx((65535 - 1000) * 1.5 / 90, rel=1e-3)
    assert numbers["limit"] == found.limit.e_per_s
    assert numbers["z_counts"].sum() > 0.9 * found.dq.size
    assert steps[-1] == (steps[-1][1], steps[-1][1])
    assert all(b[0] == a[0] + 1 for a, b in pairwise(steps))


def test_the_threshold_curve_counts_pixels_above_each_threshold():
    rate = hot_rates()
    frames = [np.rint(1000 + rate * 90 / 1.5).astype(np.uint16)] * 3
    found = detect([group(90.0, frames)], GUIDE, Recipe(rule=Rule.CUTOFF))
    dark = 1.5 * (frames[0] - 1000.0) / 90
    for edge, count in zip(found.numbers["threshold_edges"], found.numbers["threshold_counts"], strict=True):
        assert count == np.sum(dark >= edge)


def test_shapes_that_disagree_are_refused_by_name():
    a, b = np.zeros((10, 10), np.uint16), np.zeros((10, 12), np.uint16)
    with pytest.raises(NothingToBuild, match="1000 s 1 has 12 x 10 pixels"):
        detect([group(1000.0, [a, b])], GUIDE, EVIDENCE)


def test_nothing_makes_no_mask():
    with pytest.raises(NothingToBuild, match="no dark frames"):
        detect([], GUIDE, EVIDENCE)


def test_frames_that_are_saturated_throughout_are_refused():
    white = np.full((20, 20), 65535, np.uint16)
    with pytest.raises(NothingToBuild, match="no unsaturated pixels"):
        detect([group(90.0, [white] * 3)], GUIDE, EVIDENCE)
