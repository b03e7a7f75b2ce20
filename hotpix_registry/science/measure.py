"""The pass over all pixels: bands of rows are combined, and what matters of them is kept."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science.band import BandMeasure, Plan, Suspects, measure_band
from hotpix_registry.science.combine import Combined, Rejection, combine
from hotpix_registry.science.forks import can_fork, in_order
from hotpix_registry.science.strips import (
    are_streams,
    bands,
    read_stack,
    rows_at_a_time,
)
from hotpix_registry.science.survey import CalibratedGroup
from hotpix_registry.work import processors

_MOST_BYTES = 32 << 20
"""frames' rows that may wait to be combined"""


def measure(
    plan: Plan,
    *,
    progress: Callable[[], None],
    strip_rows: int | None,
    workers: int,
) -> Iterator[tuple[BandMeasure, Suspects]]:
    """Combine and compare all bands in order, by so many processes or threads; what is found is the same.

    Compressed files are read as streams, in order: by one thread, while as many others as there are
    processors unpack, and `workers` compute.
    """
    everyone = [*([plan.survey.biases] if plan.survey.biases else []), *plan.survey.groups]
    if workers > 1 and (not can_fork() or any(are_streams(group.frames) for group in everyone)):
        yield from _by_threads(plan, everyone, progress, strip_rows, workers)
        return
    of_band = functools.partial(_of_band, plan, everyone, strip_rows)
    for found in in_order(of_band, bands(plan.survey.shape[0]), workers):
        for _ in everyone:
            progress()
        yield found


def _of_band(
    plan: Plan, everyone: Sequence[CalibratedGroup], strip_rows: int | None, band: tuple[int, int]
) -> tuple[BandMeasure, Suspects]:
    combined: list[Combined] = []
    for group in everyone:
        biases = combined[0] if combined and _takes_biases(plan, group) else None
        parts = [
            _combine(
                plan, group, _read(plan, group, *rows), biases, slice(rows[0] - band[0], rows[1] - band[0])
            )
            for rows in _strips(plan, group, strip_rows, band)
        ]
        combined.append(_joined(parts))
    return measure_band(plan, band, combined)


def _strips(
    plan: Plan, group: CalibratedGroup, strip_rows: int | None, band: tuple[int, int]
) -> list[tuple[int, int]]:
    y0, y1 = band
    rows = strip_rows or rows_at_a_time(y1 - y0, group.n * plan.survey.shape[1])
    return [(start, min(start + rows, y1)) for start in range(y0, y1, rows)]


def _read(
    plan: Plan, group: CalibratedGroup, y0: int, y1: int, readers: Executor | None = None
) -> list[NDArray[Any]]:
    return read_stack(group.frames, group.exptime_s, plan.survey.noise.gain_e_per_adu, y0, y1, readers)


def _takes_biases(plan: Plan, group: CalibratedGroup) -> bool:
    return plan.survey.biases is not None and not group.bias_subtracted


def _by_threads(
    plan: Plan,
    everyone: Sequence[CalibratedGroup],
    progress: Callable[[], None],
    strip_rows: int | None,
    workers: int,
) -> Iterator[tuple[BandMeasure, Suspects]]:
    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(processors()) as readers:
        waiting: deque[tuple[tuple[int, int], list[list[Future[Combined]]]]] = deque()
        unfinished: deque[tuple[int, Future[Combined]]] = deque()
        measured: deque[Future[tuple[BandMeasure, Suspects]]] = deque()

        def judge_oldest() -> None:
            band, parts = waiting.popleft()
            measured.append(
                pool.submit(measure_band, plan, band, [_waited_for(of_group) for of_group in parts])
            )

        for band in bands(plan.survey.shape[0]):
            parts: list[list[Future[Combined]]] = []
            for group in everyone:
                submitted = []
                biases = parts[0] if parts and _takes_biases(plan, group) else None
                for y0, y1 in _strips(plan, group, strip_rows, band):
                    stack = _read(plan, group, y0, y1, readers)
                    within = slice(y0 - band[0], y1 - band[0])
                    future = pool.submit(_combine_later, plan, group, stack, biases, within)
                    submitted.append(future)
                    unfinished.append((sum(strip.nbytes for strip in stack), future))
                    del stack
                    while sum(size for size, _ in unfinished) > _MOST_BYTES:
                        unfinished.popleft()[1].result()
                parts.append(submitted)
                progress()
            waiting.append((band, parts))
            while len(waiting) > 1:
                judge_oldest()
            while len(measured) > workers:
                yield measured.popleft().result()
        while waiting:
            judge_oldest()
        while measured:
            yield measured.popleft().result()


def _combine_later(
    plan: Plan,
    group: CalibratedGroup,
    stack: Sequence[NDArray[Any]],
    biases: Sequence[Future[Combined]] | None,
    within: slice,
) -> Combined:
    # biases were submitted before, so that a worker that waits here waits for one that works
    return _combine(plan, group, stack, None if biases is None else _waited_for(biases), within)


def _waited_for(parts: Sequence[Future[Combined]]) -> Combined:
    return _joined([future.result() for future in parts])


def _combine(
    plan: Plan,
    group: CalibratedGroup,
    stack: Sequence[NDArray[Any]],
    biases: Combined | None,
    within: slice,
) -> Combined:
    return combine(
        stack,
        group.scale,
        plan.survey.noise,
        saturation_adu=group.saturation_adu,
        least_adu=group.level_e / plan.survey.noise.gain_e_per_adu,
        base_adu=group.offset_adu if biases is None else biases.mean_adu[within],
        charged=group.exptime_s > 0,
        rejection=Rejection(sigma=plan.recipe.cosmic_ray_sigma, most=plan.recipe.max_cosmic_rays),
        n_combined=group.n_combined,
    )


def _joined(parts: Sequence[Combined]) -> Combined:
    if len(parts) == 1:
        return parts[0]
    return Combined(
        **{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Combined)}
    )
