"""Profiles of cameras and keywords: as TOML, and as a database holds them."""

from __future__ import annotations

import json
from pathlib import Path

from hotpix_registry.cameras import (
    CameraProfile,
    dump_camera_profile,
    load_camera_profile,
    load_profile_file,
)
from hotpix_registry.fits import keywords
from hotpix_registry.settings import data_dir
from tests.torture.mutations import any_of, pieces, raw_bytes, repeated
from tests.torture.targets.target import Target


def feed_toml(data: bytes, folder: Path) -> None:
    path = folder / "profile.toml"
    path.write_bytes(data)
    kind, text = load_profile_file(path)
    if kind == "camera":
        profile = load_camera_profile(text, origin="profile.toml")
        assert load_camera_profile(dump_camera_profile(profile), origin="again") == profile
        _use(profile)
    else:
        keywords.load_keyword_profile(text)


def feed_row(data: bytes, _: Path) -> None:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return  # the database would have refused it
    if isinstance(values, dict):
        _use(CameraProfile.from_dict(values))


def _use(profile: CameraProfile) -> None:
    assert profile.digest and profile.as_dict()
    assert CameraProfile.from_dict(json.loads(json.dumps(profile.as_dict()))) == profile


_ALL = b"""\
[camera]
name = "aspen"
summary = "one of everything"
[match]
serials = ["1", "2"]
instruments = ["Aspen.*"]
[detector]
gain_e_per_adu = 1.5
read_noise_e = 10
overscan_section = "[4097:4109, :]"
trim_section = "[1:4096, :]"
sections_shape = [4109, 4096]
[temperature]
grid_c = "none"
tolerance_c = 1.0
[site]
longitude_deg_east = -96.77
[service]
from = 2015-01-01
to = 2035-01-01T12:00:00Z
[policy]
campaign_gap_nights = 3
certify = "manual"
[gates]
min_frames = 5
[[dated]]
from = 2018-01-01
gain_e_per_adu = 1.4
"""


def _shipped() -> list[bytes]:
    return [path.read_bytes() for path in sorted(data_dir("config").glob("*/*.toml"))]


def _rows() -> list[bytes]:
    texts = [_ALL, *(text for text in _shipped() if b"\n[camera]" in b"\n" + text)]
    profiles = [load_camera_profile(text.decode(), origin="seed") for text in texts]
    return [json.dumps(profile.as_dict(), indent=0).encode() for profile in profiles]


_VALUES = (
    *(b"[" * 3000, b"a.b.c = 1", b"x = {y = {z = 1}}", b"[[dated]]", b"from = 1", b"name = 1", b"n = inf"),
    *(
        b'instruments = ["("]',
        b'instruments = ["(a{1,99999999999})"]',
        b'summary = "\\u0000"',
        b"d = 07:32:00",
    ),
    *(b"gain_e_per_adu = 1e400", b"grid_c = 0x" + b"f" * 5000, b"borrow_days = 9" + b"9" * 30, b"= 1"),
    *(
        b"gain_e_per_adu = 1" + b"0" * 400,
        b"from = 0001-01-01",
        b"to = 9999-12-31T23:59:59-23:59",
        b"[match]",
    ),
)
_JSON = (b"null", b'"serials": null', b'"dated": [[1, 2]]', b'"gates": {"x": 1}', b'"detector": []', b"1e999")

TARGETS = (
    Target(
        name="profiles",
        what="profiles in TOML",
        feed=feed_toml,
        seeds=lambda: [_ALL, *_shipped()],
        mutate=any_of(
            raw_bytes, repeated, pieces(b"\n", _VALUES), pieces(b"\n", _VALUES), pieces(b" ", _VALUES)
        ),
        words=(
            b"[camera]",
            b"[keywords]",
            b"[[dated]]",
            b"[[reject]]",
            b"mean_of",
            b"pattern",
            b"when",
            b'"""',
        ),
    ),
    Target(
        name="rows",
        what="profiles as a database holds them",
        feed=feed_row,
        seeds=_rows,
        mutate=any_of(raw_bytes, pieces(b"\n", _JSON), pieces(b",", _JSON), pieces(b": ", _JSON)),
        words=_JSON,
    ),
)
