"""Pictures: of a build, of two masks, of a camera's dates, of its hot pixels over the years."""

from hotpix_registry.plots.build import (
    PICTURES,
    Numbers,
    departure,
    flag_map,
    histogram,
    picture,
    picture_names,
    pictures,
    save_plots,
    scatter,
    threshold,
    z_scores,
    zoom,
)
from hotpix_registry.plots.page import png
from hotpix_registry.plots.story import Bar, Population, coverage_chart, diff_map, trend_chart

__all__ = [
    "PICTURES",
    "Bar",
    "Numbers",
    "Population",
    "coverage_chart",
    "departure",
    "diff_map",
    "flag_map",
    "histogram",
    "picture",
    "picture_names",
    "pictures",
    "png",
    "save_plots",
    "scatter",
    "threshold",
    "trend_chart",
    "z_scores",
    "zoom",
]
