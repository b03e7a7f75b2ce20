"""The facade on access: tokens for who writes over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import TokenRow
from hotpix_registry.domain import Scope
from hotpix_registry.errors import Forbidden, NotAdmitted, UnknownId, UsageError
from hotpix_registry.instants import iso, parse_date, to_us
from hotpix_registry.registry.facade.opened import Opened, now_us

_SECRET_BYTES = 32
_PREFIX = "hp_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token: everything but its secret."""

    token_id: int
    name: str
    scopes: tuple[Scope, ...]
    created: str
    created_by: str
    expires: str | None
    status: str
    """valid, expired or revoked"""
    revoked: str | None
    revoked_by: str | None
    reason: str | None
    """why it was revoked"""

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {
            "scopes": list(map(str, self.scopes))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token with its secret, which is seen this once."""

    token: Token
    secret: str = field(repr=False)


class AccessMethods(Opened):
    """Access: make, list, revoke and know tokens."""

    def create_token(
        self, name: str, scopes: Sequence[Scope | str], *, expires: str | None = None
    ) -> NewToken:
        """Make a token with some scopes; its secret is in what is returned, and nowhere else.

        Parameters
        ----------
        expires
            from which moment on it is refused: an instant, or a date, whose end (UTC) it then is

        Raises
        ------
        UsageError
            No name, one that a valid token has, no such scope, or a moment that has passed.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name.isdecimal():
            raise UsageError(
                f"'{name}' is no name for a token.", next_step="Use letters, digits, '-', '_' and '.'."
            )
        wanted = _scopes(scopes)
        expires_us = None if expires is None else _moment(expires)
        if expires_us is not None and expires_us <= now_us():
            raise UsageError(f"A token that expires at {expires} is expired.", next_step="Name a later date.")
        secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        with self._writing("create token", to=self._of_tokens(wanted)) as (connection, tx):
            if any(row.revoked_us is None for row in queries.tokens(connection, name=name)):
                raise UsageError(
                    f"There is a token {name} already.",
                    next_step=f"Choose another name, or `hotpix-registry token revoke {name} --reason …`.",
                )
            queries.add_token(connection, name, _digest(secret), wanted, expires_us, tx)
            (row,) = queries.tokens(connection, sha256=_digest(secret))
        return NewToken(token=_token(row), secret=secret)

    def tokens(self) -> list[Token]:
        """All tokens that were ever made, oldest first."""
        return list(map(_token, self._token_rows()))

    def revoke_token(self, name_or_id: str, *, reason: str) -> Token:
        """Refuse a token from now on, for ever.

        Raises
        ------
        UnknownId
            There is no such token, or it is revoked already.
        """
        unknown = UnknownId(
            f"There is no token {name_or_id} that could be revoked.",
            next_step="`hotpix-registry token list` lists them.",
        )
        if (kept := self._of_tokens()) is None:
            raise unknown
        with self._writing("revoke token", reason, to=kept) as (connection, tx):
            found = [
                row
                for row in queries.tokens(connection)
                if row.revoked_us is None and name_or_id in (row.name, str(row.id))
            ]
            if not found:
                raise unknown
            queries.close_token(connection, found[0].id, tx)
            return next(_token(row) for row in queries.tokens(connection) if row.id == found[0].id)

    def admit(self, secret: str, scope: Scope) -> Token:
        """The token with this secret, if it may be used for what needs a scope.

        Raises
        ------
        NotAdmitted
            It is unknown, expired or revoked.
        Forbidden
            It has other scopes.
        """
        sha256 = _digest(secret)
        # the look-up is by digest, so that how long it takes tells nothing of a secret
        rows = [row for row in self._token_rows(sha256=sha256) if _same(row.sha256, sha256)]
        if not rows:
            raise NotAdmitted("This token is not known here.", next_step="Ask the registry's keeper for one.")
        token = _token(rows[0])
        if token.status != "valid":
            raise NotAdmitted(
                f"The token {token.name} is {token.status} (since {token.revoked or token.expires}).",
                next_step="Ask the registry's keeper for another.",
            )
        if not token.allows(scope):
            raise Forbidden(
                f"This needs the scope {scope}, and the token {token.name} has {', '.join(token.scopes)}.",
                next_step="Ask the registry's keeper for another token.",
            )
        return token

    def _token_rows(self, *, sha256: str | None = None) -> list[TokenRow]:
        if (kept := self._of_tokens()) is None:
            return []
        with reading(kept) as connection:
            return queries.tokens(connection, sha256=sha256)

    def _of_tokens(self, made_for: Sequence[Scope] = ()) -> Engine | None:
        """The database that holds them; None where a mirror has none, and none is made.

        Raises
        ------
        UsageError
            One that is made for a mirror allows more than to read.
        """
        if not self._is_mirror:
            return self._engine
        if set(made_for) - {Scope.READ}:
            raise UsageError(
                f"{self} is a mirror, whose tokens may read and nothing else.",
                next_step="Say --scope read alone, or make the token at the source.",
            )
        if self._own_tokens is None:
            from hotpix_registry.registry import own_tokens

            database = Path(str(self._engine.url.database))
            self._own_tokens = own_tokens.opened(database, create=bool(made_for))
        return self._own_tokens


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a, b)


def _scopes(scopes: Sequence[Scope | str]) -> list[Scope]:
    try:
        wanted = {Scope(scope) for scope in scopes}
    except ValueError as error:
        raise UsageError(f"{error}.", next_step=f"Scopes are {', '.join(Scope)}.") from None
    if not wanted:
        raise UsageError(
            "A token without a scope opens nothing.", next_step=f"Scopes are {', '.join(Scope)}."
        )
    return [scope for scope in Scope if scope in wanted]


def _moment(text: str) -> int:
    try:
        parsed = parse_date(text)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if isinstance(parsed, date):
        return to_us(datetime.fromisoformat(f"{parsed}T00:00:00+00:00") + timedelta(days=1))
    return parsed


def _token(row: TokenRow) -> Token:
    expired = row.expires_us is not None and row.expires_us <= now_us()
    return Token(
        token_id=row.id,
        name=row.name,
        scopes=tuple(map(Scope, row.scopes)),
        created=iso(row.created_us) or "",
        created_by=row.created_by,
        expires=iso(row.expires_us),
        status="revoked" if row.revoked_us is not None else "expired" if expired else "valid",
        revoked=iso(row.revoked_us),
        revoked_by=row.revoked_by,
        reason=row.reason,
    )
