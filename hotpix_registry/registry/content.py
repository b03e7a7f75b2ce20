"""What a stored mask holds: its file, its pixels, its numbers; verified whenever it is read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import Source, reading
from hotpix_registry.catalogue.replicas import retried
from hotpix_registry.errors import damaged_row
from hotpix_registry.registry.masks import find_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.fits.flagged import Flagged


def file(engine: Source, mask_id: int, preset: str = "default") -> bytes:
    """The canonical FITS file of a mask, or what a preset derives from it.

    Raises
    ------
    IntegrityError
        The stored bytes are damaged.
    """
    from hotpix_registry.fits.packing import unpack

    if preset != "default":
        return export(engine, mask_id, "fits", preset)
    encoding, blob, _, sha256 = stored(engine, mask_id)
    return unpack(encoding, blob, sha256=sha256)


def export(engine: Source, mask_id: int, file_format: str, preset: str) -> bytes:
    """A mask in another format: fits, npy, ecsv, ds9, lsst or siril."""
    from hotpix_registry.fits import exports

    return exports.export(file(engine, mask_id), file_format, preset).content


def path(engine: Source, mask_id: int, preset: str) -> Path:
    """The mask file on disk, in the content-addressed cache."""
    from hotpix_registry.files import cache_file

    if preset != "default":
        derived = file(engine, mask_id, preset)
        return cache_file(hashlib.sha256(derived).hexdigest(), lambda: derived)
    with reading(engine) as connection:
        sha256 = find_mask(connection, mask_id).sha256
    return cache_file(sha256, lambda: file(engine, mask_id))


def array(engine: Source, mask_id: int, preset: str = "default") -> NDArray[np.bool_]:
    """(ny, nx) bool, True = masked under a preset."""
    from hotpix_registry.fits.packing import unpack_bad

    if preset != "default":
        from hotpix_registry.fits.exports import preset_mask

        return preset_mask(dq(engine, mask_id), preset)
    encoding, blob, blob_sha256, _ = stored(engine, mask_id)
    return unpack_bad(encoding, blob, blob_sha256=blob_sha256)


def dq(engine: Source, mask_id: int) -> NDArray[np.uint16]:
    """(ny, nx) uint16 of `domain.DQ` bits, 0 = good."""
    from hotpix_registry.fits.packing import unpack_dq

    encoding, blob, blob_sha256, _ = stored(engine, mask_id)
    return unpack_dq(encoding, blob, blob_sha256=blob_sha256)


def flagged(engine: Source, mask_id: int) -> Flagged:
    """The flagged pixels of a mask."""
    from hotpix_registry.fits.packing import unpack_flagged

    encoding, blob, blob_sha256, _ = stored(engine, mask_id)
    return unpack_flagged(encoding, blob, blob_sha256=blob_sha256)


def raw_section(engine: Source, mask_id: int) -> str | None:
    """FITS section of the raw frame that a mask covers; None is the whole frame."""
    from hotpix_registry.fits.maskfile import read_raw_section
    from hotpix_registry.fits.packing import unpack_header

    encoding, blob, blob_sha256, _ = stored(engine, mask_id)
    return read_raw_section(unpack_header(encoding, blob, blob_sha256=blob_sha256))


def numbers_in(stored: bytes, mask_id: int) -> dict[str, NDArray[Any]]:
    """What the plots of a build draw, by name; empty for a mask that no build made.

    Raises
    ------
    IntegrityError
        The bytes of the mask's row are damaged.
    """
    import io
    import zipfile
    import zlib

    import numpy as np

    try:
        with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        raise damaged_row(f"numbers of the pictures of mask {mask_id}") from None


def stored(engine: Source, mask_id: int) -> tuple[str, bytes, str, str]:
    """(encoding, blob, blob_sha256, sha256) of a mask."""

    def read() -> tuple[str, bytes, str, str]:
        with reading(engine) as connection:
            find_mask(connection, mask_id)
            return queries.mask_blob(connection, mask_id)

    return retried(engine, read)
