"""A file is there whole or not at all, and the cache never gives wrong bytes."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotpix_registry.errors import IntegrityError, StorageError
from hotpix_registry.files import cache_file, cache_folder, network_file_system, write_atomic

ROOT = Path(__file__).parents[1]
CONTENT = b"a mask" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def in_a_process(script: str, **options: object) -> subprocess.CompletedProcess[str]:
    prelude = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom hotpix_registry.files import *\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + script], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload, no-any-return]


# --- writing ----------------------------------------------------------------


def test_what_is_written_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "mask.fits", CONTENT)
    assert path.read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["mask.fits"]


def test_an_existing_file_is_replaced_and_content_may_come_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "mask.fits").write_bytes(b"old")
    write_atomic(tmp_path / "mask.fits", (bytes([i]) for i in range(10)))
    assert (tmp_path / "mask.fits").read_bytes() == bytes(range(10))


def test_a_new_file_may_take_over_the_permissions_of_another(tmp_path: Path) -> None:
    (tmp_path / "raw.fits").write_bytes(b"old")
    (tmp_path / "raw.fits").chmod(0o640)
    path = write_atomic(tmp_path / "new.fits", CONTENT, mode_of=tmp_path / "raw.fits")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("a bug elsewhere")

    (tmp_path / "mask.fits").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="a bug elsewhere"):
        write_atomic(tmp_path / "mask.fits", pieces())
    assert (tmp_path / "mask.fits").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["mask.fits"]


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 250 + ".fits")
    assert write_atomic(path, b"x").read_bytes() == b"x"
    with pytest.raises(StorageError, match="Choose a shorter name"):
        write_atomic(tmp_path / ("m" * 300), b"x")


def test_a_missing_folder_a_file_as_folder_and_a_folder_as_file_are_each_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no such file or directory\. Create the folder first"):
        write_atomic(tmp_path / "missing" / "mask.fits", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"not a directory\. A part of this path is a file"):
        write_atomic(tmp_path / "file" / "mask.fits", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"is a directory\. This is a folder; name a file in it"):
        write_atomic(tmp_path / "folder", b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"permission denied\. Ask for write permission"):
            write_atomic(tmp_path / "mask.fits", b"x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "fork") or os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_of_somebody_else_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = in_a_process(
        f"import os; os.chdir({str(tmp_path)!r}); os.setuid(65534)\n"
        "try: write_atomic('mask.fits', b'x')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert done.stdout == (
        "StorageError mask.fits cannot be written: permission denied. "
        "Ask for write permission there, or write elsewhere.\n"
    ), done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, where the test may mount one."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mounts are tried on Linux only")
    libc = ctypes.CDLL(None, use_errno=True)
    folder = str(tmp_path / "disk")
    os.mkdir(folder)
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, b"size=64k"):
        pytest.skip(f"a small disk cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield Path(folder)
    finally:
        libc.umount2(folder.encode(), 2)


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file_alone(small_disk: Path) -> None:
    write_atomic(small_disk / "mask.fits", b"old")
    with pytest.raises(StorageError, match=r"no space left on device\. Free some space"):
        write_atomic(small_disk / "mask.fits", bytes(100_000))
    assert (small_disk / "mask.fits").read_bytes() == b"old"
    assert os.listdir(small_disk) == ["mask.fits"]


def test_a_read_only_disk_is_a_sentence(small_disk: Path) -> None:
    remount, read_only = 32, 1
    assert ctypes.CDLL(None).mount(None, str(small_disk).encode(), None, remount | read_only, None) == 0
    with pytest.raises(
        StorageError, match=r"read-only file system\. Write to a place that is not mounted read-only"
    ):
        write_atomic(small_disk / "mask.fits", b"x")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_a_limit_on_file_sizes_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    done = in_a_process(
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic('mask.fits', bytes(5000))\n"
        "except Exception as error: print(type(error).__name__, error)",
        cwd=tmp_path,
    )
    assert done.stdout == (
        "StorageError mask.fits cannot be written: file too large. "
        "Raise the limit on file sizes, or write to another disk.\n"
    ), done.stderr
    assert os.listdir(tmp_path) == []


def test_a_process_killed_while_writing_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from hotpix_registry.files import write_atomic\n"
        "def pieces():\n"
        "    yield bytes(100_000)\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
        "write_atomic('mask.fits', pieces())"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert not (tmp_path / "mask.fits").exists()
    assert all(name.startswith(".mask.fits.") and name.endswith(".tmp") for name in os.listdir(tmp_path))


# --- the cache --------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPIX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def not_needed() -> bytes:
    raise AssertionError("the file is in the cache")


def test_a_file_is_made_once_and_then_comes_from_the_cache(cache: Path) -> None:
    path = cache_file(SHA256, lambda: CONTENT)
    assert path.read_bytes() == CONTENT
    assert path.suffix == ".fits"
    assert path.is_relative_to(cache)
    assert cache_file(SHA256, not_needed) == path


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_a_corrupt_file_in_the_cache_is_replaced(damage: bytes) -> None:
    path = cache_file(SHA256, lambda: CONTENT)
    path.write_bytes(damage)
    assert cache_file(SHA256, lambda: CONTENT).read_bytes() == CONTENT


def test_a_file_that_was_touched_since_it_was_verified_is_verified_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache_file(SHA256, lambda: CONTENT)
    monkeypatch.setattr(time, "time_ns", lambda: 2**62)  # it was written long ago
    assert cache_file(SHA256, not_needed) == cache_file(SHA256, not_needed) == path
    path.write_bytes(CONTENT[::-1])
    os.utime(path, (1, 1))  # the clock of a file system may not have moved on within a test
    assert cache_file(SHA256, lambda: CONTENT).read_bytes() == CONTENT
    replaced = path.with_name("replaced")
    replaced.write_bytes(CONTENT[::-1])
    replaced.replace(path)
    assert cache_file(SHA256, lambda: CONTENT).read_bytes() == CONTENT


def test_what_killed_writers_left_in_the_cache_is_swept_after_a_day(cache: Path) -> None:
    folder = cache / SHA256[:2]
    folder.mkdir(parents=True)
    old, young, foreign = (
        folder / name for name in (f".a.{'0' * 16}.tmp", f".b.{'1' * 16}.tmp", ".c.notes.tmp")
    )
    for path in (old, young, foreign):
        path.write_bytes(b"half a mask")
    for path in (old, foreign):
        os.utime(path, (0, time.time() - 90_000))
    cache_file(SHA256, lambda: CONTENT)
    assert sorted(os.listdir(folder)) == sorted([young.name, foreign.name, f"{SHA256}.fits"])


def test_nothing_is_swept_outside_of_the_cache(tmp_path: Path) -> None:
    left = tmp_path / f".mask.fits.{'0' * 16}.tmp"
    left.write_bytes(b"half a mask")
    os.utime(left, (0, 0))
    write_atomic(tmp_path / "mask.fits", CONTENT)
    assert left.exists()


def test_wrong_bytes_are_never_stored(cache: Path) -> None:
    with pytest.raises(IntegrityError, match="have another digest"):
        cache_file(SHA256, lambda: b"something else")
    assert not cache.exists()


def test_a_cache_that_cannot_be_a_folder_is_a_sentence(cache: Path) -> None:
    cache.write_bytes(b"")
    with pytest.raises(StorageError, match="A part of this path is a file"):
        cache_file(SHA256, lambda: CONTENT)


def test_what_is_no_digest_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="is no sha256"):
        cache_file("../../etc/passwd", lambda: CONTENT)


def test_without_a_setting_the_cache_is_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOTPIX_CACHE_DIR")
    assert cache_folder().name in ("hotpix-registry", "Cache")


def ask_many_times(seed: int) -> set[bytes]:
    seen = set()
    for i in range(60):
        path = cache_file(SHA256, lambda: CONTENT)
        seen.add(path.read_bytes())
        if (i + seed) % 7 == 0:
            write_atomic(path, b"damaged whole" * 100)
    return seen - {b"damaged whole" * 100}


def test_many_processes_at_once_see_only_whole_files(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert all(seen <= {CONTENT} for seen in pool.map(ask_many_times, range(8)))
    assert cache_file(SHA256, lambda: CONTENT).read_bytes() == CONTENT
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [f"{SHA256}.fits"]


def test_nothing_heavy_is_imported_to_write_a_file() -> None:
    done = in_a_process(
        "print({'numpy', 'astropy', 'sqlalchemy', 'platformdirs', 'tempfile'} & set(sys.modules) or 'light')"
    )
    assert done.stdout == "light\n", done.stderr


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw,vers=4.2
41 40 0:41 / /home/anna/local\\040disk rw - xfs /dev/vdb rw
42 27 0:42 / /mnt/dome rw - fuse.sshfs dome: rw
43 27 0:43 / /mnt/over rw - nfs server:/over rw
44 27 0:44 / /mnt/over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/registry.sqlite", None),
        ("/home/anna/registry.sqlite", "nfs4"),
        ("/homes/registry.sqlite", None),
        ("/home/anna/local disk/registry.sqlite", None),
        ("/mnt/dome/registry.sqlite", "fuse.sshfs"),
        ("/mnt/over/registry.sqlite", None),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(path: str, kind: str | None) -> None:
    assert network_file_system(path, MOUNTS) == kind


def test_the_file_system_of_the_tests_is_asked_of_the_system(tmp_path: Path) -> None:
    assert network_file_system(tmp_path) in (None, "9p", "nfs4", "virtiofs")
