"""The facade on answers: the mask of a date, and what is stored of each mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hotpix_registry.answers import Answer
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.registry import content, masks, pictures
from hotpix_registry.registry.answer import replay, resolve
from hotpix_registry.registry.facade.parts import PartMethods
from hotpix_registry.registry.question import Fallback, Question
from hotpix_registry.registry.view import View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A mask as a pipeline uses it: the answer, the boolean array, the flags, the file."""

    answer: Answer
    state: tuple[str, int]
    """the registry's name and its newest transaction, when it answered"""
    _registry: AnswerMethods = field(repr=False)

    @property
    def array(self) -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under the preset that was asked for."""
        return self._registry.mask_array(self.answer.mask_id, preset=self.answer.preset)

    @property
    def dq(self) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        return self._registry.mask_dq(self.answer.mask_id)

    @property
    def path(self) -> Path:
        """The mask file, from the content-addressed cache; under a preset a file derived from it."""
        return self._registry.mask_path(self.answer.mask_id, preset=self.answer.preset)


class AnswerMethods(PartMethods):
    """Answers: the mask of a date; its file, arrays and report."""

    def mask(
        self,
        camera: str,
        date: str,
        *,
        temperature_c: float | None = None,
        exposure_s: float | None = None,
        configuration: Mapping[str, Any] | None = None,
        preset: str = "default",
        fallback: Fallback | None = None,
        max_age_days: int | None = None,
        allow_revoked: bool = False,
        as_of: int | str | None = None,
        release: str | None = None,
        explain: bool = False,
    ) -> Mask:
        """The right mask for an observing date.

        Parameters
        ----------
        date
            an ISO instant with Z or offset, MJD, JD, or a bare date, which means the observing night
        configuration
            parts that must agree: `binning` (x, y), `readout_mode`, `gain_setting`, `offset_setting`,
            `sub_frame` (x0, y0, nx, ny), `row_order`, `bayer_pattern`
        preset
            which flags mask: `default`, `evidence`, `matched`, `all`, `none`, or an expression such as
            `HOT|UNSTABLE` or `~WARM`
        fallback
            what may answer when no mask is valid then; the answer says that it extrapolates
        max_age_days
            how far the darks may lie from the date
        as_of
            a time or a transaction number: what the registry would have answered then
        release
            a named state of the registry, instead of `as_of`
        explain
            list in the answer each mask that might have answered, by each criterion

        Raises
        ------
        NoMask, AmbiguousMask, RevokedMask, UnknownCamera, UsageError
        """
        question = Question(
            camera=camera,
            date=date,
            temperature_c=temperature_c,
            exposure_s=exposure_s,
            configuration=dict(configuration or {}),
            preset=preset,
            fallback=fallback,
            max_age_days=max_age_days,
            allow_revoked=allow_revoked,
        )

        def ask(now: View) -> Mask:
            answer = resolve(now.moved(as_of, release), question, explained=explain)
            return Mask(answer=answer, state=(now.registry_id, now.tx), _registry=self)

        return self._look_up(ask)

    def replay(self, receipt: str, *, explain: bool = False) -> Mask:
        """The very mask that an answer named in its receipt; warnings say when it was revoked since.

        Raises
        ------
        UsageError
            It is no receipt, or one of another registry.
        IntegrityError
            The registry answers otherwise than the receipt says: one of the two has been tampered with.
        """

        def again(connection: Connection) -> Mask:
            now = View(connection, memory=self._memory)
            answer = replay(connection, receipt, explained=explain, memory=self._memory)
            return Mask(answer=answer, state=(now.registry_id, now.tx), _registry=self)

        return self._asked(again)

    def show(self, mask_id: int) -> dict[str, Any]:
        """Everything known about one mask version: recipe, inputs, report, software, who and when."""
        return self._asked(lambda connection: masks.details(connection, mask_id))

    def provenance(self, mask_id: int) -> dict[str, Any]:
        """What a mask was made of, by which acts, by whom and with what, as W3C PROV-JSON.

        Raises
        ------
        UnknownId
        """
        from hotpix_registry.registry.provenance import provenance

        with reading(self._source) as connection:
            row = masks.find_mask(connection, mask_id)
            details = masks.details(connection, mask_id)
            dates = queries.assignment_history(connection, mask_id=mask_id)
            revocations = queries.revocation_history(connection, mask_id)
            spans = [(one.opened_tx, one.closed_tx) for one in dates]
            spans += [(one.opened_tx, one.closed_tx) for one in revocations]
            numbers = {row.created_tx} | {tx for span in spans for tx in span if tx is not None}
            acts = {act.tx: act for act in queries.transactions(connection, numbers=sorted(numbers))}
            registry_id = queries.registry_id(connection)
        return provenance(details, registry_id, acts[row.created_tx], dates, revocations, acts)

    def report(self, mask_id: int, *, against: int | None = None) -> Report:
        """What a person reads to decide whether to trust a mask.

        `against` names the mask that it is compared with; None takes the version before it, if any.
        """
        from hotpix_registry.report import make_report

        details = self.show(mask_id)
        other_id = self.version_before(mask_id) if against is None else against
        other = None if other_id is None else self.show(other_id)
        return make_report(
            details,
            self.mask_numbers(mask_id),
            self.mask_dq(mask_id),
            other=other,
            other_dq=None if other_id is None else self.mask_dq(other_id),
        )

    def mask_file(self, mask_id: int, *, preset: str = "default") -> bytes:
        """The FITS file of a mask, verified by its digest; under a preset a file derived from it.

        Raises
        ------
        IntegrityError
            The stored bytes are damaged.
        """
        return content.file(self._source, mask_id, preset)

    def mask_as(self, mask_id: int, file_format: str, *, preset: str = "default") -> bytes:
        """A mask in another format: fits, npy, ecsv, ds9, lsst or siril."""
        return content.export(self._source, mask_id, file_format, preset)

    def mask_path(self, mask_id: int, *, preset: str = "default") -> Path:
        """The mask file on disk, in the content-addressed cache."""
        return content.path(self._source, mask_id, preset)

    def mask_array(self, mask_id: int, *, preset: str = "default") -> NDArray[np.bool_]:
        """(ny, nx) bool, True = masked under a preset."""
        return content.array(self._source, mask_id, preset)

    def mask_dq(self, mask_id: int) -> NDArray[np.uint16]:
        """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
        return content.dq(self._source, mask_id)

    def mask_numbers(self, mask_id: int) -> dict[str, NDArray[Any]]:
        """What the plots of a build draw, by name."""
        return content.numbers_in(self.stored_numbers(mask_id), mask_id)

    def draw(self, mask_id: int, name: str) -> bytes:
        """One picture of a build, as PNG; `plots.PICTURES` has their names.

        Raises
        ------
        UnknownId
            There is no such mask, or its build has no such picture.
        """
        return pictures.of_mask(self.show(mask_id), self.mask_numbers(mask_id), self.mask_dq(mask_id), name)

    def pixel(self, mask_id: int, x: int, y: int) -> dict[str, Any]:
        """A pixel of a mask, 0-based: dark current, flags, and its flags in all versions of the series.

        Raises
        ------
        UnknownId, IntegrityError
        UsageError
            The mask has no such pixel.
        """
        from hotpix_registry.registry import pixel

        return pixel.pixel(self._source, mask_id, x, y, self.mask_numbers(mask_id))
