"""The life of masks as people live it on the command line, and what they mistype there."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.instants import parse_date
from tests.cli.conftest import Hotpix
from tests.plain_masks import add_camera, add_mask

MASK = ("mask", "--camera", "aspen", "--format", "json")
WHY = ("--reason", "because")


def built(registry: Registry, camera: str, night: str, seed: int = 0, **options: Any) -> int:
    start_us = parse_date(f"{night}T20:00:00Z")
    assert isinstance(start_us, int)
    return add_mask(registry, registry.camera(camera), (night, night), [start_us], seed=seed, **options)


@pytest.fixture
def life(hotpix: Hotpix) -> Hotpix:
    """Cameras aspen and birch at Greenwich; masks 1 and 2 of aspen, a year apart, and 3 of birch."""
    with hotpix.opened() as registry:
        for name in ("aspen", "birch"):
            add_camera(registry, CameraProfile(name=name, longitude_deg_east=0.0))
        built(registry, "aspen", "2018-08-22")
        built(registry, "aspen", "2019-08-22")
        built(registry, "birch", "2018-08-22")
    return hotpix


def build(hotpix: Hotpix, night: str, seed: int = 0, **options: Any) -> int:
    with hotpix.opened() as registry:
        return built(registry, "aspen", night, seed, **options)


def answer(hotpix: Hotpix, date: str, *options: str) -> int:
    return int(hotpix(*MASK, "--date", date, *options).ended_with(0).json["mask_id"])


def contents(hotpix: Hotpix) -> list[str]:
    """Everything that an SQLite registry holds, as statements."""
    with closing(sqlite3.connect(str(hotpix.database))) as connection:
        return list(connection.iterdump())


# --- certify ----------------------------------------------------------------------------------------


def test_a_mask_that_is_certified_tells_which_dates_answer_otherwise(life: Hotpix) -> None:
    mask_id = build(life, "2019-03-04", certify=False)
    assert answer(life, "2019-04-01") == 1
    done = life("certify", str(mask_id), "--reason", "looked at the plots").ended_with(0)
    assert done.out == (
        f"Mask {mask_id} is certified.\n"
        f"  from 2019-03-04T12:00:00Z to 2019-08-22T12:00:00Z: mask {mask_id} instead of mask 1\n"
    )
    assert answer(life, "2019-04-01") == mask_id
    assert life("certify", str(mask_id)).ended_with(0).out == f"Mask {mask_id} held these dates already.\n"
    newest = life("log", "--last", "1", "--format", "json").ended_with(0).json[0]
    assert (newest["action"], newest["reason"]) == ("certify", "looked at the plots")
    assert newest["did"] == [f"gave dates to mask {mask_id}", "took dates from mask 1"][
        : len(newest["did"])
    ] or (f"gave dates to mask {mask_id}" in newest["did"])
    assert {"actor", "host", "software", "at", "tx"} <= newest.keys()


def test_what_is_in_the_way_is_named_until_somebody_says_supersede(life: Hotpix) -> None:
    bounds = ("--valid-from", "2018-10-01", "--valid-to", "2018-11-01")
    before = contents(life)
    done = life("certify", "2", *bounds).refused(1, "mask 1 (2017-07-18T12:00:00Z to 2019-08-22T12:00:00Z)")
    assert "--supersede" in done.err
    assert contents(life) == before
    told = life("certify", "2", *bounds, "--supersede", "--format", "json").ended_with(0).json
    assert told["changes"] == [
        {"valid_from": "2018-10-01T12:00:00Z", "valid_to": "2018-11-01T12:00:00Z", "before": 1, "after": 2},
        {"valid_from": "2019-08-22T12:00:00Z", "valid_to": None, "before": 2, "after": None},
    ]
    assert [answer(life, f"2018-{month}") for month in ("09-30", "10-01", "10-31", "11-01")] == [1, 2, 2, 1]


def test_dates_before_the_own_darks_are_taken_from_another_campaign_only_by_supersede(life: Hotpix) -> None:
    bounds = ("--valid-from", "2019-03-01")
    before = contents(life)
    life("certify", "2", *bounds).refused(1, "mask 1 (2017-07-18T12:00:00Z to 2019-08-22T12:00:00Z)")
    assert contents(life) == before
    assert "held these dates already" in life("certify", "2", "--valid-from", "2019-08-22").ended_with(0).out
    free = life("certify", "1", "--valid-from", "2016-01-01").ended_with(0)
    assert "from 2016-01-01T12:00:00Z to 2017-07-18T12:00:00Z: mask 1 instead of no mask" in free.out
    life("certify", "2", *bounds, "--supersede").ended_with(0)
    assert [answer(life, date) for date in ("2019-02-28", "2019-03-01")] == [1, 2]


def test_what_a_gate_refused_needs_force_and_a_reason(life: Hotpix) -> None:
    mask_id = str(build(life, "2019-03-04", gates_passed=False))
    before = contents(life)
    life("certify", mask_id).refused(1, "flagged fraction: 40 %, wanted at most 5 %", "--force --reason")
    life("certify", mask_id, "--force").refused(2, "needs a reason")
    assert contents(life) == before
    life("certify", mask_id, "--force", "--reason", "a bright amplifier").ended_with(0)
    assert answer(life, "2019-04-01") == int(mask_id)


def test_what_is_imported_or_edited_waits_where_a_person_certifies(stocked: Hotpix) -> None:
    toml = stocked("cameras", "show", "smallcam-48", "--toml").ended_with(0).out
    (stocked.cwd / "mine.toml").write_text(toml + '[policy]\ncertify = "manual"\n')
    stocked("cameras", "apply", "mine.toml").ended_with(0)
    np.save(stocked.cwd / "bpm.npy", np.eye(48, 64, dtype=bool))
    where = ("--camera", "smallcam-48", "--from", "2021-03-04", "--temperature", "-10")
    taken_in = stocked("import", "bpm.npy", *where).ended_with(
        8, "Mask 2 is a candidate only: by the camera's profile a person certifies its masks.", "certify 2`"
    )
    assert "Mask 2, version 2 of smallcam-48 at -10 °C, bin 1x1, candidate" in taken_in.out
    edited = stocked("edit", "1", "--mask", "17,4", "--reason", "seen in flats")
    edited.ended_with(8, "Mask 3 is a candidate only", "`hotpix-registry certify 3`")
    assert "instead of" not in taken_in.out + edited.out
    assert (
        stocked("import", "bpm.npy", *where, "--format", "json").ended_with(8).json["status"] == "candidate"
    )
    done = stocked("certify", "3", "--reason", "looked").ended_with(0)
    assert "mask 3 instead of mask 1" in done.out


def test_an_import_that_a_gate_refuses_says_how_to_certify_it(stocked: Hotpix) -> None:
    np.save(stocked.cwd / "all.npy", np.ones((48, 64), dtype=bool))
    done = stocked(
        "import", "all.npy", "--camera", "smallcam-48", "--from", "2021-03-04", "--temperature", "-20"
    )
    done.ended_with(
        8,
        "failed the gate flagged fraction: 100.000%, wanted at most 10.000%",
        "certify 2 --force --reason …`",
    )


def test_of_two_people_the_second_is_told(life: Hotpix) -> None:
    tx = str(life(*MASK, "--date", "2019-09-01").ended_with(0).json["tx"])
    life("certify", "1", "--valid-to", "2019-08-01", "--expect", tx).ended_with(0)
    before = contents(life)
    done = life("certify", "1", "--valid-to", "2019-07-01", "--expect", tx)
    done.refused(1, "has moved since", "took dates from mask 1", f"transaction {int(tx) + 1}", "Look again")
    for beyond in (int(tx) + 2, int(tx) + 99):
        life("certify", "1", "--expect", str(beyond)).refused(2, f"no transaction {beyond}")
    assert contents(life) == before


# --- revoke, decertify -------------------------------------------------------------------------------


def test_a_revoked_mask_is_an_error_until_another_supersedes_it(life: Hotpix) -> None:
    done = life("revoke", "1", "--reason", "light leaked into the darks").ended_with(0)
    assert "from 2017-07-18T12:00:00Z to 2019-08-22T12:00:00Z: an error from now on" in done.out
    life(*MASK, "--date", "2018-10-01").refused(
        4, "mask 1, was revoked at", "light leaked", "--allow-revoked"
    )
    allowed = life(*MASK, "--date", "2018-10-01", "--allow-revoked").ended_with(0, "This mask is revoked")
    assert (allowed.json["mask_id"], allowed.json["status"]) == (1, "revoked")
    before = contents(life)
    life("revoke", "1", *WHY).refused(1, "has been revoked since")
    life("certify", "1").refused(4, "Mask 1 is revoked", "--undo")
    life("revoke", "2", "--undo", *WHY).refused(1, "Mask 2 is not revoked")
    assert contents(life) == before
    mask_id = build(life, "2018-08-22", seed=1)
    assert answer(life, "2018-10-01") == mask_id
    life("revoke", "1", "--undo", "--reason", "it was the dome lamp").ended_with(0)
    assert answer(life, "2018-10-01") == mask_id


def test_dates_go_back_to_those_who_held_them(life: Hotpix) -> None:
    mask_id = str(build(life, "2018-08-22", seed=1))
    life("decertify", mask_id, "--restore-previous", "--reason", "wrong gain").ended_with(0)
    assert answer(life, "2018-10-01") == 1
    before = contents(life)
    life("decertify", mask_id, *WHY).refused(1, f"Mask {mask_id} holds no dates")
    assert contents(life) == before
    life("decertify", "1", *WHY).ended_with(0)
    life(*MASK, "--date", "2018-10-01").refused(3, "mask 2 from 2019-08-22T12:00:00Z to open")
    rows = life("history", "--format", "json").ended_with(0).json
    closed = [(row["mask_id"], row["closed"]["action"]) for row in rows if row["closed"] is not None]
    assert (int(mask_id), "decertify") in closed


def test_dates_do_not_go_back_to_a_revoked_mask(life: Hotpix) -> None:
    mask_id = str(build(life, "2018-08-22", seed=1))
    life("revoke", "1", *WHY).ended_with(0)
    done = life("decertify", mask_id, "--restore-previous", *WHY).ended_with(0)
    assert done.out == (
        f"Mask {mask_id} holds no dates any more.\n"
        f"  from 2017-07-18T12:00:00Z to 2019-08-22T12:00:00Z: no mask instead of mask {mask_id}\n"
        "  from 2017-07-18T12:00:00Z to 2019-08-22T12:00:00Z: "
        "not given back to mask 1, which is revoked: no mask answers\n"
    )
    life(*MASK, "--date", "2018-10-01").refused(3)


def test_dates_do_not_go_back_to_a_mask_that_lost_its_own_meanwhile(life: Hotpix) -> None:
    mask_id = str(build(life, "2019-03-04", certify=False))
    life("certify", mask_id).ended_with(0)  # from mask 1
    life("certify", mask_id, "--valid-from", "2019-03-04", "--valid-to", "2020-03-01", "--supersede")
    life("decertify", "1", *WHY).ended_with(0)
    told = life("decertify", mask_id, "--restore-previous", *WHY, "--format", "json").ended_with(0).json
    first, second, end = (f"{day}T12:00:00Z" for day in ("2019-03-04", "2019-08-22", "2020-03-01"))
    assert told == {
        "mask_id": int(mask_id),
        "changes": [
            {"valid_from": first, "valid_to": second, "before": int(mask_id), "after": None},
            {"valid_from": second, "valid_to": end, "before": int(mask_id), "after": 2},
        ],
        "withheld": [{"valid_from": first, "valid_to": second, "mask_id": 1, "status": "decertified"}],
    }
    life(*MASK, "--date", "2019-04-01").refused(3)
    assert answer(life, "2019-09-01") == 2


# --- events ------------------------------------------------------------------------------------------


def test_an_event_in_the_past_lists_what_it_cuts_and_is_refused_without_trim(life: Hotpix) -> None:
    add = ("event", "add", "--camera", "aspen", "--kind", "warmup", "--date")
    before = contents(life)
    life(*add, "2019-02-10").refused(1, "lies within the dates of mask 1", "--trim")
    assert contents(life) == before
    done = life(*add, "2019-02-10", "--trim").ended_with(0, "certify ID")
    assert "from 2019-02-10T12:00:00Z to 2019-08-22T12:00:00Z: no mask instead of mask 1" in done.out
    life(*add, "2019-02-10", "--trim").refused(1, "has event 1 (warmup)")
    life(*MASK, "--date", "2019-03-01").refused(3, "--fallback nearest")
    nearest = life(*MASK, "--date", "2019-02-11", "--fallback", "nearest").ended_with(0)
    assert nearest.json["mask_id"] == 2  # mask 1 is nearer, beyond the event
    life("certify", "2").ended_with(0)
    assert answer(life, "2019-03-01") == 2
    life("event", "remove", "1", "--camera", "birch", *WHY).refused(2, "birch has no event 1")
    life("event", "remove", "1", "--camera", "aspen", *WHY).ended_with(0)
    assert answer(life, "2019-02-09") == 1


# --- as it was ---------------------------------------------------------------------------------------


def test_an_earlier_answer_can_be_had_again_whatever_came_since(life: Hotpix) -> None:
    first = life(*MASK, "--date", "2018-10-01").ended_with(0).json
    life("release", "create", "2019A", "--note", "spring").ended_with(0)
    build(life, "2018-08-22", seed=1)
    life("revoke", "1", "--reason", "light leak").ended_with(0)
    for again in (
        ("mask", "--format", "json", "--receipt", first["receipt"]),
        (*MASK, "--date", "2018-10-01", "--release", "2019A"),
        (*MASK, "--date", "2018-10-01", "--as-of", str(first["tx"])),
    ):
        replayed = life(*again).ended_with(0, "has been revoked since").json
        assert (replayed["mask_id"], replayed["sha256"]) == (1, first["sha256"])
        assert replayed["revoked_since"] is not None
    assert answer(life, "2018-10-01") == 4
    (listed,) = life("release", "list", "--format", "json").ended_with(0).json
    assert (listed["name"], listed["note"]) == ("2019A", "spring")


def test_an_answer_explains_itself(life: Hotpix) -> None:
    done = life(*MASK, "--date", "2018-10-01", "--explain").ended_with(0)
    chosen, other = done.json["explanation"]
    assert (chosen["mask_id"], chosen["chosen"], chosen["passed"]) == (1, True, True)
    assert (other["mask_id"], other["passed"]) == (2, False)
    text = life("mask", "--camera", "aspen", "--date", "2018-10-01", "--explain").ended_with(0)
    assert "mask 1, version 1, of aspen at -10 °C, bin 1x1: chosen" in text.err
    assert "NO  date" in text.err


def test_a_miss_explains_itself(life: Hotpix) -> None:
    done = life(*MASK, "--date", "2010-01-01", "--explain").ended_with(3)
    told = json.loads(done.out)
    assert told["error"]["code"] == "no-mask"
    assert told["explanation"][0]["mask_id"] == 1
    wrong = life("mask", "--camera", "aspen", "--date", "2018-10-01", "--temperature", "-30", "--explain")
    wrong.ended_with(3, "NO  temperature", "wanted -30 °C (within 1 °C), found -10 °C")
    life("revoke", "1", *WHY).ended_with(0)
    revoked = life(*MASK, "--date", "2018-10-01", "--explain").ended_with(4).json
    assert revoked["error"]["code"] == "revoked-mask"


# --- what is mistyped --------------------------------------------------------------------------------

DAMAGED = "hp:00000000/1/1/0123456789ab?c=aspen&d=yesterday"
FOREIGN = "hp:00000000/1/1/0123456789ab?c=aspen&d=20181001"


MISTYPED = [
    ("certify 1 --valid-from yesterday", 2, "'yesterday' is not a date"),
    ("certify 1 --valid-from 2018-08-22T04:00:00", 2, "add Z"),
    ("certify 1 --valid-from 2019-01-01 --valid-to 2018-01-01", 2, "ends before it begins"),
    ("certify 1 --valid-from 2018-01-01 --valid-to 2018-01-01", 2, "ends before it begins"),
    ("certify 99", 2, "no mask 99"),
    ("certify 99999999999999999999", 2, "no mask 99999999999999999999"),
    ("certify 3 --camera aspen", 2, "Mask 3 is of camera birch, not of aspen"),
    ("certify 1 --camera aspne", 2, "Did you mean aspen?"),
    ("certify 1 --expect 0", 2, "no transaction 0"),
    ("certify 1 --expect 7777", 2, "no transaction 7777"),
    ("revoke 99 --reason x", 2, "no mask 99"),
    ("revoke 3 --camera aspen --reason x", 2, "Mask 3 is of camera birch, not of aspen"),
    ("revoke 3 --undo --camera aspen --reason x", 2, "Mask 3 is of camera birch, not of aspen"),
    ("decertify 99 --reason x", 2, "no mask 99"),
    ("decertify 3 --camera aspen --reason x", 2, "Mask 3 is of camera birch, not of aspen"),
    ("decertify 1 --expect 7777 --reason x", 2, "no transaction 7777"),
    ("event add --camera aspne --date 2019-01-01 --kind warmup", 2, "Did you mean aspen?"),
    ("event add --camera aspen --date 2019-02-30 --kind warmup", 2, "cannot be read as a date"),
    ("event remove 9 --camera aspen --reason x", 2, "aspen has no event 9"),
    ("release create 2019A", 2, "There is a release 2019A already"),
    ("release create 12", 2, "'12' is no name for a release"),
    ("release create old --as-of 1990-01-01", 2, "Nothing had been written"),
    ("release create new --as-of 7777", 2, "no transaction 7777"),
    ("mask --camera aspen --date 2018-10-01 --release 2019B", 2, "Did you mean 2019A?"),
    ("mask --camera aspen --date 2018-10-01 --release 2019A --as-of 1", 2, "Give one of them"),
    ("mask --camera aspen --date 2018-10-01 --as-of 7777", 2, "no transaction 7777"),
    ("mask --camera aspen --date 2018-10-01 --as-of whenever", 2, "'whenever' is not a date"),
    ("mask --camera aspen --date 2018-10-01 --as-of 1990-01-01", 2, "not registered yet"),
    ("mask --receipt hp:nonsense", 2, "is no receipt"),
    (f"mask --receipt {DAMAGED}", 2, "is damaged"),
    (f"mask --receipt {FOREIGN}", 2, "The receipt is of registry 00000000, and this is"),
    ("mask --receipt hp:nonsense --camera aspen", 2, "says everything itself"),
    ("history 99", 2, "no mask 99"),
    ("history --camera aspne", 2, "Did you mean aspen?"),
]


def test_what_is_mistyped_is_one_sentence_and_changes_nothing(named: Hotpix) -> None:
    before = contents(named)
    for command, code, words in MISTYPED:
        named(*command.split()).refused(code, words)
        assert contents(named) == before, command


@pytest.fixture
def named(life: Hotpix) -> Hotpix:
    """The same with a release 2019A."""
    with life.opened() as registry:
        registry.create_release("2019A")
    return life


def test_a_receipt_that_was_tampered_with_is_found_out(life: Hotpix) -> None:
    receipt = life(*MASK, "--date", "2018-10-01").ended_with(0).json["receipt"]
    registry, tx, mask_id, rest = receipt.split("/")
    before = contents(life)
    for changed, code in (
        (f"{registry}/{tx}/2/{rest}", 5),
        (f"{registry}/{tx}/{mask_id}/{'0' * 12}{rest[12:]}", 5),
        (f"{registry}/999/{mask_id}/{rest}", 2),
        (receipt.replace("d=2018", "d=2019"), 5),
        (receipt.replace("c=aspen", "c=aspne"), 2),
    ):
        life("mask", "--receipt", changed).refused(code)
    assert contents(life) == before
