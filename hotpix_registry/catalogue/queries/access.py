"""Statements about who may do what over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import close, insert_id


class TokenRow(NamedTuple):
    """A token without its secret, which is stored nowhere."""

    id: int
    name: str
    sha256: str
    """of the secret"""
    scopes: tuple[str, ...]
    expires_us: int | None
    created_us: int
    created_by: str
    revoked_us: int | None
    revoked_by: str | None
    reason: str | None
    """why it was revoked"""


def tokens(connection: Connection, *, sha256: str | None = None, name: str | None = None) -> list[TokenRow]:
    """Tokens in the order in which they were made, revoked ones included; of a digest, or of a name."""
    c = t.tokens.c
    made, ended = t.transactions.alias("made"), t.transactions.alias("ended")
    statement = (
        sa.select(
            c.id,
            c.name,
            c.sha256,
            c.scopes,
            c.expires_us,
            made.c.at_us,
            made.c.actor,
            ended.c.at_us.label("revoked_us"),
            ended.c.actor.label("revoked_by"),
            ended.c.reason,
        )
        .join_from(t.tokens, made, made.c.tx == c.opened_tx)
        .outerjoin(ended, ended.c.tx == c.closed_tx)
        .order_by(c.id)
    )
    if sha256 is not None:
        statement = statement.where(c.sha256 == sha256)
    if name is not None:
        statement = statement.where(c.name == name)
    return [TokenRow._make(row)._replace(scopes=tuple(row.scopes)) for row in connection.execute(statement)]


def add_token(
    connection: Connection, name: str, sha256: str, scopes: Sequence[str], expires_us: int | None, tx: int
) -> int:
    values: dict[str, Any] = {
        "name": name,
        "sha256": sha256,
        "scopes": list(scopes),
        "expires_us": expires_us,
    }
    return insert_id(connection, t.tokens, **values, opened_tx=tx)


def close_token(connection: Connection, token_id: int, tx: int) -> None:
    close(connection, t.tokens, tx, t.tokens.c.id == token_id)
