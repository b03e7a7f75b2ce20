"""Files that are written whole or not at all, and the cache of mask files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hotpix_registry import settings
from hotpix_registry.errors import IntegrityError, StorageError, UsageError

_NEXT_STEPS = {
    errno.ENOSPC: "Free some space, or write to another disk.",
    errno.EDQUOT: "Free some of your quota, or write to another disk.",
    errno.EFBIG: "Raise the limit on file sizes, or write to another disk.",
    errno.EACCES: "Ask for write permission there, or write elsewhere.",
    errno.EPERM: "Ask for write permission there, or write elsewhere.",
    errno.EROFS: "Write to a place that is not mounted read-only.",
    errno.ENOENT: "Create the folder first, or write elsewhere.",
    errno.ENOTDIR: "A part of this path is a file where a folder is needed; correct the path.",
    errno.EEXIST: "A part of this path is a file where a folder is needed; correct the path.",
    errno.EISDIR: "This is a folder; name a file in it.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp(-wal|-shm|-journal)?$")
_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "moosefs"}
    | {"ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "panfs", "rclone", "s3fs", "smb", "smb3", "smbfs", "sshfs"}
    | {"vboxsf", "virtiofs"}
)
_MAGIC = b"SQLite format 3\0"
_ABANDONED_AFTER_S = 86_400
_SETTLED_AFTER_NS = 2_000_000_000
"""what was written later may be written again without another time in the file system's clock"""
_MOST_VERIFIED = 10_000
_verified: dict[Path, tuple[int, ...]] = {}
"""cached files as they were when this process found their digest right"""


def temporary_beside(path: Path) -> Path:
    """A new name beside a file, as whatever is not whole yet bears it: `sweep` knows it."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")


def write_atomic(
    path: str | Path,
    content: bytes | Iterable[bytes],
    *,
    mode_of: str | Path | None = None,
    lasting: bool = True,
) -> Path:
    """Write a file so that its name shows the whole new content or what was there before.

    The bytes go to a temporary file beside it, reach the disk, and take the name in one step. The new file
    has the permissions of `mode_of`. One that need not outlast a power failure is not waited for.

    Raises
    ------
    StorageError
        When the place is full, forbidden, read-only or no folder; nothing is left behind.
    """
    path = Path(path)
    pieces = (content,) if isinstance(content, bytes | bytearray | memoryview) else content
    temporary = temporary_beside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not path.is_file():
            # a device or a pipe, such as /dev/null: a new file must not take its name
            with path.open("wb") as device:
                device.writelines(pieces)
            return path
        try:
            with temporary.open("xb") as file:
                file.writelines(pieces)
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            if mode_of is not None:
                shutil.copymode(mode_of, temporary)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if lasting:
            _sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


@contextmanager
def whole_database(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A path beside `path` for an SQLite file to be made; it takes the name when the block ends well.

    Raises
    ------
    UsageError
        When `path` exists and may not be replaced, or is in use by somebody.
    StorageError
        When the place is full, forbidden or no folder; nothing is left behind.
    """
    temporary = temporary_beside(path)
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not replace:
            raise _exists(path)
        for helper in _helpers(path):
            if helper.exists() and helper.stat().st_size:  # SQLite would take it for that of the new file
                raise UsageError(
                    f"{path} is in use ({helper.name} lies beside it).", next_step="Name another."
                )
        sweep(path.parent)
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if replace or not _name_new(temporary, path):
            temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            said = error.message.replace(str(temporary), str(path))
            raise StorageError(said, next_step=error.next_step) from error
        raise storage_error(path, error) from error
    finally:
        for left in (temporary, *_helpers(temporary)):
            with contextlib.suppress(OSError):
                left.unlink()


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists already.", next_step="Name another file, or write over it with --replace."
    )


def _name_new(temporary: Path, path: Path) -> bool:
    """Give a file a name that nobody has taken meanwhile; False where the file system has no links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        return False
    return True


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _helpers(path: Path) -> list[Path]:
    """What SQLite writes beside a database while it is in use."""
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def network_file_system(path: str | Path, mounts: str | None = None) -> str | None:
    """What kind of network file system a path lies on, such as `nfs4`; None on a disk of this machine.

    Parameters
    ----------
    mounts
        the text of Linux's /proc/self/mountinfo; None reads it. Where there is none, a share is known by its
        name alone (`\\\\server\\share` on Windows).
    """
    absolute = os.path.realpath(path)
    if absolute.startswith("\\\\"):
        return "smb"
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return None
    kind, longest = "", -1
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        within = point == "/" or absolute == point or absolute.startswith(point + "/")
        if within and len(point) >= longest:  # of two mounted at one place the later is seen
            kind, longest = rest.split(" ")[0], len(point)
    return kind if kind.removeprefix("fuse.") in _NETWORK else None


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it; one that is there already is fine.

    Raises
    ------
    StorageError
        When it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def storage_error(path: str | Path, error: OSError) -> StorageError:
    """The sentence for the user when a file cannot be written: what, why, what to do."""
    reason = (error.strerror or str(error)).lower()
    return StorageError(
        f"{path} cannot be written: {reason}.",
        next_step=_NEXT_STEPS.get(error.errno or 0, ""),
        reason=reason,
    )


def _sync_folder(folder: Path) -> None:
    # The rename itself lasts only once the folder is on disk; Windows cannot open folders, and some
    # network file systems refuse to sync them.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cache_folder() -> Path:
    """`HOTPIX_CACHE_DIR`, `cache_dir` of hotpix.toml, or the place where this system keeps caches."""
    return settings.cache_dir()


def cache_file(sha256: str, produce: Callable[[], bytes], *, folder: Path | None = None) -> Path:
    """Return the path of a cached `.fits` file with this sha256, writing it when it is not there.

    What is already there is verified by reading it, and replaced when it is corrupt; a process reads it
    again when the file system says that somebody touched it since. Any number of processes may ask for the
    same file at the same time: each sees a whole file.

    Parameters
    ----------
    produce
        makes the bytes; called only when they are needed
    folder
        another cache than that of the settings

    Raises
    ------
    IntegrityError
        When the bytes made do not have this sha256; they are not stored.
    StorageError
        When the cache cannot be written.
    """
    if re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise ValueError(f"'{sha256}' is no sha256")
    path = (folder or cache_folder()) / sha256[:2] / f"{sha256}.fits"
    if _is_whole(path, sha256):
        return path
    content = produce()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityError(
            f"The bytes made for {sha256} have another digest.", next_step="Run hotpix-registry db check."
        )
    sweep(make_folder(path.parent))
    return write_atomic(path, content)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed more than a day ago left in a folder, whatever it was to be."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _TEMPORARY.match(entry.name):
                continue
            # Another process may sweep at the same time.
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime > _ABANDONED_AFTER_S:
                    os.unlink(entry.path)


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            found = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            if _verified.get(path) == found:
                return True
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
    except OSError:
        return False
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_AFTER_NS:
        if len(_verified) >= _MOST_VERIFIED:
            _verified.clear()
        _verified[path] = found
    return True
