"""Where a new mask goes among those of its series, and which instants then answer otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hotpix_registry.domain import US_PER_DAY, Validity


class Placed(NamedTuple):
    """A current assignment, as placing needs to know it."""

    assignment_id: int
    mask_id: int
    validity: Validity
    campaign: Validity
    """from the start of the campaign's first night to the end of its last"""


class Change(NamedTuple):
    """An interval in which another mask answers than before; None is no mask."""

    validity: Validity
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Placement:
    """What one transaction closes and opens so that a new mask stands where it belongs."""

    validity: Validity
    closed: tuple[int, ...]
    opened: tuple[tuple[int, Validity], ...]
    """(mask id, interval); the new mask's own is not among them"""
    changes: tuple[Change, ...]
    """the new mask is called 0 here, since it has no number yet"""


NEW = 0


def place(
    current: Sequence[Placed],
    campaign: Validity,
    *,
    reach_back_days: int,
    service_from_us: int | None = None,
) -> Placement:
    """Place a mask by its campaign: from its first night to the next campaign's, else open.

    The first campaign of a series reaches back, by at most `reach_back_days` and never before the
    camera's first service. A rebuild of the same campaign takes over the places of its predecessors.
    """
    others = [p for p in current if not p.campaign.overlaps(campaign)]
    own_start = campaign.start_us
    ends = [start for p in others if (start := _true_start(p)) > own_start]
    end_us = min(ends, default=None)
    first = all(_true_start(p) > own_start for p in others)
    start_us = own_start
    if first:
        start_us = own_start - reach_back_days * US_PER_DAY
        if service_from_us is not None:
            start_us = min(max(start_us, service_from_us), own_start)
    replaced = [p for p in current if p.campaign.overlaps(campaign)]
    start_us = min([start_us, *(p.validity.start_us for p in replaced)])
    validity = Validity(start_us, end_us)

    closed, opened = [], []
    for p in current:
        if not p.validity.overlaps(validity):
            continue
        closed.append(p.assignment_id)
        if p in replaced:
            continue
        if p.validity.start_us < validity.start_us:
            opened.append((p.mask_id, Validity(p.validity.start_us, validity.start_us)))
        if validity.end_us is not None and (p.validity.end_us is None or p.validity.end_us > validity.end_us):
            opened.append((p.mask_id, Validity(validity.end_us, p.validity.end_us)))
    return Placement(validity, tuple(closed), tuple(opened), _changes(current, validity))


def _true_start(placed: Placed) -> int:
    """Where a mask stands by its own darks, without what it reached back over."""
    return max(placed.validity.start_us, placed.campaign.start_us)


def _changes(current: Sequence[Placed], validity: Validity) -> tuple[Change, ...]:
    changes: list[Change] = []
    at_us: int | None = validity.start_us
    for p in sorted(current, key=lambda p: p.validity.start_us):
        if at_us is None or not p.validity.overlaps(Validity(at_us, validity.end_us)):
            continue
        if p.validity.start_us > at_us:
            changes.append(Change(Validity(at_us, p.validity.start_us), None, NEW))
            at_us = p.validity.start_us
        ends = [end for end in (p.validity.end_us, validity.end_us) if end is not None]
        end_us = min(ends, default=None)
        changes.append(Change(Validity(at_us, end_us), p.mask_id, NEW))
        at_us = end_us if end_us != validity.end_us else None
    if at_us is not None and at_us != validity.end_us:
        changes.append(Change(Validity(at_us, validity.end_us), None, NEW))
    return tuple(changes)
