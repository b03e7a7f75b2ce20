"""The facade on the parts that its other methods put together, which may lie on another machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.domain import Facts
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.facade.opened import Opened
from hotpix_registry.registry.question import Fallback
from hotpix_registry.registry.view import View

if TYPE_CHECKING:
    from hotpix_registry.registry.choose import Choose, Chosen
    from hotpix_registry.registry.compare import Affected
    from hotpix_registry.registry.fitting import Origin
    from hotpix_registry.registry.ingest import Rules


class PartMethods(Opened):
    """Parts: what headers mean, where a mask comes from, which mask is chosen for a frame."""

    def keyword_profile_texts(self) -> list[str]:
        """The registry's own keyword profiles, in TOML."""
        with reading(self._source) as connection:
            return queries.keyword_profile_texts(connection)

    def header_rules(self) -> Rules:
        """What decides how headers are read: the shipped keyword profiles, and the registry's own."""
        from hotpix_registry.fits.keywords import load_keyword_profile
        from hotpix_registry.registry.ingest import rules_with

        return rules_with([load_keyword_profile(text) for text in self.keyword_profile_texts()])

    def version_before(self, mask_id: int) -> int | None:
        """The mask before another in its series."""
        with reading(self._source) as connection:
            return queries.version_before(connection, mask_id)

    def stored_numbers(self, mask_id: int) -> bytes:
        """What the plots of a build draw, as an `.npz` archive."""
        from hotpix_registry.registry.masks import find_mask

        with reading(self._source) as connection:
            find_mask(connection, mask_id)
            return queries.mask_numbers(connection, mask_id)

    def origin(self, mask_id: int) -> Origin:
        """Where a mask comes from: its series, its camera, the program that took its darks."""
        from hotpix_registry.registry.fitting import Origin

        return Origin.of(self._source, mask_id)

    def choose(
        self,
        mask: int | str,
        *,
        facts: Facts | None = None,
        camera: str | None = None,
        temperature_c: float | None = None,
        preset: str = "default",
        fallback: Fallback | None = None,
        max_age_days: int | None = None,
        allow_binning: bool = False,
        allow_revoked: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
    ) -> Chosen:
        """The mask of an id, a date or a receipt, or with `auto` that of a frame by its facts."""
        chosen = self._chooser(
            mask,
            camera=camera,
            temperature_c=temperature_c,
            preset=preset,
            fallback=fallback,
            max_age_days=max_age_days,
            allow_binning=allow_binning,
            allow_revoked=allow_revoked,
            as_of=as_of,
            release=release,
        )
        if not callable(chosen):
            return chosen
        if facts is None:
            raise UsageError("Of which frame is not said.", next_step="Give its facts.")
        return chosen(facts)

    def _chooser(self, mask: int | str, **asked: Any) -> Chosen | Choose:
        from hotpix_registry.registry.choose import chooser

        return chooser(self._source, mask, memory=self._memory, **asked)

    def affected_frames(
        self, since: str, frames: Sequence[tuple[str, Facts]] = (), *, camera: str | None = None
    ) -> Affected:
        """As `affected`, of frames whose (path, facts) are at hand."""
        from hotpix_registry.registry import compare
        from hotpix_registry.registry.science_frames import ScienceFrame

        read = [ScienceFrame(path=path, facts=facts) for path, facts in frames]
        with reading(self._source) as connection:
            then, now = View(connection, compare.moment_named(connection, since)), View(connection)
            return compare.affected(then, now, read, camera=camera)
