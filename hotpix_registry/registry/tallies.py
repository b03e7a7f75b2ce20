"""What became of campaigns that were built in bulk, camera by camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hotpix_registry.errors import HotpixError
from hotpix_registry.planning import Campaign
from hotpix_registry.registry.masks import BuildResult

CampaignName = tuple[str, str]
"""series and first night"""


def name_of(campaign: Campaign) -> CampaignName:
    return str(campaign.series), campaign.first_night


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A campaign of which a person should hear."""

    series: str
    first_night: str
    last_night: str
    mask_id: int | None = None
    code: str = ""
    reason: str
    next_step: str = ""


def note(campaign: Campaign, told: BaseException | str, mask_id: int | None = None) -> Note:
    """What a person should hear of a campaign: an error, or why its mask is a candidate."""
    code, next_step = "", ""
    if isinstance(told, HotpixError):
        code, next_step, told = told.code, told.next_step, told.message
    elif isinstance(told, BaseException):
        code, told = "bug", f"A bug: {type(told).__name__}: {told}"
    return Note(
        series=str(campaign.series),
        first_night=campaign.first_night,
        last_night=campaign.last_night,
        mask_id=mask_id,
        code=code,
        reason=told,
        next_step=next_step,
    )


@dataclass(slots=True, kw_only=True)
class CameraTally:
    """What became of the campaigns of one camera."""

    camera: str
    campaigns: int = 0
    known: int = 0
    """had their mask before, or have got it from another run since"""
    built: int = 0
    """by this run, candidates among them"""
    candidates: list[Note] = field(default_factory=list)
    revoked: list[Note] = field(default_factory=list)
    """left alone: this very mask was made, and declared unusable"""
    failed: list[Note] = field(default_factory=list)
    masks: dict[CampaignName, int] = field(default_factory=dict)
    """of the known and the built"""

    @property
    def done(self) -> int:
        return self.known + self.built + len(self.revoked) + len(self.failed)

    def had(self, campaign: Campaign, mask_id: int) -> None:
        self.known += 1
        self.masks[name_of(campaign)] = mask_id

    def got(self, campaign: Campaign, result: BuildResult) -> None:
        if not result.new:
            self.had(campaign, result.mask_id)
            return
        self.built += 1
        self.masks[name_of(campaign)] = result.mask_id
        if result.status == "candidate":
            why = "; ".join((*(f"failed the gate {gate}" for gate in result.failed_gates), *result.warnings))
            reason = why or "It waits for a person, or for a rollout."
            self.candidates.append(note(campaign, reason, result.mask_id))

    def as_dict(self) -> dict[str, Any]:
        told = dataclasses.asdict(self)
        del told["masks"]
        return told


@dataclass(slots=True, kw_only=True)
class FleetReport:
    """What became of all campaigns, camera by camera; while a run goes on, so far."""

    cameras: list[CameraTally]
    bugs: int = 0
    """of the failed: mistakes of this program, whose tracebacks were logged"""
    elsewhere: int = 0
    """being built by another run"""

    @property
    def campaigns(self) -> int:
        return sum(tally.campaigns for tally in self.cameras)

    @property
    def done(self) -> int:
        return sum(tally.done for tally in self.cameras)

    @property
    def built(self) -> int:
        return sum(tally.built for tally in self.cameras)

    @property
    def failed(self) -> int:
        return sum(len(tally.failed) for tally in self.cameras)

    @property
    def candidates(self) -> int:
        return sum(len(tally.candidates) for tally in self.cameras)

    @property
    def masks(self) -> Mapping[CampaignName, int]:
        """The mask of each campaign that has one."""
        return {name: mask_id for tally in self.cameras for name, mask_id in tally.masks.items()}

    @property
    def reasons(self) -> Mapping[CampaignName, str]:
        """Why a campaign has none."""
        return {
            (one.series, one.first_night): f"{one.reason} {one.next_step}".strip()
            for tally in self.cameras
            for one in (*tally.revoked, *tally.failed)
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            "campaigns": self.campaigns,
            "to_build": self.campaigns - self.done,
            "known": sum(tally.known for tally in self.cameras),
            "built": self.built,
            "candidates": self.candidates,
            "revoked": sum(len(tally.revoked) for tally in self.cameras),
            "failed": self.failed,
            "cameras": [tally.as_dict() for tally in self.cameras],
        }
