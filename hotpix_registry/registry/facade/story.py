"""The facade on what happened: masks and states compared, coverage, trends, and how to cite all that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotpix_registry.catalogue.engine import reading
from hotpix_registry.errors import NoMask, UsageError
from hotpix_registry.registry import compare, content, masks, pictures
from hotpix_registry.registry.answer import replay, resolve
from hotpix_registry.registry.compare import Affected, DatesChange, MaskDiff
from hotpix_registry.registry.facade.answers import AnswerMethods
from hotpix_registry.registry.facade.opened import now_us
from hotpix_registry.registry.facade.versions import VersionMethods
from hotpix_registry.registry.question import Question
from hotpix_registry.registry.view import View, find_release, moment

if TYPE_CHECKING:
    from hotpix_registry.registry.cite import Citation
    from hotpix_registry.registry.coverage import Coverage
    from hotpix_registry.registry.trend import Pixels, Trend

Progress = Callable[[str, int, int], None]


class StoryMethods(VersionMethods, AnswerMethods):
    """What changed, what is covered, how hot pixels come and go, and how to cite a mask."""

    def diff_masks(self, a: int, b: int) -> MaskDiff:
        """Pixels that are new, vanished and common from mask `a` to mask `b`, by flag and by preset.

        Raises
        ------
        UnknownId, UsageError
            One of them is not there, or their shapes differ.
        """
        with reading(self._source) as connection:
            told = [
                masks.summaries(connection, [masks.find_mask(connection, mask_id)])[0] for mask_id in (a, b)
            ]
        return compare.diff_masks(told[0], content.dq(self._source, a), told[1], content.dq(self._source, b))

    def draw_diff(self, diff: MaskDiff) -> bytes:
        """The picture of a comparison, as PNG: what the preset `default` masks."""
        a, b = (self.mask_array(mask["mask_id"]) for mask in (diff.a, diff.b))
        return pictures.of_diff(diff, a, b)

    def diff_states(self, a: str, b: str, *, camera: str | None = None) -> list[DatesChange]:
        """The dates that the state `b` of the registry answers otherwise than the state `a`.

        Each is a release, a transaction (`tx12`), a time, or `now`.
        """
        with reading(self._source) as connection:
            then, now = (View(connection, compare.moment_named(connection, text)) for text in (a, b))
            return compare.changed_dates(then, now, camera)

    def affected(
        self,
        since: str,
        files: Sequence[str | Path] = (),
        *,
        recursive: bool = False,
        camera: str | None = None,
        progress: Progress | None = None,
    ) -> Affected:
        """The dates, and of some science frames those, that get another mask now than they did.

        Parameters
        ----------
        since
            a release, a transaction (`tx12`) or a time
        files
            files, folders, globs or `@list.txt`; their headers say camera, date and configuration
        camera
            only this camera; of files, the camera that took them
        progress
            called with what is done, files done and files in all
        """
        with reading(self._source) as connection:
            since_tx = compare.moment_named(connection, since)
        frames = []
        if files:
            from hotpix_registry.registry import ingest, science_frames

            found = ingest.find_files([str(file) for file in files], recursive=recursive)
            frames = science_frames.read_facts(
                found, self.header_rules(), progress=_labelled(progress, "Reading headers")
            )
        with reading(self._source) as connection:
            then, now = View(connection, since_tx), View(connection)
            asking = _labelled(progress, "Asking for masks")
            return compare.affected(then, now, frames, camera=camera, progress=asking)

    def coverage(
        self, camera: str, *, as_of: int | str | None = None, release: str | None = None
    ) -> Coverage:
        """Which dates of a camera have a mask, how old its darks are there, and what closes the gaps."""
        from hotpix_registry.registry.coverage import coverage_of

        with reading(self._source) as connection:
            view = View(connection, moment(connection, as_of, release))
            return coverage_of(view, view.camera(camera), now_us=now_us())

    def draw_coverage(self, coverage: Coverage) -> bytes:
        """The picture of a camera's timelines, as PNG."""
        return pictures.of_coverage(coverage)

    def trend(self, camera: str, *, flag: str = "HOT", temperature_c: float | None = None) -> list[Trend]:
        """Flagged pixels through the campaigns of each series: counts, births, deaths, intermittents.

        Parameters
        ----------
        flag
            a flag, a preset, or an expression of them
        temperature_c
            only the series with a set point within the camera's tolerance of this

        Raises
        ------
        NoMask
            The camera has none.
        """
        from hotpix_registry.fits.presets import flags_of
        from hotpix_registry.registry.trend import lines_of, trend_of

        flags_of(flag)
        with reading(self._source) as connection:
            view = View(connection)
            row = view.camera(camera)
            series = [
                one
                for one in view.series(row).values()
                if temperature_c is None
                or one.set_point_c is None
                or abs(one.set_point_c - temperature_c) <= row.profile.temperature_tolerance_c
            ]
            lines = [line for one in series for line in lines_of(view, one, view.events(row))]
        if not lines:
            where = "" if temperature_c is None else f" at {temperature_c:g} °C"
            raise NoMask(
                f"Camera {row.name} has no mask{where} to follow.",
                next_step=f"See `hotpix-registry masks --camera {row.name}`.",
            )
        return [trend_of(line, flag, lambda mask_id: self._pixels(mask_id, flag)) for line in lines]

    def draw_trends(self, camera: str, trends: Sequence[Trend]) -> bytes:
        """The picture of trends and of the camera's epoch events, as PNG."""
        events = [(event.at_us, event.kind) for event in self.events(camera)]
        return pictures.of_trends(trends, events)

    # --- citing ---------------------------------------------------------------------

    def cite(
        self,
        *,
        camera: str | None = None,
        date: str | None = None,
        temperature_c: float | None = None,
        configuration: Mapping[str, Any] | None = None,
        receipt: str | None = None,
        release: str | None = None,
        as_of: int | str | None = None,
    ) -> Citation:
        """The sentence for a paper's methods section, with the provenance behind it.

        Of a date (`camera` and `date`, as of now or of `release` or `as_of`), of a receipt, or of a
        release as a whole (of one camera, if given).

        Raises
        ------
        NoMask, AmbiguousMask, RevokedMask, UnknownCamera, UnknownId, UsageError
        """
        from hotpix_registry.registry import cite

        with reading(self._source) as connection:
            if receipt is not None:
                answer = replay(connection, receipt)
                return cite.cite_answer(View(connection, answer.tx), answer)
            if date is None and release is not None:
                found = find_release(connection, release)
                return cite.cite_release(View(connection, found.at_tx), found, camera)
            if camera is None or date is None:
                raise UsageError(
                    "What is to be cited is not said.",
                    next_step="Give a camera and a date, a release, or a receipt.",
                )
            view = View(connection, moment(connection, as_of, release))
            question = Question(
                camera=camera,
                date=date,
                temperature_c=temperature_c,
                configuration=dict(configuration or {}),
            )
            answer = resolve(view, question)
            return cite.cite_answer(View(connection, answer.tx), answer)

    def write_bundle(self, citation: Citation, path: str | Path) -> Path:
        """Write a citation's provenance into a folder, or into a zip that is the same for the same state.

        Raises
        ------
        StorageError
            It cannot be written, or the folder holds something already.
        """
        from hotpix_registry.registry import bundle, cite

        def files() -> Iterator[tuple[str, bytes]]:
            yield from cite.documents(citation)
            for mask_id, name in cite.mask_names(citation).items():
                yield name, self.mask_file(mask_id)
            answer = citation.answer
            if answer is not None and answer.preset != "default":
                yield "mask-served.fits", self.mask_file(answer.mask_id, preset=answer.preset)

        return bundle.write(Path(path), files())

    def _pixels(self, mask_id: int, flag: str) -> Pixels:
        import numpy as np

        return np.flatnonzero(content.array(self._source, mask_id, flag)).astype(np.uint32)


def _labelled(progress: Progress | None, label: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(label, done, total)
