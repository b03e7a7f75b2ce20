"""Statements about cameras: their names, profiles, static defects, series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import camera_name, close, holds, insert_id, is_open
from hotpix_registry.domain import Configuration, Defect, Series


class CameraRow(NamedTuple):
    camera_id: int
    name: str
    aliases: tuple[str, ...]
    profile: CameraProfile
    profile_id: int


def cameras(connection: Connection, *, at: int | None = None) -> list[CameraRow]:
    """Registered cameras by name, each with its profile, as they are or were at a transaction."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    aliases: defaultdict[int, list[str]] = defaultdict(list)
    n = t.camera_names.c
    for row in connection.execute(
        sa.select(n.camera_id, n.name, n.is_alias).where(holds(t.camera_names, at)).order_by(n.name)
    ):
        (aliases if row.is_alias else names)[row.camera_id].append(row.name)
    p = t.profiles.c
    rows = connection.execute(
        sa.select(p.camera_id, p.id, p.body).where(p.kind == "camera", holds(t.profiles, at))
    ).all()
    found = [
        CameraRow(
            row.camera_id,
            names[row.camera_id][0],
            tuple(aliases[row.camera_id]),
            CameraProfile.from_dict(row.body),
            row.id,
        )
        for row in rows
        if names[row.camera_id]
    ]
    return sorted(found, key=lambda camera: camera.name)


def add_camera(connection: Connection, profile: CameraProfile, tx: int) -> CameraRow:
    camera_id = insert_id(connection, t.cameras, created_tx=tx)
    add_camera_name(connection, camera_id, profile.name, tx, is_alias=False)
    profile_id = put_camera_profile(connection, camera_id, profile, tx)
    return CameraRow(camera_id, profile.name, (), profile, profile_id)


def add_camera_name(connection: Connection, camera_id: int, name: str, tx: int, *, is_alias: bool) -> None:
    insert_id(connection, t.camera_names, camera_id=camera_id, name=name, is_alias=is_alias, opened_tx=tx)


def close_camera_names(connection: Connection, names: Sequence[str], tx: int) -> None:
    close(connection, t.camera_names, tx, t.camera_names.c.name.in_(names))


def put_camera_profile(connection: Connection, camera_id: int, profile: CameraProfile, tx: int) -> int:
    """Make a profile the current one of its camera and return its row's id; the same is kept."""
    p = t.profiles.c
    mine = sa.and_(p.camera_id == camera_id, p.kind == "camera")
    current = connection.execute(sa.select(p.id, p.digest).where(mine, is_open(t.profiles))).first()
    if current is not None and current.digest == profile.digest:
        return int(current.id)
    close(connection, t.profiles, tx, mine)
    return insert_id(
        connection,
        t.profiles,
        kind="camera",
        name=profile.name,
        camera_id=camera_id,
        digest=profile.digest,
        body=profile.as_dict(),
        opened_tx=tx,
    )


def close_camera_profile(connection: Connection, camera_id: int, tx: int) -> None:
    close(connection, t.profiles, tx, t.profiles.c.camera_id == camera_id)


def keyword_profile_texts(connection: Connection) -> list[str]:
    """The users' own keyword profiles, as the TOML they wrote."""
    p = t.profiles.c
    statement = sa.select(p.body).where(p.kind == "keywords", is_open(t.profiles)).order_by(p.name)
    return [body["toml"] for body in connection.execute(statement).scalars()]


def put_keyword_profile(connection: Connection, name: str, digest: str, toml: str, tx: int) -> None:
    p = t.profiles.c
    close(connection, t.profiles, tx, p.kind == "keywords", p.name == name)
    insert_id(
        connection,
        t.profiles,
        kind="keywords",
        name=name,
        digest=digest,
        body={"toml": toml},
        opened_tx=tx,
    )


def defects(connection: Connection, camera_id: int) -> list[Defect]:
    """A camera's static list as it stands."""
    c = t.defects.c
    columns = (c.x0, c.y0, c.width, c.height, c.reason, c.first_night, c.last_night)
    statement = sa.select(*columns, c.id.label("defect_id")).where(
        c.camera_id == camera_id, is_open(t.defects)
    )
    return [Defect(**row._mapping) for row in connection.execute(statement.order_by(c.id))]


def add_defect(connection: Connection, camera_id: int, defect: Defect, tx: int) -> int:
    return insert_id(
        connection,
        t.defects,
        camera_id=camera_id,
        x0=defect.x0,
        y0=defect.y0,
        width=defect.width,
        height=defect.height,
        reason=defect.reason,
        first_night=defect.first_night,
        last_night=defect.last_night,
        opened_tx=tx,
    )


def close_defects(connection: Connection, camera_id: int, ids: Sequence[int], tx: int) -> None:
    close(connection, t.defects, tx, t.defects.c.camera_id == camera_id, t.defects.c.id.in_(ids))


# --- series ---------------------------------------------------------------------------


def series_id(
    connection: Connection,
    camera_id: int,
    configuration: Configuration,
    set_point: tuple[str, float | None],
    tx: int,
) -> int:
    """The series of a camera, a configuration and a set point, made if it is new."""
    s, (key, set_point_c) = t.series.c, set_point
    found = connection.execute(
        sa.select(s.id).where(
            s.camera_id == camera_id,
            s.configuration_digest == configuration.digest,
            s.set_point_key == key,
        )
    ).scalar()
    if found is not None:
        return int(found)
    return insert_id(
        connection,
        t.series,
        camera_id=camera_id,
        configuration_digest=configuration.digest,
        configuration=configuration.as_dict(),
        set_point_key=key,
        set_point_c=set_point_c,
        created_tx=tx,
    )


def series(
    connection: Connection, camera_id: int | None = None, *, at: int | None = None
) -> dict[int, Series]:
    s = t.series.c
    name = camera_name(s.camera_id)
    statement = sa.select(s.id, s.configuration, s.set_point_c, name).order_by(s.id)
    if camera_id is not None:
        statement = statement.where(s.camera_id == camera_id)
    if at is not None:
        statement = statement.where(s.created_tx <= at)
    return {
        row.id: Series(
            series_id=row.id,
            camera=row.name,
            configuration=Configuration.from_dict(row.configuration),
            set_point_c=row.set_point_c,
        )
        for row in connection.execute(statement)
    }
