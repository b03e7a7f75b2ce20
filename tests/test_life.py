"""The life of masks through Python: what is ordinary, what is refused, and what leaves no trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.errors import Conflict, NoMask, RevokedMask, UsageError
from hotpix_registry.instants import parse_date
from hotpix_registry.registry.masks import BuildResult
from tests.plain_masks import SHAPE, add_camera, add_mask


@pytest.fixture
def aspen(registry: Registry) -> CameraRow:
    return add_camera(registry, CameraProfile(name="aspen", longitude_deg_east=0.0))


def instant(text: str) -> int:
    moment = parse_date(text)
    assert isinstance(moment, int)
    return moment


def built(registry: Registry, camera: CameraRow, night: str, *, at: str = "20:00", seed: int = 0) -> int:
    """A mask of one night's darks, taken at a time of that evening."""
    return add_mask(registry, camera, (night, night), [instant(f"{night}T{at}Z")], seed=seed)


def foreign(tmp_path: Path, *pixels: tuple[int, int]) -> Path:
    mask = np.zeros(SHAPE, np.uint8)
    for x, y in pixels:
        mask[y, x] = 1
    path = tmp_path / "bpm.npy"
    np.save(path, mask)
    return path


def valid(registry: Registry, mask_id: int) -> list[tuple[str, str | None]]:
    return [(v["from"][:10], v["to"] and v["to"][:10]) for v in registry.show(mask_id)["valid"]]


def last_tx(registry: Registry) -> int:
    return int(registry.log(newest=1)[-1]["tx"])


def test_an_act_that_changes_nothing_leaves_no_transaction(
    registry: Registry, aspen: CameraRow, tmp_path: Path
) -> None:
    mask_id = built(registry, aspen, "2018-08-22")
    registry.import_mask(foreign(tmp_path), "aspen", valid_from="2019-01-01", temperature_c=-10)
    registry.edit_mask(mask_id, mask=[(3, 4)], reason="seen in flats")
    before = last_tx(registry)
    assert registry.certify(3) == ()
    again = registry.import_mask(foreign(tmp_path), "aspen", valid_from="2019-01-01", temperature_c=-10)
    edited = registry.edit_mask(mask_id, mask=[(3, 4)], reason="seen in flats")
    assert (again.new, edited.new) == (False, False)
    assert last_tx(registry) == before


def test_a_fallback_is_advised_only_where_it_would_help(registry: Registry, aspen: CameraRow) -> None:
    built(registry, aspen, "2018-08-22")
    registry.add_event("aspen", "2019-03-04", "warmup", trim=True)
    with pytest.raises(NoMask) as beyond:
        registry.mask("aspen", "2019-03-05")
    assert beyond.value.next_step.startswith("No fallback crosses an epoch event")
    with pytest.raises(NoMask) as before:
        registry.mask("aspen", "2001-01-01")
    assert before.value.next_step == "`--fallback nearest` takes the nearest one."


def test_a_refused_act_costs_no_number(registry: Registry, aspen: CameraRow, tmp_path: Path) -> None:
    built(registry, aspen, "2018-08-22")
    before = last_tx(registry)
    with pytest.raises(Conflict, match="would take dates from mask 1"):
        registry.import_mask(foreign(tmp_path), "aspen", valid_from="2018-08-22", temperature_c=-10)
    with pytest.raises(Conflict, match="--trim"):
        registry.add_event("aspen", "2019-01-01", "warmup")
    assert last_tx(registry) == before
    assert built(registry, aspen, "2019-08-22") == 2
    assert registry.add_event("aspen", "2019-08-01", "warmup", trim=True).event_id == 1


def test_an_imported_mask_never_reaches_back(registry: Registry, aspen: CameraRow, tmp_path: Path) -> None:
    path = foreign(tmp_path, (1, 1))
    taken_in = registry.import_mask(path, "aspen", valid_from="2018-08-22", temperature_c=-10)
    assert registry.certify(taken_in.mask_id) == ()
    edited = registry.edit_mask(taken_in.mask_id, mask=[(3, 4)], reason="seen in flats")
    assert valid(registry, edited.mask_id) == [("2018-08-22", None)]


def test_an_edited_mask_stays_in_the_epoch_of_the_darks_that_it_came_from(
    registry: Registry, aspen: CameraRow
) -> None:
    early = built(registry, aspen, "2018-08-22")
    registry.add_event("aspen", "2019-03-04T20:00:00Z", "warmup", trim=True)
    late = built(registry, aspen, "2019-03-04", at="22:00")
    for mask_id in (late, late + 1):  # an edit, and an edit of that
        edited = registry.edit_mask(mask_id, mask=[(3, 4)], reason="seen in flats")
        assert [(change.before, change.after) for change in edited.changes] == [(mask_id, mask_id + 1)]
        assert valid(registry, edited.mask_id) == [("2019-03-04", None)]
    assert valid(registry, early) == [("2017-07-18", "2019-03-04")]


def test_where_a_person_certifies_what_is_imported_or_edited_waits(
    registry: Registry, tmp_path: Path
) -> None:
    aspen = add_camera(registry, CameraProfile(name="aspen", certify="manual"))
    mask_id = built(registry, aspen, "2018-08-22")
    imported = registry.import_mask(
        foreign(tmp_path, (1, 1)), "aspen", valid_from="2018-08-22", temperature_c=-10
    )
    edited = registry.edit_mask(mask_id, mask=[(3, 4)], reason="seen in flats")
    for result in (imported, edited):
        assert (result.status, result.changes, result.failed_gates) == ("candidate", (), ())
        assert valid(registry, result.mask_id) == []
    assert registry.mask("aspen", "2018-08-22").answer.newer_candidates == (2, 3)
    registry.certify(edited.mask_id, supersede=True)
    assert registry.mask("aspen", "2018-08-22").answer.mask_id == edited.mask_id


def test_a_gate_refuses_an_imported_mask_that_makes_no_sense(
    registry: Registry, aspen: CameraRow, tmp_path: Path
) -> None:
    pixels = [(x, y) for x in range(8) for y in range(4)]
    imported = registry.import_mask(
        foreign(tmp_path, *pixels), "aspen", valid_from="2018-08-22", temperature_c=-10
    )
    assert imported.status == "candidate"
    assert imported.failed_gates == ("flagged fraction: 50.000%, wanted at most 10.000%",)
    with pytest.raises(Conflict, match="did not pass its gates"):
        registry.certify(imported.mask_id)
    registry.certify(imported.mask_id, force=True, reason="the sensor is like that")
    assert registry.mask("aspen", "2018-08-22").answer.mask_id == imported.mask_id
    mended = registry.edit_mask(imported.mask_id, unmask=pixels[:28], reason="too many")
    assert (mended.status, mended.flagged) == ("certified", 4)


def edited(registry: Registry, mask_id: int, x: int) -> BuildResult:
    return registry.edit_mask(mask_id, mask=[(x, 7)], reason="seen in flats")


def test_an_edit_of_the_certified_mask_takes_the_dates_that_it_holds(
    registry: Registry, aspen: CameraRow
) -> None:
    first = built(registry, aspen, "2018-08-22")
    built(registry, aspen, "2019-08-22")
    registry.certify(first, valid_from="2018-09-01", valid_to="2018-10-01")
    result = edited(registry, first, 1)
    assert (result.status, result.warnings) == ("certified", ())
    assert valid(registry, result.mask_id) == [("2018-09-01", "2018-10-01")]
    assert valid(registry, first) == []


def test_an_edit_of_a_superseded_mask_waits_and_says_which_mask_holds_its_dates(
    registry: Registry, aspen: CameraRow
) -> None:
    first = built(registry, aspen, "2018-08-22")
    second = edited(registry, first, 1).mask_id
    third = edited(registry, first, 2)
    assert (third.status, third.changes) == ("candidate", ())
    assert third.warnings == (
        "It waits as a candidate, since it is an edit of mask 1, which is superseded. "
        "Mask 2 (2017-07-18T12:00:00Z to further notice) holds its dates; "
        "`hotpix-registry certify 3 --supersede` puts it there instead.",
    )
    assert valid(registry, second) == [("2017-07-18", None)]
    with pytest.raises(Conflict, match="would take dates from mask 2"):
        registry.certify(third.mask_id)
    registry.certify(third.mask_id, supersede=True)
    assert valid(registry, third.mask_id) == [("2017-07-18", None)]
    (again,) = edited(registry, first, 1).warnings
    assert again.startswith("It had been made before, and is superseded. Mask 3 (2017-07-18T12:00:00Z")


def test_an_edit_of_a_mask_that_its_gates_refused_waits_as_that_one_does(
    registry: Registry, aspen: CameraRow
) -> None:
    built(registry, aspen, "2018-08-22")
    refused = add_mask(
        registry, aspen, ("2019-08-22",) * 2, [instant("2019-08-22T20:00:00Z")], gates_passed=False
    )
    waiting = edited(registry, edited(registry, refused, 1).mask_id, 2)
    assert waiting.status == "candidate"
    (warning,) = waiting.warnings
    assert "an edit of mask 3, which is a candidate. Mask 1 (2019-08-22T12:00:00Z to further" in warning
    assert "certify 4 --supersede --force --reason …`" in warning
    with pytest.raises(Conflict, match=r"Mask 2 did not pass its gates .*, and mask 4 is an edit of it"):
        registry.certify(4, supersede=True)
    registry.certify(4, supersede=True, force=True, reason="the edit mends it")
    assert edited(registry, 4, 3).status == "certified"


def test_an_edit_of_a_revoked_mask_answers_only_by_the_word_of_a_person(
    registry: Registry, aspen: CameraRow
) -> None:
    first = built(registry, aspen, "2018-08-22")
    registry.revoke(first, reason="light leak")
    (warning,) = edited(registry, first, 1).warnings
    assert "mask 1, which is revoked. Mask 1 (2017-07-18T12:00:00Z to further notice) holds" in warning
    with pytest.raises(RevokedMask):
        registry.mask("aspen", "2018-09-01")
    with pytest.raises(Conflict, match="would take dates from mask 1"):
        registry.certify(2)
    registry.certify(2, supersede=True)
    assert registry.mask("aspen", "2018-09-01").answer.mask_id == 2


def test_an_edit_says_that_what_it_was_made_from_was_revoked_since(
    registry: Registry, aspen: CameraRow
) -> None:
    first = built(registry, aspen, "2018-08-22")
    second = edited(registry, edited(registry, first, 1).mask_id, 2).mask_id
    before = last_tx(registry)
    assert registry.revoke(first, reason="light leak") == []
    (warning,) = registry.mask("aspen", "2018-08-22").answer.warnings
    assert warning.startswith("This mask was made from mask 1, which is revoked: light leak; ")
    assert f"`hotpix-registry revoke {second} --reason …`" in warning
    assert registry.mask("aspen", "2018-08-22", as_of=before).answer.warnings == ()
    registry.lift_revocation(first, reason="it was the dome lamp")
    assert registry.mask("aspen", "2018-08-22").answer.warnings == ()


def test_an_edit_of_a_mask_that_was_decertified_waits_although_its_dates_are_free(
    registry: Registry, aspen: CameraRow
) -> None:
    first = built(registry, aspen, "2018-08-22")
    registry.decertify(first, reason="wrong gain")
    (warning,) = edited(registry, first, 1).warnings
    assert warning.endswith("No mask holds its dates; `hotpix-registry certify 2` gives them to it.")


def test_an_edit_of_a_mask_that_an_event_tears_needs_a_rebuild_as_that_mask_does(
    registry: Registry, aspen: CameraRow
) -> None:
    darks = [instant("2018-08-22T20:00:00Z"), instant("2018-08-24T20:00:00Z")]
    torn = add_mask(registry, aspen, ("2018-08-22", "2018-08-24"), darks)
    before = edited(registry, torn, 1).mask_id
    event = registry.add_event("aspen", "2018-08-24", "warmup", trim=True)
    assert event.needs_rebuild == (torn, before)
    after = edited(registry, before, 2).mask_id
    assert [row["needs_rebuild"] for row in registry.masks()] == [True, True, True]
    assert registry.show(after)["needs_rebuild"]
    answer = registry.mask("aspen", "2018-08-23").answer
    assert (answer.mask_id, answer.needs_rebuild) == (after, True)
    assert any("build it anew" in warning for warning in answer.warnings)
    registry.remove_event("aspen", event.event_id or 0, reason="mistyped")
    assert [row["needs_rebuild"] for row in registry.masks()] == [False, False, False]


def test_masks_whose_frames_a_split_took_away_say_so_from_then_on(
    registry: Registry, aspen: CameraRow
) -> None:
    first = built(registry, aspen, "2018-08-22")
    darks = [instant("2019-08-22T20:00:00Z"), instant("2019-08-23T20:00:00Z")]
    mixed = add_mask(registry, aspen, ("2019-08-22", "2019-08-23"), darks)
    receipt = registry.mask("aspen", "2019-09-01").answer.receipt
    registry.create_release("2019A")
    before = last_tx(registry)
    assert registry.split_camera("aspen", "twin", nights=("2019-08-23", "2019-12-31")) == 1
    moved = edited(registry, mixed, 1).mask_id
    for mask_id in (mixed, moved):
        shown = registry.show(mask_id)
        assert shown["needs_rebuild"]
        assert shown["rebuild_reason"].startswith(
            f"1 of 2 frames belong to camera twin since transaction {before + 1} (split camera, 20"
        )
        assert "build both cameras anew" in shown["rebuild_reason"]
        assert f"decertify {mask_id} --restore-previous" in shown["rebuild_reason"]
    assert [row["needs_rebuild"] for row in registry.masks()] == [False, True, True]
    assert [row["needs_rebuild"] for row in registry.masks(as_of=before)] == [False, False]
    answer = registry.mask("aspen", "2019-09-01").answer
    assert (answer.mask_id, answer.needs_rebuild) == (moved, True)
    assert registry.show(moved)["rebuild_reason"] in answer.warnings
    assert not registry.mask("aspen", "2019-08-01").answer.needs_rebuild
    for then in (registry.replay(receipt), registry.mask("aspen", "2019-09-01", release="2019A")):
        assert (then.answer.mask_id, then.answer.needs_rebuild, then.answer.warnings) == (mixed, False, ())
    registry.decertify(moved, reason="twin's")
    with pytest.raises(Conflict, match="1 of 2 frames belong to camera twin"):
        registry.certify(moved)
    registry.rename_camera("twin", "birch")
    registry.merge_cameras("birch", "aspen")
    assert [row["needs_rebuild"] for row in registry.masks()] == [False, False, False]
    assert registry.show(first)["rebuild_reason"] is None


def test_what_is_expected_must_have_been(registry: Registry, aspen: CameraRow) -> None:
    mask_id = built(registry, aspen, "2018-08-22")
    newest = last_tx(registry)
    for expected in (0, newest + 1, newest + 2):
        with pytest.raises(UsageError, match=f"no transaction {expected}"):
            registry.certify(mask_id, valid_from="2018-01-01", expect=expected)
        with pytest.raises(UsageError, match=f"no transaction {expected}"):
            registry.decertify(mask_id, expect=expected, reason="wrong gain")
    assert last_tx(registry) == newest
    registry.certify(mask_id, valid_from="2018-01-01", expect=newest)
    with pytest.raises(Conflict, match="has moved since"):
        registry.decertify(mask_id, expect=newest, reason="wrong gain")


def test_what_was_before_all_cannot_be_released(registry: Registry, aspen: CameraRow) -> None:
    with pytest.raises(UsageError, match="Nothing had been written at 1990-01-01"):
        registry.create_release("R1", as_of="1990-01-01")
    assert registry.releases() == []
    assert registry.create_release("R1").at_tx == 2


def test_threads_that_share_a_registry_are_told_what_each_of_them_sees(
    registry: Registry, aspen: CameraRow
) -> None:
    built(registry, aspen, "2018-08-22")
    first = last_tx(registry)
    registry.revoke(1, reason="light leak")

    def ask(number: int) -> str:
        try:
            return registry.mask("aspen", "2018-08-22", as_of=(first, first + 1)[number % 2]).answer.status
        except RevokedMask:
            return "revoked"

    def change(number: int) -> None:
        registry.create_release(f"R{number}")

    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(change, number) for number in range(20)]
        told = list(pool.map(ask, range(200)))
        assert [change.result() for change in changes] == [None] * 20
    assert told == ["certified", "revoked"] * 100
