"""Routes that write: frames in, masks certified and revoked, epoch events, releases; by token alone."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from hotpix_registry.domain import Kind, Rule, Scope
from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.instants import iso
from hotpix_registry.registry import Registry, arrivals
from hotpix_registry.web.access import needs
from hotpix_registry.web.jobs import accepted
from hotpix_registry.web.masks import MaskId
from hotpix_registry.web.routes import Guarded
from hotpix_registry.web.state import TheService

router = APIRouter(prefix="/v1", tags=["writing"], route_class=Guarded)

MayIngest = Annotated[Registry, needs(Scope.INGEST)]
MayBuild = Annotated[Registry, needs(Scope.BUILD)]
MayCertify = Annotated[Registry, needs(Scope.CERTIFY)]
MayKeep = Annotated[Registry, needs(Scope.ADMIN)]

_CHUNK = 1 << 20
AT_ONCE = 16
"""files that are catalogued within a request"""
_KEEPABLE = r"^[^\x00]*$"
"""PostgreSQL keeps no zero in a text"""
Text = Annotated[str, Field(max_length=10_000, pattern=_KEEPABLE)]
Why = Annotated[
    str, Field(min_length=1, max_length=10_000, pattern=_KEEPABLE, description="It is kept with the act.")
]
AnyWhy = Annotated[
    str | None, Field(max_length=10_000, pattern=_KEEPABLE, description="Why; it is kept with the act.")
]
CameraName = Annotated[str | None, Field(max_length=200)]
Transaction = Annotated[
    int | None,
    Field(ge=1, lt=2**31, description="Refuse when the series has moved since this transaction."),
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Certification(Body):
    """The options of `hotpix-registry certify`."""

    valid_from: Annotated[str | None, Field(max_length=100)] = None
    valid_to: Annotated[str | None, Field(max_length=100)] = None
    supersede: bool = Field(False, description="Take dates from other masks beyond what is ordinary.")
    force: bool = Field(False, description="Although a quality gate refused it; needs a reason.")
    expect: Transaction = None
    camera: CameraName = None
    reason: AnyWhy = None


class Revocation(Body):
    """The options of `hotpix-registry revoke`."""

    reason: Why
    undo: bool = Field(False, description="Take a revocation back.")
    expect: Transaction = None
    camera: CameraName = None


class Decertification(Body):
    """The options of `hotpix-registry decertify`."""

    reason: Why
    restore_previous: bool = Field(False, description="Give the dates back to the masks that held them.")
    expect: Transaction = None
    camera: CameraName = None


class NewEvent(Body):
    """The options of `hotpix-registry event add`."""

    date: Annotated[str, Field(max_length=100)]
    kind: Literal["anneal", "warmup", "repair", "controller", "swap"]
    note: Text = ""
    trim: bool = Field(False, description="Cut what masks hold across an event in the past.")


class NewRelease(Body):
    """The options of `hotpix-registry release create`."""

    name: Annotated[str, Field(max_length=64)]
    as_of: Annotated[str | int | None, Field(description="A time or a transaction.")] = None
    note: Text = ""


class NewBuild(Body):
    """The options of `hotpix-registry build`."""

    nights: Annotated[str | None, Field(max_length=100, description="2018-08-20..2018-08-25, or one.")] = None
    exposures: Annotated[list[float] | str | None, Field(max_length=1000, description="Only these, s.")] = (
        None
    )
    rule: Rule | None = Field(None, description="How measurements become flags; default by what there is.")
    limit: float | Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Consistency limit on the shorter exposure: auto, or e-/s."
    )
    cutoff: float | None = Field(None, ge=0, le=1e9, description="Cut-off for one exposure time, e-/s.")


RecipeName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=_KEEPABLE,
        description="current (as the old one), default, a rule, or a rule with its number: limit=4.",
    ),
]


class Recipes(Body):
    """The arguments of `hotpix-registry recipe diff`; no cameras are all of them."""

    old: RecipeName
    new: RecipeName
    cameras: list[Annotated[str, Field(min_length=1, max_length=200, pattern=_KEEPABLE)]] | None = Field(
        None, min_length=1, max_length=1000
    )
    nights: Annotated[str | None, Field(max_length=100, description="2018-08-20..2018-08-25, or one.")] = None


class NewRollout(Recipes):
    """The options of `hotpix-registry recipe rollout`."""

    expect: Transaction = None
    force: bool = Field(False, description="Certify also what quality gates refuse.")
    partial: bool = Field(False, description="Leave what cannot be built, or what gates refuse, as it is.")
    reason: Why


class NewRollback(Body):
    """The options of `hotpix-registry recipe rollback`."""

    tx: Annotated[int, Field(ge=1, lt=2**31, description="The rollout, as the log lists it.")]
    expect: Transaction = None
    reason: Why


class FramePaths(Body):
    """The options of `hotpix-registry ingest`; paths are the server's."""

    paths: list[Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]] = Field(
        min_length=1, max_length=10_000, description="Files, folders and globs, absolute."
    )
    recursive: bool = False
    camera: CameraName = None
    type: Kind | None = Field(None, description="What they are, where headers do not say.")
    ncombine: int | None = Field(
        None, ge=1, lt=2**31, description="Frames in each master, where headers do not say."
    )
    dry_run: bool = False


class Sent(BaseModel):
    """What is said of a file beside its bytes."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200, description="The file's name, such as dark_001.fits.")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="What its bytes must have; refused otherwise."
    )
    camera: CameraName = None
    type: Kind | None = None
    ncombine: int | None = Field(None, ge=1, lt=2**31)


# --- frames -----------------------------------------------------------------------------


@router.post(
    "/frames",
    summary="Catalogue frames that the server can read",
    response_model=None,
    responses={200: {"model": dict[str, Any]}},
)
def ingest(service: TheService, registry: MayIngest, body: FramePaths) -> dict[str, Any] | Response:
    """As `hotpix-registry ingest`; only below the folders that the service was started with.

    A few files are catalogued at once; more become a job (202).
    """
    settings = service.settings
    found = arrivals.found_below(settings.frames_roots, body.paths, recursive=body.recursive)
    if len(found) > AT_ONCE:
        request = body.model_dump(mode="json", exclude_defaults=True)
        return accepted(service, registry.queue_ingest(request, most_waiting=settings.most_jobs))
    report = registry.ingest(
        found, camera=body.camera, kind=body.type, n_combined=body.ncombine, dry_run=body.dry_run
    )
    return report.as_dict()


@router.post("/frames/upload", summary="Send a frame and catalogue it")
async def upload(
    request: Request, service: TheService, registry: MayIngest, sent: Annotated[Sent, Query()]
) -> dict[str, Any]:
    """The body is the file. It is kept under its digest if it is a dark, bias or master, else not at all."""
    arrivals.ending_of(sent.name)
    folder = service.uploads
    digest, waiting = hashlib.sha256(), bytearray()
    with arrivals.quarantined(folder) as (path, stream):

        def write(chunk: bytes) -> None:
            digest.update(chunk)
            stream.write(chunk)

        try:
            async for chunk in request.stream():
                waiting += chunk
                if len(waiting) >= _CHUNK:
                    await run_in_threadpool(write, bytes(waiting))
                    waiting.clear()
        except ClientDisconnect:
            raise UnreadableFrame("The file did not arrive whole.", next_step="Send it again.") from None
        await run_in_threadpool(write, bytes(waiting))
        sha256 = digest.hexdigest()
        if stream.tell() == 0:
            raise UnreadableFrame("Nothing was sent.", next_step="The body of the request is the file.")
        if sent.sha256 not in (None, sha256):
            raise UnreadableFrame(f"What arrived has the sha256 {sha256}.", next_step="Send it again.")
        report = await run_in_threadpool(
            registry.take_in,
            path,
            stream,
            folder,
            name=sent.name,
            sha256=sha256,
            camera=sent.camera,
            kind=sent.type,
            n_combined=sent.ncombine,
        )
    return report.as_dict() | {"sha256": sha256}


# --- builds -----------------------------------------------------------------------------


@router.post("/cameras/{camera}/build", status_code=202, summary="Build masks", response_class=Response)
def build(service: TheService, registry: MayBuild, camera: str, body: NewBuild | None = None) -> Response:
    """As `hotpix-registry build`, in a process of its own: the job tells how far it is and what came."""
    request = {} if body is None else body.model_dump(mode="json", exclude_defaults=True)
    return accepted(service, registry.queue_build(camera, request, most_waiting=service.settings.most_jobs))


# --- recipes ----------------------------------------------------------------------------


@router.post("/recipes/diff", status_code=202, summary="Compare recipes", response_class=Response)
def diff_recipes(service: TheService, registry: MayBuild, body: Recipes) -> Response:
    """As `hotpix-registry recipe diff`, by a job whose result is what would change; nothing is certified."""
    return _queued(service, registry, "compare", body)


@router.post("/recipes/rollout", status_code=202, summary="Roll a recipe out", response_class=Response)
def roll_out(service: TheService, registry: MayCertify, body: NewRollout) -> Response:
    """As `hotpix-registry recipe rollout`, by a job: all campaigns in one transaction, or none."""
    return _queued(service, registry, "rollout", body)


def _queued(service: TheService, registry: Registry, kind: str, body: Recipes) -> Response:
    request = body.model_dump(mode="json", exclude_defaults=True)
    return accepted(service, registry.queue_recipe(kind, request, most_waiting=service.settings.most_jobs))


@router.post("/recipes/rollback", summary="Go back behind a rollout")
def roll_back(registry: MayCertify, body: NewRollback) -> dict[str, Any]:
    """As `hotpix-registry recipe rollback`; answers which dates have their old masks again."""
    return registry.roll_back(body.tx, expect=body.expect, reason=body.reason).as_dict()


# --- masks ------------------------------------------------------------------------------


@router.post("/masks/{mask_id}/certify", summary="Let a mask answer for its dates")
def certify(registry: MayCertify, mask_id: MaskId, body: Certification | None = None) -> dict[str, Any]:
    """As `hotpix-registry certify`; answers which dates have another mask from now on."""
    changes = registry.certify(mask_id, **({} if body is None else body.model_dump()))
    return {"mask_id": mask_id, "changes": [change.as_dict() for change in changes]}


@router.post("/masks/{mask_id}/revoke", summary="Declare a mask unusable")
def revoke(registry: MayCertify, mask_id: MaskId, body: Revocation) -> dict[str, Any]:
    """As `hotpix-registry revoke`; answers which dates are an error from now on."""
    act = registry.lift_revocation if body.undo else registry.revoke
    held = act(mask_id, expect=body.expect, camera=body.camera, reason=body.reason)
    dates = [{"from": iso(validity.start_us), "to": iso(validity.end_us)} for validity in held]
    return {"mask_id": mask_id, "revoked": not body.undo, "dates": dates}


@router.post("/masks/{mask_id}/decertify", summary="Take all dates from a mask")
def decertify(registry: MayCertify, mask_id: MaskId, body: Decertification) -> dict[str, Any]:
    """As `hotpix-registry decertify`; the mask stays, and can be certified again."""
    return {"mask_id": mask_id} | registry.decertify(mask_id, **body.model_dump()).as_dict()


# --- cameras and releases ---------------------------------------------------------------


@router.post("/cameras/{camera}/events", status_code=201, summary="End an epoch of a camera")
def add_event(registry: MayCertify, camera: str, body: NewEvent) -> dict[str, Any]:
    """As `hotpix-registry event add`: no mask, campaign, borrowing or fallback crosses it from now on."""
    return registry.add_event(camera, body.date, body.kind, note=body.note, trim=body.trim).as_dict()


@router.post("/releases", status_code=201, summary="Freeze a state of the registry under a name")
def create_release(registry: MayKeep, body: NewRelease) -> dict[str, Any]:
    """As `hotpix-registry release create`; a release is never changed."""
    release = registry.create_release(body.name, as_of=body.as_of, note=body.note)
    return {
        "name": release.name,
        "tx": release.at_tx,
        "at": iso(release.at_us),
        "created": iso(release.created_us),
        "note": release.note,
    }
