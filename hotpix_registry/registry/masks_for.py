"""The masks of many science frames: one reading of the registry, one answer each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotpix_registry.answers import Answer
from hotpix_registry.catalogue.engine import Source
from hotpix_registry.domain import Facts
from hotpix_registry.errors import GeometryMismatch, HotpixError
from hotpix_registry.registry.answer import resolve
from hotpix_registry.registry.fitting import Fitter
from hotpix_registry.registry.science_frames import ScienceFrame, not_science, question_of
from hotpix_registry.registry.view import View

if TYPE_CHECKING:
    from hotpix_registry.fits.adapt import Adaptation, Criterion, Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFor:
    """The mask of one science frame, or why there is none."""

    frame: str
    answer: Answer | None = None
    error: HotpixError | None = None
    steps: tuple[str, ...] = ()
    """how the mask is adapted to the frame"""
    geometry: tuple[Criterion, ...] = ()
    """what of the geometry was compared"""
    adaptation: Adaptation | None = field(default=None, repr=False)
    """the plan behind the steps"""
    frame_geometry: Geometry | None = field(default=None, repr=False)
    _facts: Facts | None = field(default=None, repr=False)
    _fitter: Fitter | None = field(default=None, repr=False)
    _allow_binning: bool = False

    @property
    def frame_type(self) -> str | None:
        """What the header says that the frame is, where it is no science frame."""
        if self._facts is None:
            return None
        return not_science(self._facts)

    @property
    def path(self) -> Path:
        """The mask file for this frame, from the content-addressed cache.

        Raises
        ------
        HotpixError
            There is no mask for it.
        """
        if self.answer is None or self._fitter is None or self._facts is None:
            raise self.error or ValueError("no mask")
        return self._fitter.path(
            self.answer.mask_id,
            self._facts,
            allow_binning=self._allow_binning,
            preset=self.answer.preset,
        )

    def as_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {"frame": self.frame}
        if self.error is not None:
            told |= self.error.as_dict()
        elif self.answer is not None:
            told |= {"mask": self.answer.as_dict() | {"path": str(self.path)}}
        return told | {
            "steps": list(self.steps),
            "geometry": [dataclasses.asdict(criterion) for criterion in self.geometry],
        }


def answer_all(
    view: View,
    frames: Sequence[ScienceFrame],
    camera: str | None,
    *,
    allow_binning: bool,
    explained: bool = False,
    **asked: Any,
) -> list[tuple[ScienceFrame, Answer | HotpixError]]:
    """Ask for the mask of each frame; an error is an answer like any other."""
    answered: list[tuple[ScienceFrame, Answer | HotpixError]] = []
    for frame in frames:
        try:
            question = question_of(view, frame.read(), camera, allow_binning=allow_binning, **asked)
            answered.append((frame, resolve(view, question, explained=explained)))
        except HotpixError as error:
            answered.append((frame, error))
    return answered


def fit_all(
    engine: Source,
    answered: Sequence[tuple[ScienceFrame, Answer | HotpixError]],
    *,
    allow_binning: bool,
) -> list[MaskFor]:
    """See how each mask is laid over its frame; a geometry that does not fit is an error of the frame."""
    return list(_fitted(Fitter(engine), answered, allow_binning))


def _fitted(
    fitter: Fitter, answered: Sequence[tuple[ScienceFrame, Answer | HotpixError]], allow_binning: bool
) -> Iterator[MaskFor]:
    for frame, answer in answered:
        if isinstance(answer, HotpixError):
            yield MaskFor(frame=frame.path, error=answer)
            continue
        facts = frame.read()
        try:
            plan = fitter.plan(answer.mask_id, facts, allow_binning=allow_binning)
        except GeometryMismatch as error:
            yield MaskFor(frame=frame.path, answer=answer, error=error, geometry=error.criteria, _facts=facts)
            continue
        yield MaskFor(
            frame=frame.path,
            answer=answer,
            steps=plan.sentences,
            geometry=plan.criteria,
            adaptation=plan,
            frame_geometry=fitter.frame_geometry(answer.mask_id, facts),
            _facts=facts,
            _fitter=fitter,
            _allow_binning=allow_binning,
        )
