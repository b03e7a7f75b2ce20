"""Tokens from the command line, and the addresses at which a service may listen."""

from __future__ import annotations

import pytest

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening
from hotpix_registry.registry import Registry
from tests.cli.conftest import Hotpix


@pytest.fixture
def kept(registry: Registry, hotpix: Hotpix, database: str) -> Hotpix:
    """The command line on an empty registry."""
    return hotpix.on(database)


def test_a_token_is_shown_once_and_then_known_by_its_name(kept: Hotpix) -> None:
    done = kept("token", "create", "anna", "--scope", "build", "--scope", "read", "--expires", "2999-12-31")
    done.ended_with(0, "Token anna may read, build, until 3000-01-01T00:00:00", "not shown again")
    secret = done.out.strip()
    assert len(secret) == 3 + 43
    assert secret.startswith("hp_")
    listed = kept("token", "list").ended_with(0)
    assert "read, build" in listed.out
    assert secret not in listed.out + kept("token", "list", "--format", "json").out
    assert kept("token", "revoke", "anna", "--reason", "left").out == "Token anna is revoked.\n"
    (row,) = kept("token", "list", "--format", "json").json
    assert (row["status"], row["reason"]) == ("revoked", "left")
    did = [row["did"] for row in kept("log", "--format", "json").json]
    assert did == [["created token anna"], ["revoked token anna"]]
    assert kept("token", "create", "ben", "--scope", "admin", "--format", "json").json["token"] != secret


def test_what_is_wrong_with_a_token_is_said_in_a_sentence(kept: Hotpix) -> None:
    kept("token", "create", "anna", "--scope", "read").ended_with(0)
    kept("token", "create", "anna", "--scope", "read").refused(2, "There is a token anna already.")
    kept("token", "create", "a b", "--scope", "read").refused(2, "no name for a token")
    kept("token", "create", "7", "--scope", "read").refused(2, "no name for a token")
    kept("token", "create", "old", "--scope", "read", "--expires", "2020-01-01").refused(2, "is expired")
    kept("token", "create", "old", "--scope", "read", "--expires", "soon").refused(2, "is not a date")
    kept("token", "create", "x", "--scope", "root").ended_with(2, "root")
    kept("token", "revoke", "nobody", "--reason", "x").refused(2, "There is no token nobody")


def test_an_address_that_others_reach_needs_a_token_or_the_word(kept: Hotpix) -> None:
    public = ("serve", "--host", "0.0.0.0", "--port", "0")
    kept(*public).refused(2, "anyone could read", "--read-needs-token", "--allow-public")
    kept(*public, "--read-needs-token").refused(2, "there is no token to ask them for")
    kept("token", "create", "anna", "--scope", "read").ended_with(0)
    kept(*public).refused(2, "anyone could read")
    kept("token", "revoke", "anna", "--reason", "x").ended_with(0)
    kept(*public, "--read-needs-token").refused(2, "there is no token to ask them for")


def test_an_older_schema_is_not_served(hotpix: Hotpix) -> None:
    engine = databases.connect(databases.parse_url(str(hotpix.database)))
    opening.upgrade(engine, to="20261125_0003")
    engine.dispose()
    hotpix("serve").refused(6, "has the older schema 20261125_0003", "hotpix-registry db upgrade")
