"""Masks reach science frames through the registry: the right one, where it fits, and nothing half done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from hotpix_registry.domain import Facts, Recipe, Rule
from hotpix_registry.errors import (
    GeometryMismatch,
    NoMask,
    RevokedMask,
    StorageError,
    UnknownCamera,
    UnknownId,
    UsageError,
)
from hotpix_registry.fits.maskfile import decode, digest
from hotpix_registry.registry import Registry
from hotpix_registry.registry.apply import Applied
from hotpix_registry.registry.fitting import Fitter
from tests.small_camera import SHAPE, hot_pixels, pixels, write_campaign, write_frame
from tests.told import Story

LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
LIGHT = {"IMAGETYP": "Light Frame", "OBJECT": "M 31"}


@pytest.fixture
def stocked(told: Callable[[Story], Path], registry: Registry) -> Registry:
    """A registry with one mask of six hot pixels, certified."""
    told(stock)
    return registry


def stock(registry: Registry, folder: Path) -> None:
    registry.ingest([str(path) for path in write_campaign(folder)])
    registry.build("smallcam-48", recipe=LIMIT)


def light(path: Path, data: np.ndarray | None = None, **cards: Any) -> Path:
    return write_frame(path, header=LIGHT | cards, data=pixels(60.0, 7) if data is None else data)


def mask_of(path: str | Path | None) -> np.ndarray:
    assert path is not None
    mask = CCDData.read(path, unit="adu").mask
    assert mask is not None
    return np.asarray(mask)


def only(applied: list[Applied]) -> Applied:
    (one,) = applied
    return one


def refused(applied: list[Applied], *words: str) -> Applied:
    one = only(applied)
    assert (one.status, one.output) == ("refused", None)
    for word in words:
        assert word in one.reason, (word, one.reason)
    assert not list(Path(one.path).parent.glob(".*.tmp"))
    return one


def test_a_mask_of_an_id_a_date_or_the_frames_own_header_is_one(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits")
    by_id = only(stocked.apply(1, path, output=tmp_path / "id.fits"))
    by_date = only(stocked.apply("2021-03-04", path, camera="smallcam-48", output=tmp_path / "date.fits"))
    by_header = only(stocked.apply("auto", path, output=tmp_path / "auto.fits"))
    for one in (by_id, by_date, by_header):
        assert (one.status, one.mask_id, one.added, one.masked, one.steps) == ("applied", 1, 6, 6, ())
        assert np.array_equal(mask_of(one.output), hot_pixels())
    receipts = [fits.getheader(one.output)["HPXRCPT"] for one in (by_id, by_date, by_header)]
    answer = stocked.mask("smallcam-48", "2021-03-04").answer
    assert receipts[0] == f"hp:{answer.registry_id}/{answer.tx}/1/{answer.sha256[:12]}"
    assert receipts[1] == answer.receipt
    assert "t=-10&e=60" in receipts[2]
    header = fits.getheader(by_date.output)
    assert (header["HPXREG"], header["HPXVER"], header["HPXSHA"]) == (answer.registry_id, 1, answer.sha256)


def test_frames_can_have_the_mask_of_an_earlier_state_or_receipt(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits")
    then = stocked.mask("smallcam-48", "2021-03-04").answer
    stocked.create_release("2021A")
    edited = stocked.edit_mask(1, mask=[(0, 0)], reason="seen in flats")
    stocked.certify(edited.mask_id, supersede=True)
    stocked.revoke(1, reason="light leaked in")

    def masked(mask: int | str, **asked: Any) -> tuple[int | None, tuple[str, ...]]:
        one = only(stocked.apply(mask, path, dry_run=True, **asked))
        return one.mask_id, one.warnings

    camera = {"camera": "smallcam-48"}
    assert masked("auto")[0] == masked("2021-03-04", **camera)[0] == edited.mask_id
    for mask_id, warnings in (
        masked("auto", release="2021A"),
        masked("auto", as_of=then.tx),
        masked("2021-03-04", as_of=then.tx, **camera),
        masked(then.receipt),
        masked(1, allow_revoked=True),
    ):
        assert mask_id == 1
        assert any("revoked" in warning for warning in warnings)
    with pytest.raises(RevokedMask, match="--allow-revoked"):
        masked(1)
    with pytest.raises(UsageError, match="says everything itself"):
        masked(then.receipt, release="2021A")
    with pytest.raises(UsageError, match="the same mask at any time"):
        masked(1, release="2021A")
    by_number = fits.getheader(only(stocked.apply(2, path, output=tmp_path / "two.fits")).output)["HPXRCPT"]
    with pytest.raises(UsageError, match="mask 2 was named by its number"):
        stocked.replay(by_number)


def test_frames_that_no_mask_holds_get_another_only_when_asked(stocked: Registry, tmp_path: Path) -> None:
    early = light(tmp_path / "early.fits", **{"DATE-OBS": "2019-01-15T22:00:00"})
    refused(stocked.apply("auto", early, in_place=True), "`--fallback nearest` takes the nearest one")
    with pytest.raises(NoMask, match="--fallback nearest"):
        stocked.apply("2019-01-15", early, camera="smallcam-48", in_place=True)
    for mask, asked in (("auto", {}), ("2019-01-15", {"camera": "smallcam-48"})):
        output = tmp_path / f"{mask}.fits"
        one = only(stocked.apply(mask, early, fallback="nearest", max_age_days=800, output=output, **asked))
        assert (one.mask_id, one.masked) == (1, 6)
        assert any("No mask is valid at 2019-01-15" in warning for warning in one.warnings)
        receipt = fits.getheader(output)["HPXRCPT"]
        assert receipt.endswith("&f=n&a=800")
        assert stocked.replay(receipt).answer.receipt == receipt
        again = only(stocked.apply(receipt, early, output=tmp_path / f"again-{mask}.fits"))
        assert fits.getheader(again.output)["HPXRCPT"] == receipt
    refused(stocked.apply("auto", early, fallback="nearest", max_age_days=700, in_place=True), "epoch event")
    refused(stocked.apply("auto", early, fallback="previous", in_place=True), "No mask of camera")
    with pytest.raises(UsageError, match="Leave out --fallback and --max-age"):
        stocked.apply(1, early, fallback="nearest", in_place=True)
    with pytest.raises(UsageError, match="A receipt says everything itself"):
        stocked.apply(receipt, early, max_age_days=800, in_place=True)


def test_an_earlier_state_knows_a_camera_by_the_name_of_then_and_of_now(
    stocked: Registry, tmp_path: Path
) -> None:
    path = light(tmp_path / "light.fits")
    then = stocked.mask("smallcam-48", "2021-03-04").answer
    stocked.create_release("2021A")
    stocked.rename_camera("smallcam-48", "aspen")
    for mask in ("auto", "2021-03-04"):
        for camera in ("smallcam-48", "aspen", *([None] if mask == "auto" else [])):
            for state in ({"release": "2021A"}, {"as_of": then.tx}):
                output = tmp_path / f"{mask}-{camera}-{next(iter(state))}.fits"
                one = only(stocked.apply(mask, path, camera=camera, output=output, **state))  # type: ignore[arg-type]
                assert one.mask_id == 1, one
                assert "?c=smallcam-48&" in fits.getheader(output)["HPXRCPT"]
    assert only(stocked.apply(then.receipt, path, camera="aspen", dry_run=True)).mask_id == 1
    assert only(stocked.apply(then.receipt, path, dry_run=True)).mask_id == 1
    assert stocked.mask("aspen", "2021-03-04", as_of=then.tx).answer.receipt == then.receipt


def test_the_same_mask_again_is_told_and_leaves_the_frame(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits")
    assert only(stocked.apply(1, path, in_place=True)).status == "applied"
    before = path.read_bytes()
    again = only(stocked.apply("2021-03-04", path, camera="smallcam-48", in_place=True))
    assert (again.status, again.added, again.masked) == ("unchanged", 0, 6)
    assert path.read_bytes() == before


def test_a_preset_decides_what_masks_and_is_named(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits")
    one = only(stocked.apply(1, path, preset="none", in_place=True))
    assert (one.status, one.masked) == ("applied", 0)
    assert not mask_of(path).any()
    assert fits.getheader(path)["HPXPRE"] == "none"
    assert np.array_equal(fits.getdata(path, "DQ") & 1 != 0, hot_pixels())
    with pytest.raises(UsageError, match="WARN"):
        stocked.apply(1, path, preset="WARN", in_place=True)


def test_every_frame_is_accounted_for_and_the_others_are_done(stocked: Registry, tmp_path: Path) -> None:
    good = light(tmp_path / "good.fits")
    window = light(tmp_path / "window.fits", pixels(60.0, 7)[2:42, 4:60], XORGSUBF=4, YORGSUBF=2)
    small = light(tmp_path / "small.fits", pixels(60.0, 7)[:40])
    cube = light(tmp_path / "cube.fits", np.stack([pixels(60.0, 7)] * 3))
    refused(stocked.apply(1, cube, in_place=True), "cube.fits holds no single image but 64 x 48 x 3 pixels")
    (tmp_path / "text.fits").write_text("no FITS")
    done = stocked.apply(1, [good, window, small, tmp_path / "text.fits"], output=tmp_path / "out" / "deep")
    assert [one.status for one in done] == ["applied", "applied", "refused", "refused"]
    assert np.array_equal(mask_of(done[1].output), hot_pixels()[2:42, 4:60])
    assert "Mask 1 does not fit" in done[2].reason
    assert "64 x 40 pixels" in done[2].reason
    assert "text.fits is no FITS file" in done[3].reason
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == ["good.fits", "window.fits"]


def test_binned_frames_ask_for_it(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits", pixels(60.0, 7)[::2, ::2].copy(), XBINNING=2, YBINNING=2)
    one = refused(stocked.apply(1, path, in_place=True), "binning: wanted 2 x 2, found 1 x 1")
    assert isinstance(one.error, GeometryMismatch)
    one = only(stocked.apply(1, path, in_place=True, allow_binning=True))
    assert one.steps == ("Blocks of 2 x 2 pixels were joined: each has the flags of all its pixels.",)
    expected = hot_pixels().reshape(24, 2, 32, 2).any(axis=(1, 3))
    assert np.array_equal(mask_of(path), expected)


def test_a_raw_frame_gets_a_trimmed_mask_in_its_place(registry: Registry, tmp_path: Path) -> None:
    shape = (SHAPE[0], SHAPE[1] + 8)
    trimmed = {"TRIMSEC": "[1:64,1:48]", "BIASSEC": "[65:72,1:48]"}
    registry.ingest([str(path) for path in write_campaign(tmp_path / "darks", header=trimmed, shape=shape)])
    registry.build("smallcam-48", recipe=LIMIT)
    raw = light(tmp_path / "raw.fits", pixels(60.0, 7, shape), **trimmed)
    cut = light(tmp_path / "cut.fits", pixels(60.0, 7), **trimmed)
    whole, part = registry.apply("auto", [raw, cut], output=tmp_path / "out")
    assert np.array_equal(mask_of(part.output), hot_pixels())
    assert np.array_equal(mask_of(whole.output)[:, :64], hot_pixels())
    assert not mask_of(whole.output)[:, 64:].any()
    edited = registry.edit_mask(1, mask=[(9, 9)], reason="seen in flats")
    assert only(registry.apply(edited.mask_id, raw, output=tmp_path / "edited.fits")).masked == 7


def test_another_program_may_have_turned_the_rows(registry: Registry, tmp_path: Path) -> None:
    maxim = {"SWCREATE": "MaxIm DL Version 6.27"}
    registry.ingest([str(path) for path in write_campaign(tmp_path / "darks", header=maxim)])
    registry.build("smallcam-48", recipe=LIMIT)
    newer = light(tmp_path / "newer.fits", SWCREATE="MaxIm DL Version 6.40")
    assert only(registry.apply(1, newer, in_place=True)).status == "applied"
    other = light(tmp_path / "other.fits", SWCREATE="TheSkyX Version 10.5")
    refused(registry.apply(1, other, in_place=True), "other programs store rows otherwise")


def test_an_imported_mask_is_for_the_camera_whatever_program_took_the_frame(
    stocked: Registry, tmp_path: Path
) -> None:
    fits.PrimaryHDU(hot_pixels().astype(np.uint8)).writeto(tmp_path / "bpm.fits")
    with Registry(str(tmp_path / "empty.sqlite")) as registry:
        registry.ingest([str(write_frame(tmp_path / "one.fits"))])
        registry.import_mask(
            tmp_path / "bpm.fits", "smallcam-48", valid_from="2021-03-04", temperature_c=-10.0
        )
        path = light(tmp_path / "light.fits")
        assert only(registry.apply(1, path, in_place=True)).masked == 6


def test_a_frame_of_another_camera_or_setting_is_refused(stocked: Registry, tmp_path: Path) -> None:
    stocked.ingest([str(write_frame(tmp_path / "dark.fits", header={"INSTRUME": "Bigcam"}))])
    bigcam = light(tmp_path / "bigcam.fits", INSTRUME="Bigcam")
    refused(
        stocked.apply(1, bigcam, in_place=True), "is a frame of camera bigcam, and mask 1 one of smallcam-48"
    )
    unknown = light(tmp_path / "unknown.fits", INSTRUME="Thirdcam")
    one = refused(stocked.apply(1, unknown, in_place=True), "a frame of Thirdcam", "--camera smallcam-48")
    assert isinstance(one.error, NoMask)
    refused(stocked.apply("auto", unknown, in_place=True), "no registered camera is recognised by that")
    assert only(stocked.apply("1", unknown, camera="smallcam-48", in_place=True)).status == "applied"
    silent = light(tmp_path / "silent.fits", INSTRUME=None)
    assert only(stocked.apply(1, silent, in_place=True)).status == "applied"


def test_a_setting_that_both_name_must_agree(registry: Registry, tmp_path: Path) -> None:
    fast = {"READOUTM": "2 MHz"}
    registry.ingest([str(path) for path in write_campaign(tmp_path / "darks", header=fast)])
    registry.build("smallcam-48", recipe=LIMIT)
    slow = light(tmp_path / "slow.fits", READOUTM="1 MHz")
    refused(registry.apply(1, slow, in_place=True), "readout mode: wanted 1 MHz, found 2 MHz")
    assert only(registry.apply(1, light(tmp_path / "l.fits"), in_place=True)).status == "applied"


def test_a_warm_frame_is_a_warning(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "warm.fits", **{"SET-TEMP": 0.0, "CCD-TEMP": 0.0})
    one = only(stocked.apply(1, path, in_place=True))
    assert "A frame at 0 °C has got mask 1 of darks at -10 °C." in one.warnings
    own = stocked.apply("auto", light(tmp_path / "w.fits", **{"SET-TEMP": 0.0}), in_place=True)
    refused(own, "w.fits: ", "within 1 °C of 0 °C")


def test_darks_and_masks_are_no_science_frames(stocked: Registry, tmp_path: Path) -> None:
    dark = write_frame(tmp_path / "dark.fits")
    refused(stocked.apply(1, dark, in_place=True), "is a dark, no science frame")
    mask = tmp_path / "mask.fits"
    mask.write_bytes(stocked.mask_file(1))
    refused(stocked.apply(1, mask, in_place=True), "no science frame")


def test_a_candidate_is_a_warning(stocked: Registry, tmp_path: Path) -> None:
    later = stocked.edit_mask(1, mask=[(9, 9)], reason="seen in flats")
    one = only(stocked.apply(later.mask_id, light(tmp_path / "light.fits"), in_place=True))
    assert one.masked == 7
    assert any("not certified" in warning for warning in one.warnings) == (later.status == "candidate")


def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    stocked: Registry, tmp_path: Path
) -> None:
    path = light(tmp_path / "light.fits")
    copy = light(tmp_path / "other" / "light.fits")
    before = path.read_bytes()
    out = tmp_path / "out"
    for kind, words, mask, files, options in (
        (UsageError, "not said where", 1, [path], {}),
        (UsageError, "exclude each other", 1, [path], {"in_place": True, "output": out}),
        (UsageError, "would replace itself", 1, [path], {"output": tmp_path}),
        (UsageError, "light.fits have one name", 1, [path, copy], {"output": out}),
        (UsageError, "is a file", 1, [path, copy], {"output": path}),
        (UsageError, "is a folder", 1, [tmp_path], {"output": out}),
        (UsageError, "no file or folder", 1, [tmp_path / "none.fits"], {"output": out}),
        (UsageError, "No science frames", 1, [], {"output": out}),
        (UsageError, "the camera is missing", "2021-03-04", [path], {"output": out}),
        (UsageError, "is not a date", "yesterday", [path], {"output": out, "camera": "smallcam-48"}),
        (UnknownId, "no mask 9", 9, [path], {"output": f"{out}/"}),
        (UnknownCamera, "smallcam-48", "2021-03-04", [path], {"output": out, "camera": "smallcam"}),
        (UnknownCamera, "smallcam-48", "auto", [path], {"output": out, "camera": "smallcam"}),
        (NoMask, "1999-01-01", "1999-01-01", [path], {"output": out, "camera": "smallcam-48"}),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            stocked.apply(mask, files, **options)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert not out.exists()


def test_a_file_that_somebody_else_wrote_is_not_overwritten(stocked: Registry, tmp_path: Path) -> None:
    path, other = light(tmp_path / "light.fits"), light(tmp_path / "other.fits")
    before = other.read_bytes()
    one = refused(stocked.apply(1, path, output=other), "other.fits exists")
    assert isinstance(one.error, StorageError)
    assert other.read_bytes() == before
    for _ in range(2):
        assert only(stocked.apply(1, path, output=tmp_path / "mine.fits")).status == "applied"


def test_a_dry_run_writes_nothing(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits")
    before = path.read_bytes()
    one = only(stocked.apply(1, path, dry_run=True))
    assert (one.status, one.added, one.output) == ("applied", 6, None)
    only(stocked.apply(1, [path], output=f"{tmp_path}/out/", dry_run=True))
    assert path.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_what_a_killed_run_left_goes_a_day_later_with_the_next_one_there(
    stocked: Registry, tmp_path: Path
) -> None:
    path = light(tmp_path / "light.fits")
    folder = tmp_path / "out"
    folder.mkdir()

    def left_in(place: Path) -> list[str]:
        old, young, foreign = (f".a.fits.{'0' * 16}.tmp", f".b.fits.{'1' * 16}.tmp", ".c.fits.tmp")
        for name in (old, young, foreign):
            (place / name).write_bytes(b"half a frame")
        for name in (old, foreign):
            os.utime(place / name, (0, time.time() - 90_000))
        return [young, foreign]

    kept = left_in(folder)
    stocked.apply(1, path, output=folder, dry_run=True)
    assert len(os.listdir(folder)) == 3
    stocked.apply(1, path, output=folder)
    assert sorted(os.listdir(folder)) == [*kept, "light.fits"]
    kept = left_in(folder)
    stocked.apply(1, folder / "light.fits", in_place=True)
    assert sorted(os.listdir(folder)) == [*kept, "light.fits"]


def test_a_link_is_followed_and_stays_a_link(stocked: Registry, tmp_path: Path) -> None:
    path = light(tmp_path / "light.fits")
    link = tmp_path / "link.fits"
    link.symlink_to(path)
    stocked.apply(1, link, in_place=True)
    assert link.is_symlink()
    assert mask_of(path).sum() == 6


def test_the_mask_file_for_another_geometry_has_its_own_digest(stocked: Registry) -> None:
    facts = Facts(
        kind=None,
        frame_type="light",
        shape=(24, 32),
        sources={"sub_frame": "XORGSUBF, YORGSUBF"},
    )
    fitter = Fitter(stocked._engine)
    derived, plan = fitter.file(1, facts), fitter.plan(1, facts)
    assert plan.sentences == ("Columns 0 to 31 and rows 0 to 23 were cut out, counted from 0.",)
    assert derived.source_sha256 == digest(stocked.mask_file(1))
    assert np.array_equal(decode(derived.content).dq & 1 != 0, hot_pixels()[:24, :32])


def test_the_real_frames_take_a_mask_and_keep_their_bytes(
    registry: Registry, real_data: Path, tmp_path: Path
) -> None:
    source = next((real_data / "darks" / "st7_2019").glob("*"))
    header = fits.getheader(source)
    content = bytearray(source.read_bytes())
    written = str(header["IMAGETYP"]).encode()
    at = content.index(b"'" + written)
    content[at : at + len(written) + 1] = b"'" + b"Light Frame".ljust(len(written))[: len(written)]
    path = tmp_path / "light.fits"
    path.write_bytes(content)
    bad = np.zeros((header["NAXIS2"], header["NAXIS1"]), np.uint8)
    bad[100, 200] = 1
    fits.PrimaryHDU(bad).writeto(tmp_path / "bpm.fits")
    registry.ingest([str(source)])
    (camera,) = registry.cameras()
    registry.import_mask(tmp_path / "bpm.fits", camera.name, valid_from="2019-10-01", temperature_c=-17.0)
    one = only(registry.apply(1, path, output=tmp_path / "out.fits"))
    assert (one.status, one.masked) == ("applied", 1)
    assert np.argwhere(mask_of(one.output)).tolist() == [[100, 200]]
    with fits.open(one.output, memmap=False, do_not_scale_image_data=True) as hdus:
        raw = hdus[0].data.tobytes()
    assert raw in source.read_bytes()
