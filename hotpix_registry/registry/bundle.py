"""A bundle of files with their digests: a folder, or a zip that is the same for the same files."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import zipfile
from collections.abc import Iterable
from pathlib import Path

from hotpix_registry.errors import StorageError
from hotpix_registry.files import storage_error, write_atomic

SUMS = "SHA256SUMS"
_STAMP = (1980, 1, 1, 0, 0, 0)


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write (name, content) after (name, content), and SHA256SUMS of them last; one file in memory at a time.

    Raises
    ------
    StorageError
        It cannot be written, or the folder holds something already.
    """
    if path.suffix.lower() == ".zip":
        return _write_zip(path, files)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StorageError(
                f"{path} is there already.", next_step="Choose a new folder, or a name that ends in .zip."
            )
        sums = []
        for name, content in files:
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, content)
            sums.append(_line(name, content))
        write_atomic(path / SUMS, "".join(sorted(sums)).encode())
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def _write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            sums = []
            with zipfile.ZipFile(temporary, "x") as archive:
                for name, content in files:
                    _add(archive, name, content)
                    sums.append(_line(name, content))
                _add(archive, SUMS, "".join(sorted(sums)).encode())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _STAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # else Windows would write another byte
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _line(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"
