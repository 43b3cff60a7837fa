"""Frames of the simulated camera: three bright patches over a dim background, rendered and compressed fast.

Only the rows of the regions change from frame to frame. The rows above and below come from a few backgrounds that are
drawn and compressed once, which saves most of the time: a deflate stream is a concatenation of parts,

    header | rows above (ready) | rows of the regions (new) | rows below (ready) | empty block | checksum

if each part ends in a full flush and an empty block comes last (RFC 1951, 3.2.3 and 3.2.4); the checksums of the parts
add up (RFC 1950). A frame in color is three such planes in sequence.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snakemap.synthetic.patterns import Rect
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["FrameRenderer", "Rendered"]

BACKGROUNDS = 4
POOL_MARGIN = 61
HOT_FRACTION = 0.002
"""Share of hot pixels in the background."""

FULL_SCALE: dict[str, float] = {"uint8": 200.0, "uint16": 12_000.0, "int32": 200_000.0, "float32": 1_000.0}
"""The brightest pixel of a patch at brightness 1, in counts; shot noise goes above."""

FLOAT_STEP = 0.25
"""Quantum of float frames; it makes them compressible."""

SPREAD = 1.1
"""Maximum ratio of chunk sizes of equally bright frames."""

ADLER_BASE = 65_521
ZLIB_HEADER, LAST_BLOCK = b"\x78\x01", b"\x03\x00"

TINT = 0.35
"""Brightness of a region in the two planes of other colors: the first is red, the second green."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One frame for the file.

    Attributes:
        chunk: the bytes of its HDF5 chunk, compressed if requested.
        total: sum over all pixels.
        sums: sum over each region, in their order.
    """

    chunk: bytes | memoryview
    total: float
    sums: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Packed:
    """Constant rows: deflated bytes, checksum and length in bytes."""

    deflated: bytes
    adler: int
    size: int


class FrameRenderer:
    """Render the frames of one scan; the same index gives the same frame, in any order.

    Args:
        request: the scan.
        sample: the scanned sample; by default made from the request.
    """

    def __init__(self, request: ScanRequest, sample: Sample | None = None) -> None:
        self.request = request
        self.sample = sample or Sample(request)
        self.dtype = np.dtype(request.dtype)
        self.rects = list(request.rectangles.values())
        self.first_row = min(rect[0] for rect in self.rects)
        self.last_row = max(rect[1] for rect in self.rects)
        rng = np.random.default_rng((request.seed, 0xBAC6))
        self._backgrounds = [_background(request, rng) for _ in range(BACKGROUNDS)]
        self._outside = [self._outside_sum(background) for background in self._backgrounds]
        self._spots = [_spot(rect, kind) for kind, rect in enumerate(self.rects)]
        self._pools = [rng.standard_normal(_pool_shape(rect)).astype(np.float32) for rect in self.rects]
        self._above = [self._pack(background[: self.first_row]) for background in self._backgrounds]
        self._below = [self._pack(background[self.last_row :]) for background in self._backgrounds]
        # (planes, regions)
        self._tints = np.ones((1, len(self.rects)))
        if request.color:
            self._tints = np.where(np.arange(len(self.rects)) % 3 == np.arange(3)[:, np.newaxis], 1.0, TINT)

    def frame(self, index: int) -> npt.NDArray[np.generic]:
        """Return the frame of an index, `(height, width)` or `(3, height, width)`, as in the file."""
        return self._whole(index, self._bands(index))

    def render(self, index: int) -> Rendered:
        """Return the chunk of the frame of an index, with its sums."""
        bands = self._bands(index)
        sums = tuple(float(bands[:, *self._in_band(rect)].sum(dtype=np.float64)) for rect in self.rects)
        total = len(bands) * self._outside[index % BACKGROUNDS] + float(bands.sum(dtype=np.float64))
        chunk = self._deflate(index, bands) if self.request.gzip else self._whole(index, bands).data.cast("B")
        return Rendered(chunk, total, sums)

    def chunk_bytes(self) -> int:
        """Return the approximate maximum size of a chunk; exact without compression."""
        if not self.request.gzip:
            return self.request.frame_bytes
        # the brightest frame has the most noise, which is incompressible
        brightest = self._draw(0, np.ones(len(self.rects)))
        return int(SPREAD * len(self._deflate(0, np.stack([brightest] * len(self._tints)))))

    def _bands(self, index: int) -> npt.NDArray[np.generic]:
        """Return the rows of the regions, `(planes, rows, width)`."""
        brightness = self.sample.brightness(index // self.request.frames_per_point)
        return np.stack([self._draw(index, brightness * tints, plane) for plane, tints in enumerate(self._tints)])

    def _draw(self, index: int, brightness: npt.NDArray[np.float64], plane: int = 0) -> npt.NDArray[np.generic]:
        band = self._backgrounds[index % BACKGROUNDS][self.first_row : self.last_row].copy()
        full_scale = FULL_SCALE[self.request.dtype]
        for number, rect in enumerate(self.rects):
            box = self._in_band(rect)
            signal = np.float32(full_scale * float(brightness[number])) * self._spots[number]
            # shot noise of an 8-bit camera: the standard deviation is the root of the counts
            noise = self._noise(index, number, plane) * np.sqrt(signal * np.float32(full_scale / FULL_SCALE["uint8"]))
            band[box] = self._counts(band[box].astype(np.float32) + signal + noise)
        return band

    def _counts(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.generic]:
        if self.dtype.kind == "f":
            return (np.rint(np.maximum(values, 0) / FLOAT_STEP) * FLOAT_STEP).astype(self.dtype)
        return np.rint(np.clip(values, 0, np.iinfo(self.dtype).max)).astype(self.dtype)

    def _noise(self, index: int, number: int, plane: int) -> npt.NDArray[np.float32]:
        pool = self._pools[number]
        y0, y1, x0, x1 = self.rects[number]
        mixed = _mix(self.request.seed ^ (plane << 40) ^ (index * 8 + number))
        top, left = mixed % POOL_MARGIN, (mixed >> 20) % POOL_MARGIN
        return pool[top : top + y1 - y0, left : left + x1 - x0]

    def _in_band(self, rect: Rect) -> tuple[slice, slice]:
        y0, y1, x0, x1 = rect
        return slice(y0 - self.first_row, y1 - self.first_row), slice(x0, x1)

    def _outside_sum(self, background: npt.NDArray[np.generic]) -> float:
        above, below = background[: self.first_row], background[self.last_row :]
        return float(above.sum(dtype=np.float64) + below.sum(dtype=np.float64))

    def _whole(self, index: int, bands: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        planes = np.stack([self._backgrounds[index % BACKGROUNDS]] * len(bands))
        planes[:, self.first_row : self.last_row] = bands
        return planes if self.request.color else planes[0]

    def _pack(self, rows: npt.NDArray[np.generic]) -> _Packed:
        if not self.request.gzip:
            return _Packed(b"", 1, 0)
        data = np.ascontiguousarray(rows).data.cast("B") if rows.size else b""
        packer = zlib.compressobj(self.request.gzip, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
        return _Packed(deflated, zlib.adler32(data), len(data))

    def _deflate(self, index: int, bands: npt.NDArray[np.generic]) -> bytes:
        above, below = self._above[index % BACKGROUNDS], self._below[index % BACKGROUNDS]
        parts = [part for band in bands for part in (above, self._pack(band), below)]
        adler = 1
        for part in parts:
            adler = _add_adler(adler, part)
        deflated = (part.deflated for part in parts)
        return b"".join((ZLIB_HEADER, *deflated, LAST_BLOCK, adler.to_bytes(4, "big")))


def _add_adler(adler: int, part: _Packed) -> int:
    """Return the Adler-32 of two concatenated parts, from the checksum of the first and the second part.

    >>> _add_adler(zlib.adler32(b"snake"), _Packed(b"", zlib.adler32(b"map"), 3)) == zlib.adler32(b"snakemap")
    True
    """
    low, high = adler & 0xFFFF, adler >> 16
    part_low, part_high = part.adler & 0xFFFF, part.adler >> 16
    low_sum = (low + part_low - 1) % ADLER_BASE
    high_sum = (high + part_high + part.size * (low - 1)) % ADLER_BASE
    return high_sum << 16 | low_sum


def _mix(number: int) -> int:
    """Return a hash of 64 bits (the finalizer of splitmix64): cheap, and the same on all platforms."""
    mask = (1 << 64) - 1
    number = (number + 0x9E3779B97F4A7C15) & mask
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & mask
    return number ^ (number >> 31)


def _centers(count: int) -> npt.NDArray[np.float64]:
    """Return the centers of pixels that fill -1 to 1.

    >>> _centers(4).tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    return (2 * np.arange(count) + 1) / count - 1


def _pool_shape(rect: Rect) -> tuple[int, int]:
    y0, y1, x0, x1 = rect
    return y1 - y0 + POOL_MARGIN, x1 - x0 + POOL_MARGIN


def _background(request: ScanRequest, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    """Return a dim glow in three levels, brightest in the middle, with a few hot pixels."""
    height, width = request.frame_shape
    unit = FULL_SCALE[request.dtype] / FULL_SCALE["uint8"]
    y, x = _centers(height)[:, np.newaxis], _centers(width)
    glow = np.rint(1.0 + 2.0 * np.exp(-(x**2 + (1.6 * y) ** 2)))
    hot = rng.integers(0, height * width, size=int(height * width * HOT_FRACTION))
    glow.ravel()[hot] += rng.integers(1, 7, size=hot.size)
    return (glow * unit).astype(request.dtype)


def _spot(rect: Rect, kind: int) -> npt.NDArray[np.float32]:
    """Return a patch of light that fills a region, 0 to 1: round, ringed or slanted, to distinguish regions in a
    frame."""
    y0, y1, x0, x1 = rect
    y, x = _centers(y1 - y0)[:, np.newaxis], _centers(x1 - x0)
    radius = np.hypot(x, y)
    round_spot = np.exp(-0.5 * (radius / 0.34) ** 2)
    if kind % 3 == 1:
        round_spot = 0.75 * np.exp(-0.5 * (radius / 0.24) ** 2) + 0.5 * np.exp(-0.5 * ((radius - 0.66) / 0.09) ** 2)
    if kind % 3 == 2:
        round_spot = np.exp(-0.5 * (((x + y) / 0.68) ** 2 + ((x - y) / 0.36) ** 2))
    return np.clip(round_spot, 0.0, 1.0).astype(np.float32)
