"""The client of a pipeline against a real server: answers, arrays, errors, and what it does without one."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from ccdproc import ImageFileCollection

from hotpix_registry import Client
from hotpix_registry.client import FromCache
from hotpix_registry.errors import (
    AmbiguousMask,
    GeometryMismatch,
    HotpixError,
    IntegrityError,
    NoMask,
    RevokedMask,
    ServerUnreachable,
    UnknownCamera,
    UnreadableFrame,
    UsageError,
)
from hotpix_registry.registry import Registry
from tests import small_camera
from tests.client.conftest import Scripted
from tests.story import CAMERA, import_pixels

NIGHT = "2021-03-05"
LIGHT = {"IMAGETYP": "Light Frame", "DATE-OBS": "2021-03-05T22:00:00", "EXPTIME": 120.0}
NOBODY = "http://127.0.0.1:1"


def light(path: Path, **cards: object) -> Path:
    return small_camera.write_frame(path, header=LIGHT | cards)


def test_a_date_gets_the_mask_and_the_answer_of_the_registry(registry: Registry, client: Client) -> None:
    mask = client.mask(CAMERA, NIGHT)
    assert np.flatnonzero(mask.array).tolist() == [5, 70]
    assert mask.array.dtype == bool
    assert mask.dq.dtype == np.uint16
    known = registry.mask(CAMERA, NIGHT)
    assert mask.answer == known.answer
    assert mask.version == mask.meta["version"] == 1
    assert mask.path.read_bytes() == registry.mask_file(known.answer.mask_id)
    everything = client.mask(CAMERA, NIGHT, preset="all", configuration={"binning": (1, 1)}, explain=True)
    assert everything.path == registry.mask(CAMERA, NIGHT, preset="all").path
    assert everything.answer.explanation[0].passed


def test_a_receipt_is_replayed(registry: Registry, client: Client, tmp_path: Path) -> None:
    first = client.mask(CAMERA, "2021-03-10")
    import_pixels(registry, tmp_path, "2021-03-08", [9])
    assert client.mask(CAMERA, "2021-03-10").mask_id != first.mask_id
    assert client.replay(first.receipt).answer == first.answer


def test_what_is_wrong_is_the_error_that_the_registry_raises(
    registry: Registry, client: Client, mask_id: int, tmp_path: Path
) -> None:
    with pytest.raises(NoMask) as miss:
        client.mask(CAMERA, "2001-01-01")
    assert miss.value.next_step == "`--fallback nearest` takes the nearest one."
    assert miss.value.explanation[0].mask_id == mask_id
    with pytest.raises(UnknownCamera, match="nobody"):
        client.mask("nobody", NIGHT)
    with pytest.raises(UsageError, match="yesterday"):
        client.mask(CAMERA, "yesterday")
    import_pixels(registry, tmp_path, "2021-03-04", [9], temperature_c=-20.0)
    with pytest.raises(AmbiguousMask):
        client.mask(CAMERA, NIGHT)
    registry.revoke(mask_id, reason="streaks")
    with pytest.raises(RevokedMask, match="streaks"):
        client.mask(CAMERA, NIGHT, temperature_c=-10)


def test_frames_are_answered_in_one_request_each_with_its_mask_or_its_error(
    client: Client, tmp_path: Path
) -> None:
    paths = [light(tmp_path / "lights" / f"{n}.fits") for n in range(3)]
    light(tmp_path / "lights" / "3.fits", INSTRUME="other")
    collection = ImageFileCollection(tmp_path / "lights")
    found = client.masks_for(collection)
    assert [one.mask is not None for one in found] == [True, True, True, False]
    assert isinstance(found[3].error, UnreadableFrame)
    (tmp_path / "text.fits").write_text("no FITS")
    (unreadable, header) = client.masks_for([tmp_path / "text.fits", fits.getheader(paths[0])])
    assert isinstance(unreadable.error, UnreadableFrame)
    assert header.found().mask_id == found[0].found().mask_id


def test_a_mask_is_cut_for_a_sub_frame_as_the_registry_cuts_it(
    registry: Registry, client: Client, tmp_path: Path
) -> None:
    part = np.zeros((20, 30), np.uint16)
    at = {"XORGSUBF": 4, "YORGSUBF": 0}
    path = small_camera.write_frame(tmp_path / "sub.fits", header=LIGHT | at, data=part)
    (known,) = registry.masks_for([path])
    mask = client.mask_for(path)
    assert mask.steps == known.steps != ()
    assert mask.array.shape == (20, 30)
    assert np.argwhere(mask.array).tolist() == [[0, 1], [1, 2]]
    assert mask.path == known.path
    assert np.count_nonzero(client.mask_for(path, preset="none").array) == 0
    with pytest.raises(GeometryMismatch):
        client.mask_for(small_camera.write_frame(tmp_path / "odd.fits", header=LIGHT, data=part))


def test_a_mask_is_joined_with_that_of_an_image_and_named_in_its_header(
    client: Client, tmp_path: Path
) -> None:
    ccd = CCDData.read(light(tmp_path / "light.fits"), unit="adu")
    mine = np.zeros(ccd.shape, bool)
    mine[40, 40] = True
    ccd.mask = mine
    mask = client.apply(ccd)
    assert np.flatnonzero(ccd.mask).tolist() == [5, 70, 40 * 64 + 40]
    assert (ccd.header["HPXSHA"], ccd.header["HPXRCPT"]) == (mask.sha256, mask.receipt)
    before = ccd.header.tostring()
    client.apply(ccd)
    assert ccd.header.tostring() == before
    with pytest.raises(UnreadableFrame, match="is a dark, no science frame"):
        client.apply(CCDData.read(small_camera.write_frame(tmp_path / "dark.fits"), unit="adu"))


def test_what_was_asked_before_is_answered_again_when_nobody_is_there(
    client: Client, url: str, tmp_path: Path
) -> None:
    frames = [light(tmp_path / "light.fits"), light(tmp_path / "other.fits", EXPTIME=60.0)]
    online = client.mask(CAMERA, NIGHT)
    assert online.array.any()
    client.mask_for(frames[0])
    alone = Client(url, offline=True)
    with pytest.warns(FromCache, match=f"transaction {online.tx} of registry {online.registry_id}"):
        kept = alone.mask(CAMERA, NIGHT)
    assert np.array_equal(kept.array, online.array)
    assert (kept.receipt, kept.warnings[:-1]) == (online.receipt, online.warnings)
    assert "This is from the cache" in kept.warnings[-1]
    with pytest.warns(FromCache):
        known, unknown = alone.masks_for(frames)
    assert known.found().mask_id == online.mask_id
    assert isinstance(unknown.error, ServerUnreachable)
    with pytest.raises(ServerUnreachable, match="no earlier answer"):
        alone.mask(CAMERA, "2021-03-06")


def test_an_answer_is_not_sent_again_while_nothing_was_written(
    registry: Registry, client: Client, mask_id: int
) -> None:
    first = client.mask(CAMERA, NIGHT)
    assert client.mask(CAMERA, NIGHT).answer == first.answer
    registry.revoke(mask_id, reason="streaks")
    with pytest.raises(RevokedMask):
        client.mask(CAMERA, NIGHT)


def test_a_damaged_file_of_the_cache_is_fetched_again(client: Client) -> None:
    mask = client.mask(CAMERA, NIGHT)
    path = mask.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert np.flatnonzero(mask.array).tolist() == [5, 70]
    assert path.read_bytes() == whole


def _answer(client: Client) -> dict[str, object]:
    return client.mask(CAMERA, NIGHT).meta


def test_a_file_that_is_not_the_announced_one_is_never_given(
    client: Client, scripted: Scripted, tmp_path: Path
) -> None:
    for content in (gzip.compress(b"other"), b"\x1f\x8bdamaged", b"not compressed"):
        scripted.says.clear()
        scripted.say(200, _answer(client))
        scripted.say(200, content)
        mask = Client(scripted.url, cache_dir=tmp_path / "own").mask(CAMERA, NIGHT)
        with pytest.raises(IntegrityError, match="is not the file with the sha256"):
            _ = mask.array
        assert not list((tmp_path / "own").rglob("*.fits"))


def test_a_busy_server_is_asked_again_when_it_says(
    client: Client, scripted: Scripted, tmp_path: Path
) -> None:
    told = _answer(client)
    scripted.say(503, {}, Retry_After="0")
    scripted.say(429, {}, Retry_After="0")
    scripted.say(200, told)
    own = Client(scripted.url, cache_dir=tmp_path / "own")
    assert own.mask(CAMERA, NIGHT).meta == told
    assert len(scripted.heard) == 3
    scripted.says[:] = []
    scripted.say(503, {}, Retry_After="0")
    scripted.say(200, {"results": [{"mask": told, "steps": []}]})
    assert own.mask_for({"NAXIS1": 64}).sha256 == told["sha256"]
    assert scripted.heard[3:] == ["POST /v1/resolve"] * 2
    scripted.says[:] = []
    scripted.say(503, {}, Retry_After="0")
    with pytest.warns(FromCache, match="503"):
        assert own.mask(CAMERA, NIGHT).sha256 == told["sha256"]


def test_a_server_that_is_not_there_is_one_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="connection refused") as missing:
        Client(NOBODY).mask(CAMERA, NIGHT)
    assert (missing.value.code, missing.value.exit_code) == ("server-unreachable", 7)
    assert "HOTPIX_SERVER_URL" in missing.value.next_step


@pytest.mark.parametrize("address", ["localhost:8471", "ftp://dome", "http://", "http://dome:x", "dome"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is no address of a server"):
        Client(address)


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, b"<html>router</html>", "text/html"),
        (200, b"[1, 2]", "application/json"),
        (200, b'{"mask_id": 1}', "application/json"),
        (200, b"\xff\xfe", "application/json"),
        (404, b"<html>none</html>", "text/html"),
        (404, b"{}", "application/problem+json"),
        (422, b"[]", "application/problem+json"),
        (500, b"oops", "text/plain"),
    ],
)
def test_a_server_that_speaks_nonsense_is_one_error(
    scripted: Scripted, status: int, content: bytes, kind: str
) -> None:
    scripted.say(status, content, Content_Type=kind)
    with Client(scripted.url) as client:
        for ask in (lambda: client.mask(CAMERA, NIGHT), lambda: client.mask_for({"NAXIS1": 64})):
            with pytest.raises(ServerUnreachable, match="no hotpix-registry"):
                ask()


def test_a_problem_that_this_version_does_not_know_keeps_its_code(scripted: Scripted) -> None:
    scripted.say(
        403,
        {"code": "no-scope", "detail": "The token does not read.", "next_step": "Ask.", "exit_code": 2},
        Content_Type="application/problem+json",
    )
    with pytest.raises(HotpixError, match="The token does not read") as refused:
        Client(scripted.url, token="secret").mask(CAMERA, NIGHT)
    assert (refused.value.code, refused.value.exit_code) == ("no-scope", 2)


def test_settings_name_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="No server is named"):
        Client()
    monkeypatch.setenv("HOTPIX_SERVER_URL", f"{url}/")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Client().mask(CAMERA, NIGHT).version == 1
