"""The facade on recipes: what another one would change, rolling it out, going back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.facade.opened import Opened, named_camera

if TYPE_CHECKING:
    from hotpix_registry.registry.rollback import Rollback
    from hotpix_registry.registry.rollout import Rollout
    from hotpix_registry.registry.tallies import FleetReport

Progress = Callable[[str, int, int], None]


class RolloutMethods(Opened):
    """Recipes: compare, roll out, roll back."""

    def compare_recipes(
        self,
        old: str,
        new: str,
        *,
        cameras: Sequence[str] | None = None,
        nights: tuple[str, str] | None = None,
        files: bool = True,
        jobs: int | None = None,
        scheduler: str | None = None,
        progress: Progress | None = None,
        fleet_progress: Callable[[FleetReport], None] | None = None,
    ) -> Rollout:
        """Build candidates by a new recipe beside the masks of an old one, and say what differs.

        What was built before is found again, so that an interrupted comparison goes on. Nothing is certified.
        Without `jobs` and `scheduler` one campaign after the other is built in this process.

        Parameters
        ----------
        old, new
            `current` (whatever the certified masks were made by; only as the old one), `default` (what a
            build takes by itself), a rule, a rule with its number (`limit=4`, `evidence+limit=auto`,
            `cutoff=1.5`), or a TOML or JSON file of a recipe's numbers
        cameras
            None is all of them
        files
            whether a recipe may be a file
        jobs, scheduler
            as `build_all` takes them: so many processes, or a dask scheduler whose workers compute
        progress
            called with the campaign's place and name, steps done and steps in all
        fleet_progress
            called in its place with the report so far, where there are jobs or a scheduler

        Raises
        ------
        UsageError, UnknownCamera, SchedulerUnreachable, UnfitWorkers, DatabaseUnavailable
            What is wrong with a campaign stands in its own result.
        """
        from hotpix_registry.registry import fleet, rollout
        from hotpix_registry.registry.recipes import named_recipe
        from hotpix_registry.work import work

        self._refuse_mirror()
        recipes = named_recipe(old, files=files), named_recipe(new, files=files)
        with reading(self._engine) as connection:
            rows = queries.cameras(connection)
            if cameras is not None:
                wanted = {named_camera(connection, name).camera_id for name in cameras}
                rows = [row for row in rows if row.camera_id in wanted]
        engine, act = self._engine, self._act()
        if jobs is None and scheduler is None:
            return rollout.compare(
                engine,
                rows,
                *recipes,
                nights=nights,
                make=lambda wanted: rollout.one_by_one(engine, act, rows, wanted, progress),
            )
        with work(jobs=jobs, scheduler=scheduler) as workers:
            return rollout.compare(
                engine,
                rows,
                *recipes,
                nights=nights,
                make=lambda wanted: fleet.build_all(engine, act, rows, wanted, workers, fleet_progress),
            )

    def roll_out(
        self,
        old: str,
        new: str,
        *,
        cameras: Sequence[str] | None = None,
        nights: tuple[str, str] | None = None,
        expect: int | None = None,
        force: bool = False,
        partial: bool = False,
        files: bool = True,
        reason: str,
        jobs: int | None = None,
        scheduler: str | None = None,
        progress: Progress | None = None,
        fleet_progress: Callable[[FleetReport], None] | None = None,
    ) -> Rollout:
        """Compare as `compare_recipes` does, and certify the new masks in one transaction.

        Each new mask holds exactly what the old one of its campaign held, and no other date is answered
        otherwise. Where nothing is to be changed, nothing is written.

        Parameters
        ----------
        expect
            the `tx` of the comparison that was looked at; refused when a series has moved since
        force
            certify also what quality gates refuse
        partial
            leave campaigns as they are that cannot be built, or that gates refuse; else one of them
            keeps all the others as they are

        Raises
        ------
        Conflict
            Nothing is certified.
        """
        from hotpix_registry.registry import rollout

        if not reason.strip():
            raise UsageError("A rollout needs a reason.", next_step="Give it with --reason.")
        compared = self.compare_recipes(
            old,
            new,
            cameras=cameras,
            nights=nights,
            files=files,
            jobs=jobs,
            scheduler=scheduler,
            progress=progress,
            fleet_progress=fleet_progress,
        )
        rollout.check_whole(compared, force=force, partial=partial)
        with self._writing(rollout.ACT, reason) as (connection, tx):
            done = rollout.roll_out(connection, compared, tx, expect=expect, force=force)
            if done.rolled_out_tx is None:
                connection.rollback()
            return done

    def roll_back(self, rollout_tx: int, *, expect: int | None = None, reason: str) -> Rollback:
        """Give the dates that a rollout gave away back to the masks that held them, in one transaction.

        What other acts have done to these dates since stays; so do those whose mask of before has been
        revoked or decertified.

        Raises
        ------
        UsageError
            That transaction is no rollout.
        Conflict
            Its masks hold no such date any more, or a series has moved since `expect`.
        """
        from hotpix_registry.registry import rollback

        with self._writing("rollback", reason) as (connection, tx):
            return rollback.roll_back(connection, rollout_tx, tx, expect=expect)
