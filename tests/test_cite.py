"""What a paper says of a mask, and the bundle that stands behind it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from astropy.io import fits

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import NoMask, RevokedMask, StorageError, UnknownId, UsageError
from hotpix_registry.registry import Registry, bundle, cite
from tests import small_camera
from tests.story import CAMERA, import_pixels, register_camera

LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)


def one_campaign(registry: Registry, folder: Path) -> None:
    small_camera.write_campaign(folder / "darks")
    registry.ingest([folder / "darks"])
    registry.build(CAMERA, recipe=LIMIT)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_sentence_says_which_mask_of_what_and_how_much(registry: Registry, tmp_path: Path) -> None:
    one_campaign(registry, tmp_path)
    cited = registry.cite(camera=CAMERA, date="2021-03-04")
    answer = registry.mask(CAMERA, "2021-03-04").answer
    for words in (
        "version 1 of the mask of camera smallcam-48 at -10 °C, bin 1x1",
        f"hotpix-registry {answer.registry_id}, mask 1",
        "from 4 darks of 30 s and 4 of 120 s from the night of 2021-03-04, and 3 bias frames",
        "CCD Data Reduction Guide",
        "above 4 e-/s (480 e- in 120 s), a limit that was given (rule limit)",
        "6 of 3072 pixels (0.2 %)",
        answer.sha256,
        answer.receipt,
    ):
        assert words in cited.sentence, (words, cited.sentence)


def test_borrowed_darks_are_named_with_their_own_night(registry: Registry, tmp_path: Path) -> None:
    later = small_camera.NIGHT + timedelta(days=100)
    small_camera.write_campaign(tmp_path / "a", darks={30.0: 4})
    small_camera.write_campaign(tmp_path / "b", start=later, darks={120.0: 5}, biases=0)
    registry.ingest([tmp_path / "a", tmp_path / "b"])
    registry.build(CAMERA, recipe=LIMIT)
    sentence = registry.cite(camera=CAMERA, date="2021-06-12").sentence
    assert "4 darks of 30 s borrowed from the night of 2021-03-04" in sentence
    assert "5 darks of 120 s from the night of 2021-06-12" in sentence


def test_an_imported_mask_claims_no_method(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    cited = registry.cite(camera=CAMERA, date="2021-03-04")
    assert "it was imported" in cited.sentence
    assert "Guide" not in cited.sentence + cited.bibtex


def test_the_bundle_is_whole_and_the_same_for_the_same_state(registry: Registry, tmp_path: Path) -> None:
    one_campaign(registry, tmp_path)
    receipt = registry.mask(CAMERA, "2021-03-04").answer.receipt
    cited = registry.cite(receipt=receipt)
    first, again = tmp_path / "first.zip", tmp_path / "again.zip"
    registry.write_bundle(cited, first)
    import_pixels(registry, tmp_path, "2022-03-04", {1})
    registry.write_bundle(registry.cite(receipt=receipt), again)
    assert first.read_bytes() == again.read_bytes()
    files = contents(first)
    assert sorted(files) == [
        "README.txt",
        "SHA256SUMS",
        "answer.json",
        "citation.bib",
        "citation.txt",
        "mask.fits",
        "provenance.json",
    ]
    sums = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "SHA256SUMS"}
    assert sums["mask.fits"] == cited.rows[0]["sha256"]
    with fits.open(io.BytesIO(files["mask.fits"])) as hdus:
        assert int(hdus[0].data.sum()) == 6
    assert json.loads(files["answer.json"])["receipt"] == receipt
    told = json.loads(files["provenance.json"])
    assert [i["sha256"] for i in told["inputs"]] == [i["sha256"] for i in registry.show(1)["inputs"]]
    assert len(told["inputs"]) == 11
    assert told["recipe"]["limit_e_per_s"] == 4.0
    assert told["software"]["numpy"]
    assert str(tmp_path) not in "".join(c.decode("latin-1") for c in files.values())


def test_a_preset_that_was_served_is_in_the_bundle(registry: Registry, tmp_path: Path) -> None:
    one_campaign(registry, tmp_path)
    receipt = registry.mask(CAMERA, "2021-03-04", preset="HOT|WARM").answer.receipt
    registry.write_bundle(registry.cite(receipt=receipt), tmp_path / "b.zip")
    files = contents(tmp_path / "b.zip")
    assert files["mask-served.fits"] == registry.mask_file(1, preset="HOT|WARM") != files["mask.fits"]


def test_a_release_is_cited_with_every_mask_that_it_answers_with(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    import_pixels(registry, tmp_path, "2022-03-04", {2})
    registry.create_release("2022A")
    import_pixels(registry, tmp_path, "2023-03-04", {3})
    registry.revoke(1, reason="light leak")
    cited = registry.cite(release="2022A")
    assert "release 2022A" in cited.sentence
    assert "2 masks of smallcam-48" in cited.sentence
    assert [(row["mask_id"], row["valid_to"], row["status"]) for row in cited.rows] == [
        (1, "2022-03-04T00:00:00Z", "certified"),
        (2, None, "certified"),
    ]
    registry.write_bundle(cited, tmp_path / "bundle")
    names = {str(p.relative_to(tmp_path / "bundle")) for p in (tmp_path / "bundle").rglob("*") if p.is_file()}
    assert names >= {"release.json", "masks.csv", "masks/mask-1.fits", "provenance/mask-2.json", "SHA256SUMS"}
    assert "masks/mask-3.fits" not in names
    for line in (tmp_path / "bundle" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "bundle" / name).read_bytes()).hexdigest() == digest
    at_release = registry.cite(camera=CAMERA, date="2023-06-01", release="2022A")
    assert at_release.rows[0]["mask_id"] == 2


def test_what_is_revoked_is_cited_by_receipt_only(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    receipt = registry.mask(CAMERA, "2021-03-04").answer.receipt
    registry.revoke(1, reason="light leak")
    with pytest.raises(RevokedMask):
        registry.cite(camera=CAMERA, date="2021-03-04")
    cited = registry.cite(receipt=receipt)
    assert cited.answer is not None
    assert any("revoked since" in warning for warning in cited.answer.warnings)


@pytest.mark.parametrize("name", ["new", "b.zip", "empty"])
def test_a_bundle_that_cannot_be_finished_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    def files() -> Iterator[tuple[str, bytes]]:
        yield "masks/1.fits", b"one"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match=f"{name}.*no space left"):
        bundle.write(tmp_path / name, files())
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_a_bundle_overwrites_no_folder(registry: Registry, tmp_path: Path) -> None:
    one_campaign(registry, tmp_path)
    cited = registry.cite(camera=CAMERA, date="2021-03-04")
    with pytest.raises(StorageError, match="there already"):
        registry.write_bundle(cited, tmp_path / "darks")
    with pytest.raises(StorageError, match="cannot be written"):
        registry.write_bundle(cited, tmp_path / "nowhere" / "b.zip")
    assert not list(tmp_path.glob(".*.tmp"))


def test_what_is_not_there_cannot_be_cited(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    registry.create_release("empty")
    with pytest.raises(NoMask, match="answers with no mask"):
        registry.cite(release="empty")
    with pytest.raises(UnknownId, match="no release 2022A"):
        registry.cite(release="2022A")
    with pytest.raises(UsageError, match="not said"):
        registry.cite(camera=CAMERA)
    with pytest.raises(UsageError, match="no receipt"):
        registry.cite(receipt="hp:x")


@pytest.mark.parametrize("rule", list(Rule))
def test_every_rule_has_its_words(rule: Rule) -> None:
    told = {"rule": rule, "recipe": Recipe().as_dict(), "report": {}, "limit_e_per_s": None}
    words = cite._rule(told)
    assert words
    assert "None" not in words
