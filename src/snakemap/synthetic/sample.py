"""Where the beam is at every point of a scan, and how brightly the sample answers there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scanspec.core import Path
from scanspec.specs import Spec

from snakemap.synthetic.paths import FAST, SLOW, spec_of
from snakemap.synthetic.patterns import PICTURES
from snakemap.synthetic.request import ScanRequest

__all__ = ["FAST", "SLOW", "Sample", "scan_spec"]

Floats: TypeAlias = npt.NDArray[np.float64]

BLOCK = 4096
"""Points whose brightness is worked out at one time; noise is drawn by the block, so no order of asking changes it."""

FIRST_GAIN = 0.55
"""Brightness of the beam at the first point; it rises evenly to 1 at the last, so the reference rises many times."""

JITTER = 0.015
"""Standard deviation of the beam's brightness from point to point."""

NOISE_STREAM = 0x5AFE
"""Keeps this noise apart from any other drawn from the same seed."""


def scan_spec(request: ScanRequest) -> Spec[str]:
    """The path of a scan: rows along stage-x, one after the other along stage-y, snaked or not; or another path.

    >>> spec = scan_spec(ScanRequest(shape=(2, 3), step_mm=0.5))
    >>> Path(spec.calculate()).consume().midpoints["stage-x"].tolist()
    [-2.0, -1.5, -1.0, -1.0, -1.5, -2.0]
    """
    return spec_of(request.route)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some points in a row: `(n, 2)` places in mm, slow axis first, and `(n, regions)` brightness."""

    number: int
    places: Floats
    brightness: Floats


class Sample:
    """The sample under the beam; a point's place follows from the scanspec and its number, from no clock.

    Args:
        request: the scan; its spec, its seed and the names of its regions are used.
        mirrored: whether the pictures are seen from behind, left and right exchanged.
    """

    def __init__(self, request: ScanRequest, *, mirrored: bool = False) -> None:
        self.request = request
        self.mirrored = mirrored
        self.spec = scan_spec(request)
        self.pictures = [list(PICTURES.values())[i % len(PICTURES)] for i in range(len(request.rectangles))]
        self._stack = self.spec.calculate()
        self._block: _Block | None = None

    def position(self, point: int) -> tuple[float, float]:
        """Stage-y and stage-x in mm of a point, numbered from 0."""
        y, x = self._look_up(point).places[point % BLOCK]
        return float(y), float(x)

    def positions(self, start: int, stop: int) -> Floats:
        """Stage-y and stage-x in mm of some points, `(stop - start, 2)`."""
        midpoints = Path(self._stack, start=start, num=stop - start).consume().midpoints
        return np.stack([midpoints[SLOW], midpoints[FAST]], axis=1)

    def brightness(self, point: int) -> Floats:
        """How bright each region is at a point: 0 (dark) to about 1, one number a region."""
        return self._look_up(point).brightness[point % BLOCK]

    def brightnesses(self, start: int, stop: int) -> Floats:
        """How bright each region is at some points, `(stop - start, regions)`; the same as one by one."""
        parts = [np.empty((0, len(self.pictures)))]
        while start < stop:
            block = self._look_up(start)
            end = min(stop, (block.number + 1) * BLOCK)
            parts.append(block.brightness[start - block.number * BLOCK : end - block.number * BLOCK])
            start = end
        return np.concatenate(parts)

    def _look_up(self, point: int) -> _Block:
        number = point // BLOCK
        block = self._block
        if block is None or block.number != number:
            start, stop = number * BLOCK, min((number + 1) * BLOCK, self.request.points)
            places = self.positions(start, stop)
            # replaced as a whole: the plan and the camera's thread may both ask
            block = self._block = _Block(number, places, self._shine(start, places))
        return block

    def _shine(self, start: int, places: Floats) -> Floats:
        request = self.request
        spans = np.maximum(np.array(request.shape) - 1, 1) * np.array(request.steps_mm)
        unit = (places - np.array(request.origin_mm)) / spans
        if self.mirrored:
            unit[:, 1] = 1.0 - unit[:, 1]
        # an axis of one point sees the middle of the picture
        unit[:, np.array(request.shape) == 1] = 0.5
        seen = np.stack([picture(unit[:, 1], unit[:, 0]) for picture in self.pictures], axis=1)
        progress = (start + np.arange(len(places))) / max(request.points - 1, 1)
        gain = FIRST_GAIN + (1.0 - FIRST_GAIN) * progress
        rng = np.random.default_rng((request.seed, NOISE_STREAM, start))
        jitter = 1.0 + JITTER * rng.standard_normal((BLOCK, seen.shape[1]))[: len(places)]
        return np.maximum(seen * gain[:, np.newaxis] * jitter, 0.0)
