"""Science frames as questions: what a header says of camera, date, temperature and configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotpix_registry.cameras import recognise
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import Facts
from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits import headers
from hotpix_registry.fits.headers import header_of_cards
from hotpix_registry.instants import iso
from hotpix_registry.registry.ingest import Found, Rules, looks_like_fits
from hotpix_registry.registry.question import Question
from hotpix_registry.registry.view import View

Progress = Callable[[int, int], None]

_DAY_S = 86_400.0
_COMPARED = ("readout_mode", "gain_setting", "offset_setting")
_ADAPTED = ("sub_frame", "row_order", "bayer_pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScienceFrame:
    """A file and what its header means, or why that cannot be said."""

    path: str
    facts: Facts | None = None
    error: UnreadableFrame | None = None

    def read(self) -> Facts:
        """What the header means.

        Raises
        ------
        UnreadableFrame
        """
        if self.facts is None:
            raise self.error or UnreadableFrame(f"{self.path} was not read.")
        return self.facts


def read_facts(
    paths: Sequence[Found], rules: Rules, *, progress: Progress | None = None
) -> list[ScienceFrame]:
    """Read the headers of files, with no transaction open; every file named is in the list.

    In folders, what is no FITS file by its name is left out, and so are darks, biases and their masters.
    """
    frames = []
    for number, found in enumerate(paths):
        if progress is not None:
            progress(number, len(paths))
        if not found.named and not os.path.isdir(found.path) and not looks_like_fits(found.path):
            continue
        try:
            facts = rules.interpret(headers.read_header(found.path))
        except UnreadableFrame as error:
            frames.append(ScienceFrame(path=found.path, error=error))
            continue
        if found.named or facts.kind is None:
            frames.append(ScienceFrame(path=found.path, facts=facts))
    if progress is not None:
        progress(len(paths), len(paths))
    return frames


def facts_of_headers(headers: Sequence[Mapping[str, Any]], rules: Rules) -> list[ScienceFrame]:
    """What headers mean that were sent without their files; each goes by its number from 1."""
    frames = []
    for number, cards in enumerate(headers, 1):
        name = f"header {number}"
        try:
            frames.append(ScienceFrame(path=name, facts=rules.interpret(header_of_cards(cards))))
        except UnreadableFrame as error:
            frames.append(ScienceFrame(path=name, error=error))
    return frames


def not_science(facts: Facts) -> str | None:
    """What a frame is by its header that takes no mask: a dark, a bias, a master of them, or a mask."""
    if facts.kind is not None:
        return str(facts.kind)
    return "mask" if facts.frame_type == "dark mask" else None


def question_of(
    view: View, facts: Facts, camera: str | None = None, *, allow_binning: bool = False, **asked: Any
) -> Question:
    """The question that a frame asks by its header: camera, date, temperature, exposure, configuration.

    Of the configuration the binning is asked for, and of the readout mode and the settings of gain and
    offset what the header states. In sub-frame, row order and Bayer pattern a mask can be adapted, so
    that series with the frame's own are preferred only.

    Parameters
    ----------
    camera
        the camera that took it; None recognises it among those registered in the view
    allow_binning
        whether a mask without binning may be binned
    asked
        further fields of the question, such as its preset

    Raises
    ------
    UnreadableFrame
        The header gives no date, or fits no registered camera, or several.
    UnknownCamera
        The camera that was given is not registered.
    """
    if facts.start_us is None:
        why = " ".join(facts.problems) or "Its header gives no date of observation."
        raise UnreadableFrame(why, next_step="Ask with --camera and --date.")
    row = view.camera(camera) if camera is not None else _recognised(view, facts)
    stated: dict[str, Any] = {
        name: value for name in _COMPARED if (value := getattr(facts.configuration, name)) is not None
    }
    moment = iso(facts.start_us) or ""
    return Question(
        camera=row.name,
        # a day without a time may be any instant of it, which is what the night of a bare date is for
        date=moment[:10] if facts.start_precision_s >= _DAY_S else moment,
        temperature_c=facts.temperature_c,
        exposure_s=facts.exptime_s,
        configuration={"binning": facts.configuration.binning} | stated,
        preferred={
            name: getattr(facts.configuration, name)
            for name in (*_ADAPTED, *(["binning"] if allow_binning else []))
        },
        allow_binning=allow_binning,
        **asked,
    )


def _recognised(view: View, facts: Facts) -> CameraRow:
    fitting = recognise(facts, [row.profile for row in view.cameras])
    if len(fitting) > 1:  # bodies that share a name may have followed each other in service
        fitting = [p for p in fitting if p.in_service(facts.start_us or 0)] or fitting
    if not fitting:  # what is known of the camera now may recognise it, under the name of then
        fitting = recognise(facts, [row.profile for row in view.cameras_now])
        if len(fitting) == 1:
            return view.camera(fitting[0].name)
    if len(fitting) == 1:
        return next(row for row in view.cameras if row.profile is fitting[0])
    if fitting:
        names = " and ".join(sorted(row.name for row in view.cameras if row.profile in fitting))
        raise UnreadableFrame(f"Its header fits the cameras {names}.", next_step="Say which with --camera.")
    if facts.instrument is None:
        raise UnreadableFrame(
            "Its header does not say which camera took it.", next_step="Name it with --camera."
        )
    raise UnreadableFrame(
        f"Its header names the camera {facts.instrument}, and no registered camera is recognised by that.",
        next_step="Name it with --camera.",
    )
