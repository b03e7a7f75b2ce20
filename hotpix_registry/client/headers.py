"""Headers of science frames as they are sent: of files, of astropy's objects, of plain mappings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from hotpix_registry.errors import UnreadableFrame, UsageError

MOST_AT_ONCE = 10_000
_MOST_BYTES = 16 << 20

Cards = dict[str, Any]
"""keyword → value, or [value, comment]"""


def named_headers(frames: Any) -> Iterator[tuple[str, Cards | UnreadableFrame]]:
    """(name, header) of each frame; a file that cannot be read has its error instead.

    Raises
    ------
    UsageError
        Something among them is no frame.
    """
    if hasattr(frames, "files_filtered"):
        frames = frames.files_filtered(include_path=True)
    elif isinstance(frames, str | os.PathLike) or _is_header(frames) or _is_image(frames):
        frames = [frames]
    for number, frame in enumerate(frames, 1):
        if isinstance(frame, str | os.PathLike):
            yield os.fspath(frame), _of_file(Path(frame))
        elif _is_image(frame):
            yield f"image {number}", cards_of_image(frame)
        elif _is_header(frame):
            yield f"header {number}", _cards(frame)
        else:
            raise UsageError(
                f"A {type(frame).__name__} is no frame that a mask could be asked for.",
                next_step="Give headers, files, CCDData, or an ImageFileCollection.",
            )


def cards_of_image(image: Any) -> Cards:
    """The header of a CCDData, with the shape that its pixels have now."""
    if len(image.shape) != 2:
        raise UnreadableFrame(
            f"The image has {len(image.shape)} dimensions, not two.", next_step="Take it plane by plane."
        )
    ny, nx = image.shape
    return _cards(image.header) | {"NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny}


def batches(headers: Iterable[tuple[int, Cards]]) -> Iterator[list[tuple[int, Cards]]]:
    """Numbered headers in batches that one request takes."""
    batch: list[tuple[int, Cards]] = []
    size = 0
    for number, cards in headers:
        length = len(json.dumps(cards))
        if batch and (len(batch) >= MOST_AT_ONCE or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, cards))
        size += length
    if batch:
        yield batch


def _is_header(value: Any) -> bool:
    return isinstance(value, Mapping) or hasattr(value, "cards")


def _is_image(value: Any) -> bool:
    return hasattr(value, "header") and hasattr(value, "shape")


def _of_file(path: Path) -> Cards | UnreadableFrame:
    from hotpix_registry.fits.headers import read_header

    try:
        header = read_header(path)
    except UnreadableFrame as error:
        return error
    return _sendable((name, value, header.comments.get(name, "")) for name, value in header.cards.items())


def _cards(header: Any) -> Cards:
    if hasattr(header, "cards"):  # astropy's, where HISTORY and COMMENT stand many times
        return _sendable((card.keyword, card.value, card.comment) for card in header.cards)
    pairs = (
        (name, *content) if isinstance(content, list | tuple) and len(content) == 2 else (name, content, "")
        for name, content in header.items()
    )
    return _sendable(pairs)


def _sendable(cards: Iterable[tuple[str, Any, str]]) -> Cards:
    """What FITS cards hold, the first of each keyword; what is neither text, number nor truth is left out."""
    sent: Cards = {}
    prose: dict[str, list[str]] = {"HISTORY": [], "COMMENT": []}
    for keyword, content, comment in cards:
        name = keyword.strip().upper()
        value = content.item() if hasattr(content, "item") else content
        if name in prose:
            prose[name].append(str(value))
        elif name and name not in sent and _is_value(value):
            sent[name] = [value, comment] if comment else value
    lines = ((name, "\n".join(told)) for name, told in prose.items() if told)
    return dict(chain(sent.items(), lines))


def _is_value(value: Any) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
