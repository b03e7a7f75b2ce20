"""Rolling out a recipe: what would change is told, all of it changes at once, and one act goes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from hotpix_registry import Registry
from hotpix_registry.cameras import dump_camera_profile
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import Conflict, UsageError
from hotpix_registry.registry.recipes import as_toml, named_recipe
from hotpix_registry.registry.rollout import Rollout
from tests.small_camera import write_campaign
from tests.story import CAMERA, import_pixels

FIRST, SECOND = "2021-03-04", "2022-03-04"
WHY = "the network's recipe of 2022"


@pytest.fixture
def certified(registry: Registry, tmp_path: Path) -> Registry:
    """Masks 1 and 2 of two campaigns, a year apart, by the limit of 4 e-/s."""
    for year in (2021, 2022):
        write_campaign(tmp_path / str(year), start=datetime(year, 3, 4, 22))
    registry.ingest([tmp_path / "2021", tmp_path / "2022"])
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    return registry


def answers(registry: Registry) -> list[int]:
    return [registry.mask(CAMERA, night).answer.mask_id for night in (FIRST, SECOND)]


def outcomes(rollout: Rollout) -> list[str]:
    return [one.outcome for one in rollout.campaigns]


def test_a_comparison_counts_pixels_and_dates_and_changes_no_answer(certified: Registry) -> None:
    registry = certified
    found = registry.compare_recipes("current", "limit=10")
    assert (outcomes(found), found.built) == (["changed", "changed"], 2)
    assert answers(registry) == [1, 2]
    for one, interval in zip(found.campaigns, ("2020-01-29..2022-03-04", "2022-03-04.."), strict=True):
        assert one.before is not None and one.after is not None and one.pixels is not None
        then, now = registry.mask_array(one.before), registry.mask_array(one.after)
        assert (one.pixels.flagged_before, one.pixels.flagged_after) == (then.sum(), now.sum()) == (6, 4)
        assert (one.pixels.new, one.pixels.vanished) == ((now & ~then).sum(), (then & ~now).sum()) == (0, 2)
        assert one.pixels.jaccard == pytest.approx((then & now).sum() / (then | now).sum())
        assert registry.show(one.after)["status"] == "candidate"
        (dates,) = one.dates
        assert (dates.before, dates.after) == (one.before, one.after)
        assert f"{dates.valid_from[:10]}..{(dates.valid_to or '')[:10]}" == interval
    total = found.total()
    assert (total["campaigns"], total["changed"], total["vanished"], total["intervals"]) == (2, 2, 4, 2)
    newest = registry.state()
    again = registry.compare_recipes("current", "limit=10")
    assert (again.built, again.campaigns, registry.state()) == (0, found.campaigns, newest)


def test_a_rollout_is_one_act_that_receipts_see_past_and_a_rollback_undoes(certified: Registry) -> None:
    registry = certified
    receipt = registry.mask(CAMERA, FIRST).answer.receipt
    before = {night: registry.mask(CAMERA, night).answer.sha256 for night in (FIRST, SECOND)}
    compared = registry.compare_recipes("current", "limit=10", cameras=[CAMERA])
    done = registry.roll_out("current", "limit=10", expect=compared.tx, reason=WHY)
    assert done.rolled_out_tx == compared.tx + 1
    assert answers(registry) == [3, 4]
    (act,) = registry.log(newest=1)
    assert (act["action"], act["reason"]) == ("rollout", WHY)
    assert registry.replay(receipt).answer.mask_id == 1
    assert registry.mask(CAMERA, FIRST, as_of=compared.tx).answer.mask_id == 1
    assert [mask["status"] for mask in registry.masks()] == ["superseded"] * 2 + ["certified"] * 2

    state = registry.state()
    again = registry.roll_out("current", "limit=10", reason=WHY)
    assert (outcomes(again), again.rolled_out_tx) == (["same mask"] * 2, None)
    assert registry.state() == state

    back = registry.roll_back(done.rolled_out_tx, reason="too few pixels")
    assert {(change.before, change.after) for change in back.changes} == {(3, 1), (4, 2)}
    assert {night: registry.mask(CAMERA, night).answer.sha256 for night in before} == before
    with pytest.raises(Conflict, match="hold no dates any more"):
        registry.roll_back(done.rolled_out_tx, reason="again")
    with pytest.raises(UsageError, match="Transaction 1 is no rollout"):
        registry.roll_back(1, reason="a mistake")
    assert not registry.verify().findings


def test_what_moved_since_the_comparison_is_not_rolled_over(certified: Registry) -> None:
    registry = certified
    compared = registry.compare_recipes("current", "limit=10")
    registry.revoke(2, reason="light leak")
    with pytest.raises(Conflict, match="revoked mask 2") as moved:
        registry.roll_out("current", "limit=10", expect=compared.tx, reason=WHY)
    assert "Look again" in moved.value.next_step
    found = registry.roll_out("current", "limit=10", reason=WHY)
    assert outcomes(found) == ["changed", "left alone"]
    assert found.campaigns[1].why == "mask 2 is revoked: light leak"
    assert registry.mask(CAMERA, FIRST).answer.mask_id == 3


def test_what_moves_while_masks_are_built_is_not_compared(certified: Registry) -> None:
    registry = certified

    def meanwhile(label: str, done: int, total: int) -> None:
        if label.startswith("2 of 2") and registry.show(1)["status"] == "certified":
            registry.revoke(1, reason="light leak")

    found = registry.compare_recipes("current", "limit=10", progress=meanwhile)
    assert outcomes(found) == ["left alone", "changed"]
    assert found.campaigns[0].why == "mask 1 is revoked: light leak"


def test_what_people_made_is_left_alone(certified: Registry, tmp_path: Path) -> None:
    registry = certified
    edited = registry.edit_mask(1, mask=[(7, 7)], reason="seen in flats").mask_id
    imported = import_pixels(registry, tmp_path, "2022-09-01", [5, 70])
    found = registry.roll_out("current", "limit=10", reason=WHY)
    assert [(one.outcome, one.before, one.why) for one in found.campaigns] == [
        ("left alone", edited, f"mask {edited} was edited by hand, which would be lost"),
        ("changed", 2, ""),
        ("left alone", imported, "it was imported"),
    ]
    assert registry.mask(CAMERA, FIRST).answer.mask_id == edited
    assert registry.mask(CAMERA, "2022-10-01").answer.mask_id == imported


def test_one_campaign_that_cannot_follow_keeps_all_as_they_are(certified: Registry, tmp_path: Path) -> None:
    registry = certified
    lost = next((tmp_path / "2022").glob("dark_30s*"))
    lost.unlink()
    with pytest.raises(Conflict, match=r"1 of 2 campaigns cannot be rolled out, so none is .*has vanished"):
        registry.roll_out("current", "limit=10", reason=WHY)
    assert answers(registry) == [1, 2]
    found = registry.roll_out("current", "limit=10", partial=True, reason=WHY)
    assert outcomes(found) == ["changed", "not built"]
    assert answers(registry) == [3, 2]


def test_a_gate_that_refuses_is_overruled_by_force_alone(certified: Registry, tmp_path: Path) -> None:
    registry = certified
    profile = registry.camera(CAMERA).profile
    strict = replace(profile, gates=replace(profile.gates, max_flagged_fraction=0.001))
    (tmp_path / "strict.toml").write_text(dump_camera_profile(strict))
    registry.apply_profile(tmp_path / "strict.toml")
    refused = registry.compare_recipes("current", "limit=10")
    assert outcomes(refused) == ["refused", "refused"]
    assert "flagged fraction" in refused.campaigns[0].why
    with pytest.raises(Conflict, match="mask 3 failed flagged fraction"):
        registry.roll_out("current", "limit=10", reason=WHY)
    assert registry.roll_out("current", "limit=10", partial=True, reason=WHY).rolled_out_tx is None
    assert answers(registry) == [1, 2]
    registry.roll_out("current", "limit=10", force=True, reason=WHY)
    assert answers(registry) == [3, 4]


def test_an_old_recipe_by_name_gives_up_its_own_dates_only(certified: Registry) -> None:
    registry = certified
    registry.build(CAMERA, nights=(SECOND, SECOND), recipe=Recipe(rule=Rule.EVIDENCE))
    found = registry.compare_recipes("limit=4", "limit=10")
    assert [(one.before, len(one.dates)) for one in found.campaigns] == [(1, 1), (2, 0)]
    assert found.campaigns[1].notes == ("Mask 2 holds no dates; mask 3 of this campaign does.",)
    registry.roll_out("limit=4", "limit=10", reason=WHY)
    assert answers(registry) == [4, 3]


def test_a_rollback_leaves_what_happened_since(certified: Registry, tmp_path: Path) -> None:
    registry = certified
    rolled_out_tx = registry.roll_out("current", "limit=10", reason=WHY).rolled_out_tx
    assert rolled_out_tx is not None
    write_campaign(tmp_path / "2023", start=datetime(2023, 3, 4, 22))
    registry.ingest([tmp_path / "2023"])
    (newest,) = registry.build(
        CAMERA, nights=("2023-03-04", "2023-03-04"), recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=10.0)
    )
    registry.revoke(1, reason="streaks")
    back = registry.roll_back(rolled_out_tx, reason="too few pixels")
    assert [(one.mask_id, one.instead_of, one.status) for one in back.kept] == [(3, 1, "revoked")]
    assert answers(registry) == [3, 2]
    assert registry.mask(CAMERA, "2023-06-01").answer.mask_id == newest.mask_id
    assert not registry.verify().findings


# --- how recipes are named ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("evidence+limit", Recipe()),
        ("limit=4", Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)),
        ("limit=auto", Recipe(rule=Rule.LIMIT)),
        ("evidence+limit=4.5", Recipe(limit_e_per_s=4.5)),
        (" cutoff=1.5 ", Recipe(rule=Rule.CUTOFF, cutoff_e_per_s=1.5)),
        ("none", Recipe(rule=Rule.NONE)),
        ("current", None),
        ("default", None),
    ],
)
def test_a_recipe_is_named_by_its_rule_and_number(text: str, recipe: Recipe | None) -> None:
    assert named_recipe(text).recipe == recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("evidense", "Did you mean evidence?"),
        ("limit=four", "'four' is no limit."),
        ("limit=-1", "'-1' is no limit."),
        ("cutoff=nan", "'nan' is no cut-off."),
        ("evidence=4", "Rule evidence takes no number."),
        ("import", "Rule import makes no masks of darks."),
        ("", "'' is no recipe."),
        ("absent.toml", "absent.toml cannot be read"),
    ],
)
def test_what_is_no_recipe_is_refused_with_what_is_one(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        named_recipe(text)
    assert words in str(refused.value)


def test_a_recipe_that_was_written_down_is_read_again(tmp_path: Path) -> None:
    mine = Recipe(rule=Rule.EVIDENCE, tolerance=0.1, max_cosmic_rays=3)
    (tmp_path / "mine.toml").write_text(as_toml(mine))
    assert named_recipe(str(tmp_path / "mine.toml")).recipe == mine


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("tolerence = 0.1", "unknown key 'tolerence'. Did you mean tolerance?"),
        ("tolerance = 0.0", "tolerance is 0.0. Write a number between 0 and 1."),
        ("tolerance = nan", "tolerance is nan."),
        ('rule = "edit"', "'edit' is no rule."),
        ("max_cosmic_rays = 1.5", "max_cosmic_rays is 1.5. Write a whole number."),
        ("limit_e_per_s = true", "limit_e_per_s is True."),
        ("rule = ", "is no valid TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(UsageError) as refused:
        named_recipe(str(tmp_path / "mine.toml"))
    assert words in str(refused.value)


def test_masks_that_flag_the_same_are_rolled_over_too(certified: Registry) -> None:
    found = certified.roll_out("current", "limit=4.5", reason=WHY)
    assert outcomes(found) == ["same pixels", "same pixels"]
    assert [one.pixels and one.pixels.jaccard for one in found.campaigns] == [1.0, 1.0]
    assert answers(certified) == [3, 4]
    assert np.array_equal(certified.mask_dq(1), certified.mask_dq(3))
