"""One class per thing a user can do wrong: code, exit code, HTTP status, next step.

Bugs never derive from `HotpixError`: they keep their traceback.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

_PASSWORD = re.compile(r"(:/{1,2}[^\s/:@']*:)[^\s/]*@")
"""of a URL, also where one was taken for a path"""


class HotpixError(Exception):
    """Something a user, a file or a machine did wrong; one sentence, and what to do next.

    Whatever it quotes, a password in a URL is left out.
    """

    code: ClassVar[str] = "failure"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, next_step: str = "") -> None:
        self.message = _PASSWORD.sub(r"\1***@", message)
        super().__init__(self.message)
        self.next_step = next_step
        self.retry_after_s: int | None = None
        """when the same request may succeed"""
        self.explanation: tuple[Any, ...] = ()
        """for a look-up: each candidate, and by which criteria it was weighed"""

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()

    def as_dict(self) -> dict[str, Any]:
        """The error as scripts read it: code, sentence, next step, and the explanation of a miss."""
        told: dict[str, Any] = {
            "error": {"code": self.code, "message": self.message, "next_step": self.next_step}
        }
        if self.explanation:
            told["explanation"] = [weighed.as_dict() for weighed in self.explanation]
        return told


class UsageError(HotpixError, ValueError):
    """A command, an option or a value that cannot be understood."""

    code, exit_code, http_status = "usage", 2, 422


class UnknownCamera(HotpixError, LookupError):
    code, exit_code, http_status = "unknown-camera", 2, 404


class UnknownId(HotpixError, LookupError):
    """A mask, frame or release that is not in this registry."""

    code, exit_code, http_status = "unknown-id", 2, 404


class NotAdmitted(HotpixError):
    """No token, or one that is unknown, expired or revoked."""

    code, exit_code, http_status = "unauthorized", 1, 401


class Forbidden(HotpixError):
    """A token without the scope, or a place that the service does not touch."""

    code, exit_code, http_status = "forbidden", 1, 403


class TooMany(HotpixError):
    """Wrong tokens, one after the other."""

    code, exit_code, http_status = "too-many-requests", 1, 429


class Busy(HotpixError):
    """The service has as much in work as it takes."""

    code, exit_code, http_status = "busy", 1, 503


class NoMask(HotpixError, LookupError):
    """No mask answers the question."""

    code, exit_code, http_status = "no-mask", 3, 404


class GeometryMismatch(NoMask):
    """A mask whose pixels cannot be laid over a frame's without guessing; `criteria` lists every part."""

    code, exit_code, http_status = "geometry", 3, 409

    def __init__(self, message: str, *, next_step: str = "", criteria: tuple[Any, ...] = ()) -> None:
        super().__init__(message, next_step=next_step)
        self.criteria = criteria


class AmbiguousMask(HotpixError, LookupError):
    """More than one mask answers, and the question does not decide between them."""

    code, exit_code, http_status = "ambiguous-mask", 4, 409


class RevokedMask(HotpixError, LookupError):
    """The mask that would answer has been declared unusable."""

    code, exit_code, http_status = "revoked-mask", 4, 410


class Conflict(HotpixError):
    """What is asked would undo what stands, or the registry has moved since it was looked at."""

    code, exit_code, http_status = "conflict", 1, 409


class NothingToBuild(HotpixError):
    """No darks that make a mask."""

    code, exit_code, http_status = "nothing-to-build", 1, 409


class UnreadableFrame(HotpixError):
    """A file that is no readable FITS image."""

    code, exit_code, http_status = "unreadable-frame", 1, 422


class NoObject(UnreadableFrame):
    """Nothing at a URL."""


class ObjectsUnavailable(HotpixError):
    """A store of objects that does not answer, or lets nobody in."""

    code, exit_code, http_status = "objects-unavailable", 7, 502


class FrameChanged(HotpixError):
    """A catalogued frame vanished or changed since its ingest."""

    code, exit_code, http_status = "frame-changed", 5, 409


class IntegrityError(HotpixError):
    """Stored bytes that no longer have their digest."""

    code, exit_code, http_status = "integrity", 5, 500


def damaged_row(what: str) -> IntegrityError:
    """The error for a row of the database that cannot be read as what it is."""
    return IntegrityError(
        f"The stored {what} is damaged.",
        next_step="`hotpix-registry verify` lists what else is, and what to do.",
    )


class SchemaError(HotpixError):
    """A database of another schema, or a file that is no registry."""

    code, exit_code, http_status = "schema", 6, 503


class NoRegistry(SchemaError):
    """Nothing yet where the registry should be."""


class DatabaseUnavailable(HotpixError):
    """A database that cannot be opened, read or written."""

    code, exit_code, http_status = "database-unavailable", 7, 503


class DatabaseAway(DatabaseUnavailable):
    """A database that does not answer for now: the same may succeed in a while."""


class ProfileError(HotpixError, ValueError):
    """A camera or keyword profile with a mistake in it."""

    code, exit_code, http_status = "profile", 2, 422


class StorageError(HotpixError, OSError):
    """A file or folder that cannot be written: full, read-only, or forbidden."""

    code, exit_code, http_status = "storage", 1, 507

    def __init__(self, message: str, *, next_step: str = "", reason: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason
        """why, without the place"""


class ServerUnreachable(HotpixError):
    """No registry answers at the address of a server."""

    code, exit_code, http_status = "server-unreachable", 7, 502


class CannotListen(HotpixError):
    """An address where the service cannot be offered: taken, forbidden, or none of this machine."""

    code, exit_code, http_status = "cannot-listen", 1, 500


class SchedulerUnreachable(HotpixError):
    """No dask scheduler answers at its address."""

    code, exit_code, http_status = "scheduler-unreachable", 7, 502


class UnfitWorkers(HotpixError):
    """Workers of a scheduler that have other versions, or do not see the files."""

    code, exit_code, http_status = "unfit-workers", 1, 500


class WorkerLost(HotpixError):
    """A task that ended its worker, time and again."""

    code, exit_code, http_status = "worker-lost", 1, 500


class SomeRefused(HotpixError):
    """Some inputs were refused; the rest was done."""

    code, exit_code, http_status = "some-refused", 8, 207


def error_named(code: str, message: str, *, next_step: str = "", exit_code: int = 1) -> HotpixError:
    """The error that a server tells by its code; one that is not known here keeps code and exit code."""
    waiting: list[type[HotpixError]] = [HotpixError]
    for known in waiting:
        if known.code == code:
            return known(message, next_step=next_step)
        waiting += known.__subclasses__()
    error = HotpixError(message, next_step=next_step)
    error.code, error.exit_code = code, exit_code  # type: ignore[misc]
    return error
