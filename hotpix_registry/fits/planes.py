"""Masks and flags as image extensions: new ones, and those of a file that are joined with a mask."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ
from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.fits import blocks, canonical, tiles
from hotpix_registry.fits.blocks import HDU, padded
from hotpix_registry.fits.canonical import Card
from hotpix_registry.fits.streams import Bytes

ORIGIN = "hotpix-registry"
"""the ORIGIN of extensions that this program wrote"""

_DATA_TYPES: Mapping[int, np.dtype[Any]] = {
    8: np.dtype(">u1"),
    16: np.dtype(">u2"),
    32: np.dtype(">u4"),
    64: np.dtype(">u8"),
}


@dataclass(frozen=True, slots=True)
class PlainPlane:
    """An image of whole numbers that is to be joined with a mask."""

    raw: NDArray[Any]
    """(ny, nx) as stored, big-endian and unsigned"""
    flipped_sign: bool
    """whether unsigned numbers are stored with BZERO"""

    @classmethod
    def of(cls, source: Bytes, unit: HDU, shape: tuple[int, ...]) -> PlainPlane:
        name, values = unit.values.get("EXTNAME"), unit.values
        bitpix = blocks.whole(values.get("BITPIX")) or 0
        zero = values.get("BZERO", 0)
        unsigned = zero == 1 << (bitpix - 1) if bitpix > 8 else False
        if bitpix not in _DATA_TYPES or values.get("BSCALE", 1) != 1 or not (unsigned or zero == 0):
            raise _no_numbers(name)
        if not unit.is_image or blocks.image_shape(values) != shape:
            raise _other_shape(name, values, shape)
        if unit.n_bytes != math.prod(shape) * bitpix // 8:  # GCOUNT and PCOUNT announce others
            raise _no_numbers(name)
        stored = np.frombuffer(source.read_at(unit.start, unit.n_bytes), _DATA_TYPES[bitpix])
        return cls(stored.reshape(shape), unsigned)

    def values(self) -> NDArray[Any]:
        native = self.raw.astype(self.raw.dtype.newbyteorder("="))
        return native ^ self._sign(native) if self.flipped_sign else native

    def stored(self, values: NDArray[Any]) -> bytes:
        """The data of the HDU, without padding."""
        raw = values ^ self._sign(values) if self.flipped_sign else values
        return raw.astype(self.raw.dtype).tobytes()

    @staticmethod
    def _sign(values: NDArray[Any]) -> Any:
        return values.dtype.type(1 << (8 * values.itemsize - 1))


@dataclass(frozen=True, slots=True)
class CompressedPlane:
    """The same in compressed tiles: astropy unpacks it, and packs it again as it was."""

    hdu: Any

    @classmethod
    def of(cls, source: Bytes, start: int, unit: HDU, shape: tuple[int, ...]) -> CompressedPlane:
        from astropy.io import fits

        name, values = unit.values.get("EXTNAME"), blocks.image_values(unit.values)
        if blocks.image_shape(values) != shape:
            raise _other_shape(name, values, shape)
        stub = io.BytesIO()
        fits.PrimaryHDU().writeto(stub)
        end = unit.start + padded(unit.n_bytes)
        alone = io.BytesIO(stub.getvalue() + source.read_at(start, end - start))
        at = replace(unit, index=1, start=len(stub.getvalue()) + unit.start - start)
        _, hdu = tiles.open_image(alone, at, shape, scaled=True)
        with tiles.unpacking():
            data = hdu.data
        if data.dtype.kind not in "iu":
            raise _no_numbers(name)
        return cls(hdu)

    def values(self) -> NDArray[Any]:
        data: NDArray[Any] = self.hdu.data.reshape(self.hdu.data.shape[-2:])
        return data.astype(np.dtype(f"u{data.itemsize}"))

    def stored(self, values: NDArray[Any]) -> bytes:
        """The whole HDU."""
        from astropy.io import fits

        old = self.hdu.data
        header = self.hdu.header.copy()
        for keyword in ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM"):
            header.remove(keyword, ignore_missing=True)
        new = values.astype(old.dtype.newbyteorder("=")).reshape(old.shape)
        packed = fits.CompImageHDU(new, header, compression_type=self.hdu.compression_type)
        return _hdu_bytes(packed)


def plane_of(source: Bytes, start: int, unit: HDU, shape: tuple[int, ...]) -> PlainPlane | CompressedPlane:
    """The image of an HDU whose header begins at `start`.

    Raises
    ------
    UnreadableFrame
        When it holds no whole numbers, or has another shape.
    """
    if unit.is_compressed:
        return CompressedPlane.of(source, start, unit, shape)
    return PlainPlane.of(source, unit, shape)


def _no_numbers(name: Any) -> UnreadableFrame:
    return UnreadableFrame(
        f"The file has an extension {name} that is no image of whole numbers.",
        next_step="Rename or remove it.",
    )


def _other_shape(name: Any, values: Any, shape: tuple[int, ...]) -> UnreadableFrame:
    return UnreadableFrame(
        f"The file has an extension {name} of {axes_of(values)} pixels beside an image of "
        f"{shape[1]} x {shape[0]}.",
        next_step="Rename or remove it.",
    )


def compressed_extension(name: str, plane: NDArray[Any], n_axes: int) -> bytes:
    """The same as `plain_extension` in compressed tiles."""
    from astropy.io import fits

    hdu = fits.CompImageHDU(plane.reshape((1,) * (n_axes - 2) + plane.shape), name=name)
    hdu.header["ORIGIN"] = ORIGIN
    if plane.itemsize == 2:
        for flag in DQ:
            hdu.header["COMMENT"] = f"{flag.value}: {flag.name}"
    return _hdu_bytes(hdu)


def _hdu_bytes(hdu: Any) -> bytes:
    """An extension as astropy writes it, without the primary HDU before it."""
    from astropy.io import fits

    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    written = file.getvalue()
    return written[next(blocks.hdus(lambda offset, size: written[offset : offset + size])).start :]


def plain_extension(name: str, plane: NDArray[Any], n_axes: int) -> bytes:
    """An image extension of bytes, or of unsigned 16-bit numbers, with as many axes as the image has."""
    ny, nx = plane.shape
    bitpix = 8 * plane.itemsize
    data = plane.tobytes() if bitpix == 8 else (plane ^ np.uint16(0x8000)).astype(">u2").tobytes()
    data += canonical.padding(len(data))
    cards: list[Card] = [
        ("XTENSION", "IMAGE", "image extension"),
        ("BITPIX", bitpix, ""),
        ("NAXIS", n_axes, ""),
        ("NAXIS1", nx, ""),
        ("NAXIS2", ny, ""),
        *((f"NAXIS{i}", 1, "") for i in range(3, n_axes + 1)),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("BSCALE", 1 if bitpix == 16 else None, ""),
        ("BZERO", 32768 if bitpix == 16 else None, "unsigned 16-bit numbers"),
        ("EXTNAME", name, "0 good, 1 masked" if bitpix == 8 else "bit planes of hot pixels"),
        ("ORIGIN", ORIGIN, ""),
    ]
    if bitpix == 16:
        cards += [("COMMENT", f"{flag.value}: {flag.name}", "") for flag in DQ]
    return canonical.header(cards, data_sum=canonical.ones_complement_sum(data)) + data


def axes_of(values: Any) -> str:
    """`4096 x 2048` of a header's values."""
    n_axes = min(blocks.whole(values.get("NAXIS")) or 0, 9)
    return " x ".join(str(values.get(f"NAXIS{i}")) for i in range(1, n_axes + 1))
