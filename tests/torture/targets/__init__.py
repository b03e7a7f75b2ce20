"""What is fed to which reader, by name."""

from __future__ import annotations

from tests.torture.targets import dates, frames, masks, profiles
from tests.torture.targets.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for target in (*dates.TARGETS, *frames.TARGETS, *profiles.TARGETS, *masks.TARGETS)
}
