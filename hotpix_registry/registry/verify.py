"""Whether everything is as it was written: digests, promises, frames on disk, cached files; and mending."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hotpix_registry import planning
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import checking, copying, failures, opening, queries
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.failures import RESTORE
from hotpix_registry.catalogue.queries import Act
from hotpix_registry.domain import Defect, Recipe, Rule, digest
from hotpix_registry.errors import (
    HotpixError,
    IntegrityError,
    NoObject,
    ObjectsUnavailable,
    UnreadableFrame,
    UsageError,
)
from hotpix_registry.files import cache_folder
from hotpix_registry.fits.packing import PackedMask, unpack, unpack_dq
from hotpix_registry.places import marks, store_of
from hotpix_registry.registry import compute, content, masks, portability
from hotpix_registry.registry.ingest import sha256_of

Progress = Callable[[str, int, int], None]


@dataclass(slots=True, kw_only=True)
class Finding:
    """One thing that is amiss: what, where, and what to do."""

    kind: str
    """schema, promise, mask, profile, series, frame, location, store or cache"""
    where: str
    problem: str
    cure: str
    fixed: bool = False
    about: int = field(default=0, repr=False)
    """the id of what is meant"""

    def as_dict(self) -> dict[str, Any]:
        told = dataclasses.asdict(self)
        del told["about"]
        return told


@dataclass(slots=True)
class Verification:
    """What was looked at, and what is amiss."""

    registry: str
    checked: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def amiss(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.fixed]

    def as_dict(self) -> dict[str, Any]:
        return {
            "registry": self.registry,
            "clean": not self.amiss,
            "checked": dict(self.checked),
            "findings": [finding.as_dict() for finding in self.findings],
        }


def verify(
    engine: Engine, *, frames: bool | None = None, quick: bool = False, progress: Progress | None = None
) -> Verification:
    """Check everything again.

    Parameters
    ----------
    frames
        whether to look at the frames on disk; None does unless this is an export or a mirror, which are made
        to be used without them
    quick
        compare sizes and times of frames only, and read none
    """
    found = Verification(failures.describe(engine))
    found.findings += [
        Finding(kind="schema", where="the schema", problem=text, cure=RESTORE)
        for text in opening.check(engine)
    ]
    with reading(engine) as connection:
        marked = databases.copy_mark(connection) != databases.REGISTRY
        for check in (_promises, _masks, _profiles, _series, _headers):
            found.findings += _surviving(check, connection, found.checked, progress)
        if frames or (frames is None and not marked):
            found.findings += _frames(connection, found.checked, quick, progress)
        ours = {row.sha256 for row in queries.masks(connection)}
    found.findings += _cache(ours, found.checked)
    return found


Check = Callable[[Connection, Counter[str], Progress | None], Iterator[Finding]]


def _surviving(
    check: Check, connection: Connection, checked: Counter[str], progress: Progress | None
) -> list[Finding]:
    """The findings of a check, also when it meets pages that cannot be read at all."""
    found: list[Finding] = []
    try:
        found.extend(check(connection, checked, progress))
    except (sa.exc.DatabaseError, ValueError, TypeError, KeyError) as error:
        # damaged pages give rows of anything; a server that went away is no damage
        if isinstance(error, sa.exc.DatabaseError) and connection.dialect.name != "sqlite":
            raise
        text = str(getattr(error, "orig", error))
        problem = f"it cannot be read: {text}"
        found.append(Finding(kind="promise", where="the file", problem=problem, cure=RESTORE))
    return found


def _promises(connection: Connection, checked: Counter[str], _: Progress | None) -> Iterator[Finding]:
    checked["rows"] += sum(copying.counts(connection).values())
    for where, problem in checking.broken_promises(connection):
        yield Finding(kind="promise", where=where, problem=problem, cure=RESTORE)


def _masks(connection: Connection, checked: Counter[str], progress: Progress | None) -> Iterator[Finding]:
    ids = [row.id for row in queries.masks(connection)]
    for number, mask_id in enumerate(ids, 1):
        if progress is not None:
            progress("Masks", number, len(ids))
        checked["masks"] += 1
        if problem := _mask_problem(connection, mask_id):
            yield Finding(
                kind="mask",
                where=f"mask {mask_id}",
                problem=problem,
                cure="`hotpix-registry verify --fix` makes it again from its darks, or with --from BACKUP.",
                about=mask_id,
            )
        elif problem := _numbers_problem(connection, mask_id):
            yield Finding(kind="numbers", where=f"mask {mask_id}", problem=problem, cure=RESTORE)


def _mask_problem(connection: Connection, mask_id: int) -> str | None:
    row = masks.find_mask(connection, mask_id)
    encoding, blob, blob_sha256, sha256 = queries.mask_blob(connection, mask_id)
    try:
        unpack(encoding, blob, sha256=sha256)
        dq = unpack_dq(encoding, blob, blob_sha256=blob_sha256)
    except IntegrityError:
        return "its stored bytes do not have their digest"
    if dq.shape != (row.ny, row.nx) or int((dq & 1).sum()) != row.flagged:
        return f"its pixels are not the {row.nx} x {row.ny} with {row.flagged} masked that its row tells"
    return None


def _numbers_problem(connection: Connection, mask_id: int) -> str | None:
    try:
        content.numbers_in(queries.mask_numbers(connection, mask_id), mask_id)
    except IntegrityError:
        return "the numbers of its pictures cannot be read"
    return None


def _profiles(connection: Connection, checked: Counter[str], _: Progress | None) -> Iterator[Finding]:
    from hotpix_registry.fits.keywords import load_keyword_profile

    for row in copying.rows_where(connection, t.profiles):
        checked["profiles"] += 1
        body = row["body"]
        try:
            found = digest(body) if row["kind"] == "camera" else load_keyword_profile(body["toml"]).digest
        except (HotpixError, KeyError, TypeError):
            found = ""
        if found != row["digest"]:
            where = f"profile {row['id']} ({row['name']})"
            yield Finding(kind="profile", where=where, problem="it does not have its digest", cure=RESTORE)


def _series(connection: Connection, checked: Counter[str], _: Progress | None) -> Iterator[Finding]:
    for row in copying.rows_where(connection, t.series):
        checked["series"] += 1
        if digest(row["configuration"]) != row["configuration_digest"]:
            problem = "its configuration does not have its digest"
            yield Finding(kind="series", where=f"series {row['id']}", problem=problem, cure=RESTORE)


def _headers(connection: Connection, checked: Counter[str], _: Progress | None) -> Iterator[Finding]:
    for batch in copying.rows(connection, t.frames):
        for row in batch:
            checked["headers"] += 1
            try:
                zlib.decompress(row["header"]).decode()
            except (zlib.error, UnicodeDecodeError):
                problem = "its stored header cannot be read"
                yield Finding(kind="header", where=f"frame {row['id']}", problem=problem, cure=RESTORE)


# --- files ------------------------------------------------------------------------------


def _frames(
    connection: Connection, checked: Counter[str], quick: bool, progress: Progress | None
) -> Iterator[Finding]:
    """Where the frames should lie, and whether their bytes are there."""
    rows = queries.places(connection)
    problems: dict[int, list[tuple[int, str, str]]] = {}
    good: set[int] = set()
    silent: dict[str, HotpixError] = {}
    """by store what is wrong with it as a whole"""
    unseen: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        if progress is not None:
            progress("Frames", number, len(rows))
        store = store_of(row.path)
        if store not in silent:
            try:
                problem = _file_problem(row.path, row.size_bytes, row.mtime_ns, row.sha256, quick)
            except (ObjectsUnavailable, UsageError) as error:
                silent[store] = error
        if store in silent:
            unseen[store] += 1
        elif problem is None:
            good.add(row.frame_id)
        else:
            problems.setdefault(row.frame_id, []).append((row.location_id, row.path, problem))
    checked["frames"] += len(good | set(problems))
    for store, why in silent.items():
        problem = f"its {unseen[store]} frames could not be looked at: {why.message.removesuffix('.')}"
        yield Finding(kind="store", where=store, problem=problem, cure=why.next_step)
    for frame_id, listed in problems.items():
        for location_id, path, problem in listed:
            if frame_id in good:
                cure = "It is whole elsewhere; `hotpix-registry verify --fix` forgets this place."
                yield Finding(kind="location", where=path, problem=problem, cure=cure, about=location_id)
            else:
                cure = "Bring it back, ingest it where it is now, or `hotpix-registry relocate OLD NEW`."
                yield Finding(kind="frame", where=f"frame {frame_id}, {path}", problem=problem, cure=cure)


def _file_problem(path: str, size_bytes: int, mtime_ns: int, sha256: str, quick: bool) -> str | None:
    try:
        now = marks(path)
        if now.size_bytes != size_bytes:
            return f"the file has {now.size_bytes} bytes, and had {size_bytes} at its ingest"
        if quick:
            return None if now.mtime_ns == mtime_ns else "the file was written to since its ingest"
        return None if sha256_of(path) == sha256 else "the file's bytes have changed since its ingest"
    except (FileNotFoundError, NotADirectoryError, NoObject):
        return "the file is gone"
    except UnreadableFrame as error:
        return error.message[:1].lower() + error.message[1:].removesuffix(".")
    except OSError as error:
        return f"the file cannot be read: {(error.strerror or str(error)).lower()}"


def _cache(ours: set[str], checked: Counter[str]) -> Iterator[Finding]:
    for path in sorted(cache_folder().glob("[0-9a-f][0-9a-f]/*.fits")):
        if re.fullmatch(r"[0-9a-f]{64}", path.stem) is None:
            continue
        checked["cached files"] += 1
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = ""
        if found != path.stem:
            again = " and makes it again" if path.stem in ours else ""
            yield Finding(
                kind="cache",
                where=str(path),
                problem="the cached file does not have its digest",
                cure=f"`hotpix-registry verify --fix` deletes it{again}.",
            )


# --- what can be mended -----------------------------------------------------------------


def fix(engine: Engine, found: Verification, act: Act, *, now_us: int, backup: Path | None = None) -> None:
    """Mend what can be made again with the very digest on record; what cannot stays a finding.

    Raises
    ------
    UsageError
        This is an export or a mirror: writing would make another registry of it.
    SchemaError
        The backup is no registry of this schema.
    """
    with reading(engine) as connection:
        mark = databases.copy_mark(connection)
        if mark == databases.MIRROR:
            raise UsageError(
                f"{failures.describe(engine)} is a mirror, which is not repaired.",
                next_step="Sync into a new file, and use that.",
            )
        if mark != databases.REGISTRY:
            raise UsageError(
                f"{failures.describe(engine)} is an export, which is not repaired.",
                next_step="Export it anew from its registry.",
            )
    for finding in found.amiss:
        match finding.kind:
            case "mask":
                _fix_mask(engine, finding, act, now_us, backup)
            case "location":
                with writing(engine) as connection:
                    tx = queries.open_transaction(
                        connection, act, "repair", now_us=now_us, reason=f"{finding.where}: {finding.problem}"
                    )
                    queries.close_locations(connection, [finding.about], tx)
                finding.fixed = True
            case "cache":
                _fix_cached(engine, finding)


def _fix_cached(engine: Engine, finding: Finding) -> None:
    path = Path(finding.where)
    try:
        path.unlink()
    except OSError as error:
        finding.cure = f"It cannot be deleted ({(error.strerror or '').lower()}); delete it yourself."
        return
    finding.fixed = True
    with reading(engine) as connection:
        mask_id = next((row.id for row in queries.masks(connection) if row.sha256 == path.stem), None)
    if mask_id is not None:
        try:
            content.path(engine, mask_id, "default")
        except IntegrityError as error:  # its mask is damaged too, which is a finding of its own
            finding.cure = str(error)


def _fix_mask(engine: Engine, finding: Finding, act: Act, now_us: int, backup: Path | None) -> None:
    mask_id = finding.about
    with reading(engine) as connection:
        sha256 = masks.find_mask(connection, mask_id).sha256
    packed, why_not = None, []
    if backup is not None:
        packed = _from_backup(backup, sha256)
        if packed is None:
            why_not.append(f"{backup} holds no whole copy of it")
    if packed is None:
        packed, reason = _rebuilt(engine, mask_id)
        why_not.append(reason)
    if packed is None or packed.sha256 != sha256:
        finding.cure = f"It could not be made again: {'; '.join(filter(None, why_not))}. {RESTORE}"
        return
    with writing(engine) as connection:
        reason = f"mask {mask_id}: its bytes were damaged, and are again those of sha256 {sha256}"
        queries.open_transaction(connection, act, "repair", now_us=now_us, reason=reason)
        checking.restore_bytes(
            connection,
            mask_id,
            encoding=packed.encoding,
            blob=packed.blob,
            blob_sha256=packed.blob_sha256,
        )
    with reading(engine) as connection:
        finding.fixed = _mask_problem(connection, mask_id) is None


def _from_backup(backup: Path, sha256: str) -> PackedMask | None:
    with portability.source_registry(backup) as source, reading(source) as connection:
        found = next((row.id for row in queries.masks(connection) if row.sha256 == sha256), None)
        if found is None:
            return None
        encoding, blob, blob_sha256, _ = queries.mask_blob(connection, found)
    packed = PackedMask(encoding=encoding, blob=blob, blob_sha256=blob_sha256, sha256=sha256)
    try:
        unpack(packed.encoding, packed.blob, sha256=sha256)
    except IntegrityError:
        return None
    return packed if hashlib.sha256(packed.blob).hexdigest() == packed.blob_sha256 else None


def _rebuilt(engine: Engine, mask_id: int) -> tuple[PackedMask | None, str]:
    """The mask built again from its own inputs under its own profile; or why that cannot be."""
    with reading(engine) as connection:
        row = masks.find_mask(connection, mask_id)
        details = queries.mask_details(connection, mask_id)
        if row.rule in (Rule.IMPORT, Rule.EDIT, Rule.PERSIST):
            return None, f"a mask by rule {row.rule} is not made from darks"
        roles = queries.mask_inputs(connection, mask_id)
        frames = queries.frames(connection, ids=[frame_id for frame_id, _ in roles])
        series = queries.series(connection)
        defects = _defects_then(connection, row.series_id, row.created_tx)
    recipe = Recipe(**details["recipe"] | {"rule": Rule(details["recipe"]["rule"])})
    # what took part then takes part again, whatever was decided about it since
    inputs = [dataclasses.replace(frame, twin_of=None, excluded=None) for frame in frames]
    try:
        profile = CameraProfile.from_dict(details["profile"])
        campaigns, _ = planning.plan(inputs, series, profile)
        for campaign in campaigns:
            ingredients = compute.gather(campaign, profile, recipe, defects)
            if ingredients.build_key == row.build_key:
                packed = compute.compute(ingredients).packed
                return packed, "" if packed.sha256 == row.sha256 else "the build gives another file now"
    except HotpixError as error:
        return None, error.message.rstrip(".")
    return None, "its frames, profile or algorithm are no longer read as they were"


def _defects_then(connection: Connection, series_id: int, tx: int) -> list[Defect]:
    """The camera's static list as it stood at a transaction."""
    (series,) = copying.rows_where(connection, t.series, id=series_id)
    names = ("x0", "y0", "width", "height", "reason", "first_night", "last_night")
    return [
        Defect(**{name: row[name] for name in names}, defect_id=row["id"])
        for row in copying.rows_where(connection, t.defects, camera_id=series["camera_id"])
        if row["opened_tx"] <= tx and (row["closed_tx"] is None or row["closed_tx"] > tx)
    ]
