"""A bundle of files with their digests: a folder, or a zip that is the same for the same files."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from hotpix_registry.errors import StorageError
from hotpix_registry.files import storage_error, temporary_beside, write_atomic

SUMS = "SHA256SUMS"
_STAMP = (1980, 1, 1, 0, 0, 0)


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write (name, content) after (name, content), and SHA256SUMS of them last; one file in memory at a time.

    Raises
    ------
    StorageError
        It cannot be written, or the folder holds something already.
    """
    write_it = _write_zip if path.suffix.lower() == ".zip" else _write_folder
    try:
        write_it(path.absolute(), files)
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def _write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    is_new = not path.exists()
    if not is_new and (not path.is_dir() or any(path.iterdir())):
        raise StorageError(
            f"{path} is there already.", next_step="Choose a new folder, or a name that ends in .zip."
        )
    temporary = temporary_beside(path if is_new else path / path.name)
    temporary.mkdir(parents=True)
    try:
        sums = []
        for name, content in files:
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, content)
            sums.append(_line(name, content))
        write_atomic(temporary / SUMS, "".join(sorted(sums)).encode())
        if is_new:
            temporary.rename(path)
        else:
            for entry in sorted(temporary.iterdir(), key=lambda entry: entry.name == SUMS):
                entry.rename(path / entry.name)
    except StorageError as error:
        said = error.message.replace(str(temporary), str(path))
        raise StorageError(said, next_step=error.next_step) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    temporary = temporary_beside(path)
    try:
        sums = []
        with zipfile.ZipFile(temporary, "x") as archive:
            for name, content in files:
                _add(archive, name, content)
                sums.append(_line(name, content))
            _add(archive, SUMS, "".join(sorted(sums)).encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _STAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # else Windows would write another byte
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _line(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"
