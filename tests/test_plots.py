"""The pictures of a build, drawn from arrays alone."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from hotpix_registry import plots
from hotpix_registry.errors import StorageError

Numbers = dict[str, NDArray[Any]]


def numbers_of_two_exposures() -> Numbers:
    rng = np.random.default_rng(1)
    edges = np.geomspace(0.001, 3000, 101)
    rate = 1 / rng.uniform(1 / 1000, 1 / 0.1, 3000)
    short = (rate + rng.normal(0, 0.03, rate.size)).astype(np.float32)
    long = np.minimum(rate, 4 + 0.5 * (rate - 4)).clip(max=96).astype(np.float32)
    dq = np.where(rate > 4, 1 | 4 | 16, 0).astype(np.uint16)
    dq[:9] = 1 | np.array([2, 4, 32, 128, 256, 512, 16, 64, 8])
    bins = np.geomspace(0.5, 50, 12)
    return {
        "short_s": np.float64(90),
        "long_s": np.float64(1000),
        "hist_edges": edges,
        "hist_short": np.histogram(short, edges)[0],
        "hist_long": np.histogram(long, edges)[0],
        "points_short": short,
        "points_long": long,
        "points_dq": dq,
        "ceiling_short_e_per_s": np.float64(1075),
        "ceiling_long_e_per_s": np.float64(96.8),
        "limit": np.float64(4.4),
        "limit_low": np.float64(4.2),
        "limit_high": np.float64(4.7),
        "departure_rate": bins,
        "departure_median": np.maximum(0, np.log(bins / 4)),
        "departure_low": np.maximum(0, np.log(bins / 4)) - 0.02,
        "departure_high": np.maximum(0, np.log(bins / 4)) + 0.02,
        "departure_fit": np.maximum(0, np.log(bins / 4)),
        "tolerance": np.float64(0.05),
        "z_edges": np.linspace(-6, 6, 121),
        "z_counts": np.histogram(rng.normal(size=50_000), np.linspace(-6, 6, 121))[0],
        "z_sd": np.float64(1.001),
    }


def some_flags(shape: tuple[int, int]) -> NDArray[np.uint16]:
    dq = np.zeros(shape, np.uint16)
    dq[3, 5] = 1 | 16
    dq[10:20, 7] = 1 | 256
    dq[4, 4] = 8
    return dq


def test_a_build_of_two_exposures_gives_every_picture(tmp_path: Path) -> None:
    paths = plots.save_plots(numbers_of_two_exposures(), some_flags((64, 80)), tmp_path / "new", "aspen-1")
    assert [path.name for path in paths] == [
        "aspen-1-histogram.png",
        "aspen-1-threshold.png",
        "aspen-1-scatter.png",
        "aspen-1-limit.png",
        "aspen-1-departure.png",
        "aspen-1-z.png",
        "aspen-1-map.png",
    ]
    for path in paths:
        picture = matplotlib.image.imread(path)
        assert min(picture.shape[:2]) > 600
        assert 0 < picture[..., :3].std() < 0.5


def test_a_single_exposure_gives_the_histogram_with_its_cut_off(tmp_path: Path) -> None:
    both = numbers_of_two_exposures()
    single = {name: both[name] for name in ("hist_edges", "hist_long", "long_s")} | {"cutoff": np.float64(1)}
    paths = plots.save_plots(single, some_flags((20, 20)), tmp_path, "one")
    assert {path.stem for path in paths} == {"one-histogram", "one-threshold", "one-map"}
    legend = plots.histogram(single).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1000 s", "cut-off 1 e⁻ s⁻¹"]


def test_one_exposure_that_stands_for_both_is_drawn_once(tmp_path: Path) -> None:
    numbers = numbers_of_two_exposures()
    numbers |= {"short_s": numbers["long_s"], "hist_short": numbers["hist_long"]}
    paths = plots.save_plots(numbers, some_flags((20, 20)), tmp_path, "one")
    assert "one-scatter" not in {path.stem for path in paths}
    assert plots.histogram(numbers).axes[0].texts[0].get_text() == "1000 s"


def test_nan_stands_for_an_exposure_and_a_limit_that_are_not_there() -> None:
    numbers = numbers_of_two_exposures() | {"short_s": np.float64(np.nan), "limit": np.float64(np.nan)}
    legend = plots.histogram(numbers).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1000 s"]


def test_the_limit_is_drawn_with_its_interval() -> None:
    ax = plots.zoom(numbers_of_two_exposures(), "aspen, −20 °C").axes[0]
    assert any(list(line.get_xdata()) == [4.4, 4.4] for line in ax.lines)
    (band,) = ax.patches
    assert band.get_extents().transformed(ax.transData.inverted()).x0 == pytest.approx(4.2)
    assert "limit 4.4 e⁻ s⁻¹ (4.2 to 4.7)" in ax.get_legend_handles_labels()[1]
    assert ax.get_xlim() == (-0.55, 11.0)


def test_axes_say_what_they_show_and_in_which_unit() -> None:
    ax = plots.scatter(numbers_of_two_exposures(), "aspen, bin 1x1, −20 °C").axes[0]
    assert ax.get_xlabel() == "dark current / e⁻ s⁻¹, 90 s"
    assert ax.get_ylabel() == "dark current / e⁻ s⁻¹, 1000 s"
    assert ax.texts[0].get_text() == "aspen, bin 1x1, −20 °C, 90 s and 1000 s"


def test_each_point_is_counted_once_under_its_first_flag() -> None:
    labels = plots.scatter(numbers_of_two_exposures()).axes[0].get_legend_handles_labels()[1]
    counts = [int(label.split("(")[1].rstrip(")").replace(",", "")) for label in labels if "(" in label]
    assert sum(counts) == 3000
    assert {"stuck (1)", "by hand (1)", "bad column (1)", "bad for another reason (2)"} <= set(labels)


def test_the_threshold_curve_counts_the_pixels_above() -> None:
    numbers = numbers_of_two_exposures()
    line = plots.threshold(numbers).axes[0].lines[1]
    above_1 = np.interp(1.0, np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
    assert above_1 == pytest.approx(np.count_nonzero(numbers["points_long"] > 1.0), rel=0.1)


@pytest.mark.parametrize("shape", [(48, 64), (2049, 1300)])
def test_the_map_counts_bad_pixels_on_sensors_of_any_size(shape: tuple[int, int]) -> None:
    figure = plots.flag_map(some_flags(shape), "aspen")
    ax = figure.axes[0]
    assert ax.texts[0].get_text().startswith(f"aspen, 11 of {shape[0] * shape[1]:,} pixels bad")
    if ax.images:
        assert np.nansum(np.asarray(ax.images[0].get_array()).astype(float)) == 11


def test_nothing_measured_and_nothing_flagged_still_draw(tmp_path: Path) -> None:
    empty = {name: np.zeros_like(value) for name, value in numbers_of_two_exposures().items()}
    empty["hist_edges"] = np.geomspace(0.001, 3000, 101)
    empty |= {"z_edges": np.linspace(-6, 6, 121), "short_s": np.float64(90), "long_s": np.float64(1000)}
    for name in ("limit", "limit_low", "limit_high", "ceiling_short_e_per_s", "ceiling_long_e_per_s"):
        empty[name] = np.float64(np.nan)
    for name in ("points_short", "points_long", "points_dq", "departure_rate"):
        empty[name] = empty[name][:0]
    assert len(plots.save_plots(empty, np.zeros((9, 9), np.uint16), tmp_path, "empty")) == 5


def test_drawing_leaves_the_global_state_of_matplotlib_alone() -> None:
    before = mpl.rcParams.copy()
    plots.scatter(numbers_of_two_exposures()).savefig(io.BytesIO())
    assert mpl.rcParams.copy() == before
    assert "matplotlib.pyplot" not in sys.modules


def test_the_same_numbers_draw_the_same_bytes(tmp_path: Path) -> None:
    numbers = numbers_of_two_exposures() | {"long_s": np.float64(np.nan)}
    first, second = (plots.save_plots(numbers, some_flags((9, 9)), tmp_path / name, "x") for name in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"x cannot be written: not a directory\."):
        plots.save_plots(numbers_of_two_exposures(), some_flags((9, 9)), tmp_path / "file" / "x", "x")


@pytest.mark.parametrize(("n_pixels", "panels"), [(50, 1), (30_000, 4)])
def test_two_masks_are_drawn_pixel_by_pixel_or_as_densities(n_pixels: int, panels: int) -> None:
    rng = np.random.default_rng(1)
    then, now = (np.zeros((300, 400), bool) for _ in "ab")
    then.reshape(-1)[rng.choice(120_000, n_pixels, replace=False)] = True
    now.reshape(-1)[rng.choice(120_000, n_pixels, replace=False)] = True
    figure = plots.diff_map(then, now, caption="aspen", names=("mask 1", "mask 2"))
    assert len(figure.axes) == panels
    told = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    told += [ax.get_title(loc="left") for ax in figure.axes]
    assert f"new: only in mask 2 ({np.count_nonzero(now & ~then):,})" in told
    assert plots.png(figure).startswith(b"\x89PNG")


def test_what_happened_is_drawn_even_of_nothing() -> None:
    empty = np.zeros((9, 9), bool)
    assert plots.png(plots.diff_map(empty, empty, caption="", names=("a", "b")))
    assert plots.png(plots.coverage_chart([], events=[], caption=""))
    alone = plots.Population(0, 0, 0, None, None, None)
    assert plots.png(plots.trend_chart([("", [alone])], events=[], flag="HOT", caption=""))


def test_coverage_draws_each_status_in_its_colour() -> None:
    year_us = 31_557_600_000_000
    bars = [
        plots.Bar(number * year_us, (number + 1) * year_us, status, "mask 1")
        for number, status in enumerate(("gap", "certified", "stale", "revoked"))
    ]
    figure = plots.coverage_chart([("-20 °C", bars, [year_us])], events=[(year_us, "warmup")], caption="")
    assert len({patch.get_facecolor() for patch in figure.axes[0].patches}) == 4  # type: ignore[attr-defined]
