"""Images in compressed tiles, which astropy unpacks: what it would believe is looked at before."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits import blocks
from hotpix_registry.fits.blocks import HDU, Value
from hotpix_registry.fits.streams import COPY_AGAIN

_MOST_TILE_BYTES = 1 << 30
_MOST_COLUMNS = 999
_BITPIX = (8, 16, 32, 64, -32, -64)


def open_image(
    file: Path | str | IO[bytes], unit: HDU, shape: tuple[int, int], *, scaled: bool
) -> tuple[Any, Any]:
    """Astropy's list of HDUs, to be closed, and in it the HDU with the tiles of an image (ny, nx).

    Parameters
    ----------
    scaled
        whether BSCALE and BZERO are applied when it is unpacked

    Raises
    ------
    UnreadableFrame
        When the table makes no sense, or astropy reads the headers otherwise than `blocks.hdus` does: an
        END that got lost makes one HDU of two, and another image would be unpacked.
    """
    from astropy.io import fits

    _check(unit.values, shape)
    with unpacking():
        hdus = fits.open(file, memmap=False, do_not_scale_image_data=not scaled)
        try:
            hdu = hdus[unit.index]
            is_it = (
                isinstance(hdu, fits.CompImageHDU)
                and _located(hdu)["datLoc"] == unit.start
                and hdu.shape[-2:] == shape
            )
        except BaseException:
            hdus.close()
            raise
    if not is_it:
        hdus.close()
        raise _corrupt("its headers can be read in more than one way")
    return hdus, hdu


def _located(hdu: Any) -> Any:
    """Where an HDU lies in its file; of one with tiles, astropy 7.0 knows it of the table that it is."""
    return hdu.fileinfo() or hdu._bintable.fileinfo()


@contextmanager
def unpacking() -> Iterator[None]:
    """Make a sentence of what astropy raises over tiles that make no sense.

    Raises
    ------
    UnreadableFrame
    """
    from astropy.utils.exceptions import AstropyUserWarning

    with np.errstate(all="ignore"), warnings.catch_warnings():
        # numbers that are infinite or none; keywords that are no standard's; a last block without its
        # padding, while it is known by now whether the data are whole
        warnings.simplefilter("ignore", AstropyUserWarning)
        try:
            yield
        except _errors() as error:
            raise _corrupt(f"its compressed tiles cannot be read: {error}") from error


def _check(values: Mapping[str, Value], shape: tuple[int, int]) -> None:
    """Check what a table of tiles announces, since astropy believes it: a loop or memory for each of it.

    Raises
    ------
    UnreadableFrame
        When the table has not one row for each tile, or a tile is larger than any that is written.
    """
    columns, rows = blocks.whole(values.get("TFIELDS")), blocks.whole(values.get("NAXIS2"))
    bitpix = blocks.whole(values.get("ZBITPIX"))
    usual = (1, shape[1])
    tile = [blocks.whole(values.get(f"ZTILE{i}", n)) or 0 for i, n in ((2, usual[0]), (1, usual[1]))]
    known = columns is not None and 1 <= columns <= _MOST_COLUMNS and bitpix in _BITPIX
    if not known or any(not 1 <= length <= whole for length, whole in zip(tile, shape, strict=True)):
        raise _corrupt("its table of tiles makes no sense")
    n_tiles = math.prod(-(-whole // length) for length, whole in zip(tile, shape, strict=True))
    if rows != n_tiles:
        raise _corrupt(f"it has {rows} of {n_tiles} tiles")
    if math.prod(tile) * abs(bitpix or 0) // 8 > _MOST_TILE_BYTES:
        raise _corrupt(f"a tile of it has more than {_MOST_TILE_BYTES >> 30} GiB")


def _errors() -> tuple[type[Exception], ...]:
    """What astropy and its decompressors raise over tables that do not make sense; it documents nothing."""
    from astropy.io.fits.verify import VerifyError

    known = (
        *(OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, zlib.error),
        *(AttributeError, AssertionError, MemoryError, VerifyError),
    )
    with suppress(ImportError):  # it has no public name
        from astropy.io.fits.hdu.compressed._compression import CfitsioException

        return (*known, CfitsioException)
    return known


def _corrupt(how: str) -> UnreadableFrame:
    return UnreadableFrame(f"The file is corrupt: {how}.", next_step=COPY_AGAIN)
