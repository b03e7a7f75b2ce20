"""Frames elsewhere: catalogued and built from a bucket or a web server as from a disk."""

from __future__ import annotations

import bz2
import gzip
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import FrameChanged, NoObject, ObjectsUnavailable, UnreadableFrame, UsageError
from hotpix_registry.fits.headers import read_header
from hotpix_registry.fits.pixels import RowsFile, open_rows
from hotpix_registry.places import joined, resolved
from hotpix_registry.places.reading import ObjectFile
from hotpix_registry.registry import Registry
from tests.object_store import BUCKET, Store, Web, running_web
from tests.small_camera import write_campaign, write_frame

CAMERA = "smallcam-48"
LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Web, Path]]:
    """A web server, and the folder that it serves."""
    folder = tmp_path_factory.mktemp("served")
    with running_web(folder) as web:
        yield web, folder


def mixed_campaign(folder: Path) -> None:
    """Eleven frames, one of them unpacked by gzip, one by bzip2, and one in tiles."""
    write_campaign(folder)
    for name, pack, ending in (("dark_30s_01", gzip.compress, "gz"), ("dark_30s_02", bz2.compress, "bz2")):
        path = folder / f"{name}.fits"
        (folder / f"{name}.fits.{ending}").write_bytes(pack(path.read_bytes()))
        path.unlink()
    path = folder / "dark_120s_01.fits"
    with fits.open(path) as hdus:
        tiles = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
        tiles.writeto(folder / "dark_120s_01.fits.fz")
    path.unlink()


# --- the whole --------------------------------------------------------------------------


def test_darks_in_a_bucket_give_the_mask_that_they_give_on_a_disk(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    mixed_campaign(tmp_path / "darks")
    url = store.put_folder(tmp_path / "darks", f"{tmp_path.name}/darks")
    assert registry.ingest(f"s3://{BUCKET}/{tmp_path.name}", recursive=True).accepted == 11
    assert {frame.name.rpartition("/")[0] + "/" for frame in registry.frames()} == {url}
    with store.watched() as requests:
        assert registry.ingest(url).known == 11
    assert [request.method for request in requests] == ["GET"]  # the list
    (built,) = registry.build(CAMERA, recipe=LIMIT)
    with Registry(str(tmp_path / "local.sqlite"), create=True) as local:
        local.ingest(tmp_path / "darks")
        (expected,) = local.build(CAMERA, recipe=LIMIT)
    assert built.sha256 == expected.sha256
    assert registry.verify().findings == []
    assert {row["status"] for row in registry.list_frames().items} == {"used"}


def test_lights_cost_a_request_for_their_headers(registry: Registry, store: Store, tmp_path: Path) -> None:
    light = {"IMAGETYP": "Light Frame"}
    plain = write_frame(tmp_path / "lights" / "light.fits", header=light, shape=(512, 512))
    (tmp_path / "lights" / "light.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    url = store.put_folder(tmp_path / "lights", f"{tmp_path.name}/lights")
    with store.watched() as requests:
        report = registry.ingest(url)
    assert report.skipped_by_type == {"Light Frame": 2}
    fetched = [(request.method, request.n_bytes) for request in requests if "light.fits" in request.path]
    assert fetched == [("GET", 23040), ("GET", 23040)]
    with store.watched() as requests:
        assert registry.ingest(url).skipped == 2
    assert len(requests) == 1


def test_objects_are_named_by_prefix_glob_list_and_name(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    write_campaign(tmp_path / "a" / "b", darks={30.0: 2}, biases=0)
    write_campaign(tmp_path / "a" / "c", darks={120.0: 2}, biases=1)
    url = store.put_folder(tmp_path / "a", f"{tmp_path.name}/a")
    (tmp_path / "list.txt").write_text(f"{url}b/dark_30s_01.fits\n{url}b/dark_30s_09.fits\n")

    def found(*paths: str, recursive: bool = False) -> tuple[int, int]:
        report = registry.ingest(paths, recursive=recursive, dry_run=True)
        return report.accepted, len(report.rejected)

    assert found(url, recursive=True) == (5, 0)
    assert found(f"{url}*/dark*.fits") == (4, 0)
    assert found(f"{url}[b]/*1.fits") == (1, 0)
    assert found(f"{url}**/*1.fits") == (3, 0)
    assert found(f"{url}c/bias_01.fits", f"{url}c/") == (3, 0)
    assert found(f"@{tmp_path / 'list.txt'}") == (1, 1)
    for nothing in (url, f"{url}d/*.fits", f"{url}c/bias_02.fits", f"{url}c"):
        with pytest.raises(UsageError):
            found(nothing)


def test_a_file_url_is_the_path_that_it_names(registry: Registry, tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a dark.fits")
    assert registry.ingest(path.as_uri()).accepted == 1
    assert registry.ingest(path).known == 1
    assert [frame.paths for frame in registry.frames()] == [(str(path),)]
    assert read_header(path.as_uri()).shape == (48, 64)


# --- bytes ------------------------------------------------------------------------------


def test_rows_are_fetched_once_and_no_others(store: Store, tmp_path: Path) -> None:
    path = write_frame(tmp_path / "dark.fits", shape=(2048, 512))
    url = store.put(path, f"{tmp_path.name}/dark.fits")
    size = path.stat().st_size
    with open_rows(path) as local, open_rows(url) as rows, store.watched() as requests:
        assert rows.compressed
        for y0 in range(0, 2048, 32):
            assert np.array_equal(rows.read(y0, y0 + 32), local.read(y0, y0 + 32))
    assert sum(request.n_bytes for request in requests) <= size
    assert len(requests) < 16
    with open_rows(url) as rows, store.watched() as requests, open_rows(path) as local:
        for y0 in range(100, 2048, 400):
            assert np.array_equal(rows.read(y0, y0 + 32), local.read(y0, y0 + 32))
    assert sum(request.n_bytes for request in requests) == 5 * 32 * 512 * 2


def _sent(rows: RowsFile) -> RowsFile:
    """What another process has of rows that were sent to it."""
    found = pickle.loads(pickle.dumps(rows))  # noqa: S301 - its own
    assert isinstance(found, RowsFile)
    return found


def test_rows_can_be_sent_to_another_process(store: Store, tmp_path: Path) -> None:
    path = write_frame(tmp_path / "dark.fits", shape=(96, 64))
    url = store.put(path, f"{tmp_path.name}/dark.fits")
    for place in (str(path), url):
        with open_rows(place, trim="[3:62, 2:90]") as rows, _sent(rows) as sent:
            assert sent.shape == (89, 60)
            assert np.array_equal(sent.read(5, 80), rows.read(5, 80))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 200_000)), max_size=12), st.booleans())
def test_any_reads_give_the_bytes_of_the_file(
    served: tuple[Web, Path], reads: list[tuple[int, int]], in_order: bool
) -> None:
    web, folder = served
    path = folder / "bytes.bin"
    if not path.exists():
        path.write_bytes(np.random.default_rng(1).bytes(333_333))
    content = path.read_bytes()
    if in_order:  # as a build reads
        reads = [(k * 20_000, 20_000) for k in range(len(reads))]
    with ObjectFile(f"{web.url}/bytes.bin") as file:
        for offset, size in reads:
            found = bytearray(size)
            count = file.read_into(memoryview(found), offset)
            assert found[:count] == content[offset : offset + size]
            file.seek(offset)
            assert content[offset : offset + size].startswith(file.read(size))


# --- what goes wrong --------------------------------------------------------------------


def test_a_busy_store_and_a_broken_line_are_asked_again(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    path = write_frame(tmp_path / "darks" / "dark.fits", shape=(256, 64))
    url = store.put(path, f"{tmp_path.name}/dark.fits")
    store.failures += [(tmp_path.name, 503, "SlowDown"), (tmp_path.name, None, ""), (tmp_path.name, 500, "")]
    assert registry.ingest(url).accepted == 1
    assert store.failures == []


def test_an_object_that_fails_is_told_with_its_reason_and_the_others_go_on(
    registry: Registry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotpix_registry.places.objects._WAITS_S", (0.01, 0.01))
    write_campaign(tmp_path / "darks", darks={30.0: 3}, biases=0)
    url = store.put_folder(tmp_path / "darks", f"{tmp_path.name}/darks")
    store.failures += [("dark_30s_01.fits", 503, "SlowDown")] * 3
    store.failures += [("dark_30s_02.fits", 403, "AccessDenied")]
    report = registry.ingest(url)
    assert report.accepted == 1
    assert dict(report.rejected) == {
        f"{url}dark_30s_01.fits": "The file cannot be read: its store answered 503 SlowDown, 3 times. "
        "Try again later.",
        f"{url}dark_30s_02.fits": "The file may not be read: access is denied. "
        "Ask for s3:GetObject and s3:ListBucket, or use other credentials.",
    }


def test_what_was_read_before_a_store_went_away_is_kept(
    registry: Registry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotpix_registry.places.objects._WAITS_S", ())
    write_campaign(tmp_path / "darks", darks={30.0: 3}, biases=0)
    url = store.put_folder(tmp_path / "darks", f"{tmp_path.name}/darks")
    store.failures += [("dark_30s_03.fits", None, "")] * 2
    with pytest.raises(
        ObjectsUnavailable, match=r"dark_30s_03\.fits cannot be read: its store does not answer"
    ):
        registry.ingest(url)
    assert len(registry.frames()) == 2
    report = registry.ingest(url)
    assert (report.accepted, report.known) == (1, 2)


def test_a_dark_that_changed_or_vanished_since_its_ingest_makes_no_mask(
    registry: Registry, store: Store, tmp_path: Path
) -> None:
    write_campaign(tmp_path / "darks")
    url = store.put_folder(tmp_path / "darks", f"{tmp_path.name}/darks")
    registry.ingest(url)
    other = write_frame(tmp_path / "other.fits", exptime_s=30.0, start="2021-03-04T23:59:00")
    store.put(other, f"{tmp_path.name}/darks/dark_30s_01.fits")
    with pytest.raises(FrameChanged, match=r"dark_30s_01\.fits has changed"):
        registry.build(CAMERA, recipe=LIMIT)
    assert [finding.kind for finding in registry.verify(quick=True).findings] == ["frame"]
    store.delete(f"{url}dark_30s_01.fits")
    with pytest.raises(FrameChanged, match=r"dark_30s_01\.fits has vanished"):
        registry.build(CAMERA, recipe=LIMIT)
    (finding,) = registry.verify().findings
    assert finding.problem == "the file is gone"
    store.put(tmp_path / "darks" / "dark_30s_01.fits", f"{tmp_path.name}/darks/dark_30s_01.fits")
    assert len(registry.build(CAMERA, recipe=LIMIT)) == 1  # the very bytes, written later


def test_a_store_that_is_away_is_one_finding_and_nothing_is_forgotten(
    registry: Registry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_campaign(tmp_path / "darks", darks={30.0: 2}, biases=0)
    registry.ingest([store.put_folder(tmp_path / "darks", f"{tmp_path.name}/darks"), tmp_path / "darks"])
    monkeypatch.setattr("hotpix_registry.places.objects._WAITS_S", ())
    store.failures += [(tmp_path.name, None, "")] * 2  # the library tries a line that it had open once more
    (finding,) = registry.verify().findings
    assert (finding.kind, finding.where) == ("store", f"s3://{BUCKET}")
    assert finding.problem.startswith("its 2 frames could not be looked at: ")


def test_a_server_without_ranges_or_marks_says_so(registry: Registry, tmp_path: Path) -> None:
    write_frame(tmp_path / "web" / "dark.fits", shape=(256, 64))
    write_frame(tmp_path / "web" / "light.fits", header={"IMAGETYP": "Light Frame"}, shape=(256, 64))
    with running_web(tmp_path / "web", ranges=False, tags=False) as web:
        report = registry.ingest(f"{web.url}/")
    assert report.skipped == 1  # its header comes first
    assert report.rejected == [
        (
            f"{web.url}/dark.fits",
            "The file can be had as a whole only: its server gives no parts of files (no ranges). "
            "Copy it to this machine, or serve it by a server that does, such as nginx.",
        )
    ]


def test_frames_of_a_web_server_are_built_from(registry: Registry, tmp_path: Path) -> None:
    write_campaign(tmp_path / "web" / "darks")
    with running_web(tmp_path / "web", tags=False) as web:
        assert registry.ingest(f"{web.url}/", recursive=True).accepted == 11
        assert registry.ingest(f"{web.url}/darks/").known == 11
        asked = len(web.requests)
        assert len(registry.build(CAMERA, recipe=LIMIT)) == 1
        read = sum(request.n_bytes for request in web.requests[asked:])
        assert read >= 2 * 11 * 11520  # without ETags all is hashed once more
        with pytest.raises(NoObject):
            read_header(f"{web.url}/darks/none.fits")
        with pytest.raises(UnreadableFrame, match="is no FITS file"):
            read_header(f"{web.url}/darks/")


# --- names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("S3://Bucket/a//b c#1.fits", "s3://Bucket/a//b c#1.fits"),
        ("HTTPS://Host.org/A%20b.fits", "https://host.org/A%20b.fits"),
        ("file:///data/a%20b.fits", "/data/a b.fits"),
        ("C:\\darks", str(Path("C:\\darks").absolute())),
    ],
)
def test_a_place_has_one_name(url: str, kept: str) -> None:
    assert resolved(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "https://anna:geheim@host/dark.fits",
        "https://host/dark.fits?X-Amz-Signature=geheim",
        "https://host/dark.fits#geheim",
        "s3://anna:geheim@bucket/dark.fits",
        "s3://bucket/dark.fits?X-Amz-Security-Token=geheim",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolved(url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "gs://b/d.fits",
        "s3:///d.fits",
        "s3://My Bucket/d.fits",
        "s3://b/\udce9.fits",
        "https:///d.fits",
        "http://h/a/%2e%2e/d.fits",
        "http://h:port/d.fits",
        "http://[::1/d.fits",
    ],
)
def test_a_url_that_is_not_read_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        resolved(url)


@given(st.sampled_from(["s3", "https", "file", "gs"]), st.text(alphabet=st.characters(), max_size=30))
def test_any_url_is_kept_as_it_is_read_or_refused(scheme: str, rest: str) -> None:
    with suppress(UsageError):
        kept = resolved(f"{scheme}://{rest}")
        assert resolved(kept) == kept


def test_names_are_quoted_for_web_servers_only() -> None:
    assert joined("https://host/darks/", ["2021 03", "a.fits"]) == "https://host/darks/2021%2003/a.fits"
    assert joined("s3://bucket/darks", ["2021 03", "a.fits"]) == "s3://bucket/darks/2021 03/a.fits"


def test_a_server_that_nobody_runs_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotpix_registry.places.objects._WAITS_S", (0.01,))
    with pytest.raises(ObjectsUnavailable, match="its store does not answer"):
        read_header("http://127.0.0.1:1/dark.fits")
