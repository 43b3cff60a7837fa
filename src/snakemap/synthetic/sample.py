"""The position of the beam at every point of a scan, and the brightness of the sample there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from snakemap.synthetic.paths import FAST, SLOW, spec_of
from snakemap.synthetic.patterns import PICTURES
from snakemap.synthetic.request import ScanRequest

if TYPE_CHECKING:
    from scanspec.specs import Spec

__all__ = ["FAST", "SLOW", "Sample", "scan_spec"]

Floats: TypeAlias = npt.NDArray[np.float64]

BLOCK = 4096
"""Points of a block; noise is drawn by the block, so it does not depend on the order of requests."""

FIRST_GAIN = 0.55
"""Brightness of the beam at the first point; it rises linearly to 1 at the last, so the reference rises many times."""

JITTER = 0.015
"""Standard deviation of the beam's brightness from point to point."""

NOISE_STREAM = 0x5AFE
"""Separates this noise from other noise of the same seed."""


def scan_spec(request: ScanRequest) -> Spec[str]:
    """Return the path of a scan: rows along stage-x, in sequence along stage-y, snaked or not; or another path.

    >>> from scanspec.core import Path
    >>> spec = scan_spec(ScanRequest(shape=(2, 3), step_mm=0.5))
    >>> Path(spec.calculate()).consume().midpoints["stage-x"].tolist()
    [-2.0, -1.5, -1.0, -1.0, -1.5, -2.0]
    """
    return spec_of(request.route)


@dataclass(frozen=True, slots=True)
class _Block:
    """Consecutive points: `(n, 2)` positions in mm, slow axis first, and `(n, regions)` brightness."""

    number: int
    positions: Floats
    brightness: Floats


class Sample:
    """The sample under the beam; a point's position follows from the scanspec and its number.

    Args:
        request: the scan; its spec, its seed and the names of its regions are used.
        mirrored: whether the patterns are mirrored, left and right exchanged.
    """

    def __init__(self, request: ScanRequest, *, mirrored: bool = False) -> None:
        self.request = request
        self.mirrored = mirrored
        self.spec = scan_spec(request)
        self.pictures = [list(PICTURES.values())[i % len(PICTURES)] for i in range(len(request.rectangles))]
        self._stack = self.spec.calculate()
        self._block: _Block | None = None

    def position(self, point: int) -> tuple[float, float]:
        """Return stage-y and stage-x in mm of a point, numbered from 0."""
        y, x = self._block_of(point).positions[point % BLOCK]
        return float(y), float(x)

    def positions(self, start: int, stop: int) -> Floats:
        """Return stage-y and stage-x in mm of points, `(stop - start, 2)`."""
        from scanspec.core import Path

        midpoints = Path(self._stack, start=start, num=stop - start).consume().midpoints
        return np.stack([midpoints[SLOW], midpoints[FAST]], axis=1)

    def brightness(self, point: int) -> Floats:
        """Return the brightness of each region at a point: 0 (dark) to about 1."""
        return self._block_of(point).brightness[point % BLOCK]

    def brightnesses(self, start: int, stop: int) -> Floats:
        """Return the brightness of each region at points, `(stop - start, regions)`; the same as one by one."""
        parts = [np.empty((0, len(self.pictures)))]
        while start < stop:
            block = self._block_of(start)
            end = min(stop, (block.number + 1) * BLOCK)
            parts.append(block.brightness[start - block.number * BLOCK : end - block.number * BLOCK])
            start = end
        return np.concatenate(parts)

    def _block_of(self, point: int) -> _Block:
        number = point // BLOCK
        block = self._block
        if block is None or block.number != number:
            start, stop = number * BLOCK, min((number + 1) * BLOCK, self.request.points)
            positions = self.positions(start, stop)
            # replaced atomically: the plan and the camera's thread may both read it
            block = self._block = _Block(number, positions, self._brightness_at(start, positions))
        return block

    def _brightness_at(self, start: int, positions: Floats) -> Floats:
        request = self.request
        spans = np.maximum(np.array(request.shape) - 1, 1) * np.array(request.steps_mm)
        unit = (positions - np.array(request.origin_mm)) / spans
        if self.mirrored:
            unit[:, 1] = 1.0 - unit[:, 1]
        # an axis of one point is in the middle of the pattern
        unit[:, np.array(request.shape) == 1] = 0.5
        seen = np.stack([picture(unit[:, 1], unit[:, 0]) for picture in self.pictures], axis=1)
        progress = (start + np.arange(len(positions))) / max(request.points - 1, 1)
        gain = FIRST_GAIN + (1.0 - FIRST_GAIN) * progress
        rng = np.random.default_rng((request.seed, NOISE_STREAM, start))
        jitter = 1.0 + JITTER * rng.standard_normal((BLOCK, seen.shape[1]))[: len(positions)]
        return np.maximum(seen * gain[:, np.newaxis] * jitter, 0.0)
