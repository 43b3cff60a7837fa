"""The request for a simulated scan: its shape, rate, frames and ending, validated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from snakemap.core.channels import TOTAL
from snakemap.errors import SettingsError
from snakemap.synthetic.paths import PathKind, Route, points_of
from snakemap.synthetic.patterns import INSTRUMENT_FRAME, INSTRUMENT_ROIS, Rect

__all__ = ["Dtype", "Ending", "GeometryForm", "Mode", "PathKind", "ScanRequest", "default_rois", "shape_from_text"]

Mode: TypeAlias = Literal["step", "fly"]
Ending: TypeAlias = Literal["complete", "abort", "fail", "stop", "lose"]
Dtype: TypeAlias = Literal["uint8", "uint16", "int32", "float32"]
GeometryForm: TypeAlias = Literal["scanspec", "shape", "grid", "repr", "nothing"]
POINTS_MAX = 4_000_000
FRAME_SIDE_MIN, FRAME_SIDE_MAX = 4, 8192
SIDE_MIN: dict[str, int] = {"grid": 1, "spiral": 2, "ellipse": 3}
"""Minimum points along each side of a path, for a diameter and a point."""

ITEM_BYTES: dict[str, int] = {"uint8": 1, "uint16": 2, "int32": 4, "float32": 4}

SHAPE_PATTERN = re.compile(r"\s*(\d{1,7})\s*[xX]\s*(\d{1,7})\s*")


def shape_from_text(text: str) -> tuple[int, int]:
    """Parse a shape, slow axis by fast axis.

    Raises:
        SettingsError: the text is no shape.

    >>> shape_from_text("60x100")
    (60, 100)
    """
    match = SHAPE_PATTERN.fullmatch(text)
    if match is None:
        raise SettingsError(f"shape: {text!r} is not slow x fast, like 60x100")
    return int(match[1]), int(match[2])


def default_rois(frame_shape: tuple[int, int]) -> dict[str, Rect]:
    """Return the instrument's rectangles, scaled to a frame of another size; none is empty.

    >>> default_rois((1216, 1936))["red"]
    (610, 760, 95, 245)
    >>> default_rois((128, 96))["red"]
    (64, 80, 5, 12)
    """
    height, width = frame_shape
    rois = {}
    for name, (y0, y1, x0, x1) in INSTRUMENT_ROIS.items():
        rows = _scaled(y0, y1, height / INSTRUMENT_FRAME[0], height)
        columns = _scaled(x0, x1, width / INSTRUMENT_FRAME[1], width)
        rois[name] = (*rows, *columns)
    return rois


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """One scan to simulate.

    Attributes:
        shape: points along the slow axis (stage-y) and the fast axis (stage-x), like ``(60, 60)``.
        mode: ``"step"`` moves, stops, takes an event per point; ``"fly"`` moves continuously and announces batches.
        rate_hz: points per second, like 20; 0 is as fast as possible.
        snake: whether every second row runs backwards.
        frame_shape: rows and columns of the camera, like ``(1216, 1936)``.
        dtype: of its pixels.
        gzip: compression level of the file, 1 (fast) to 9; 0 is none.
        seed: of all noise; the same request makes the same frames.
        ending: ``"complete"``; ``"abort"`` by a user; ``"fail"``, the plan raises; ``"stop"``, early but with success;
            ``"lose"``, no more documents, not even a stop.
        ending_after: points announced before it ends early; None is half. The camera of a fly scan takes a few more
            frames.
        frames_per_point: frames of one point, like 1.
        flush_period_s: seconds between two announcements of a fly scan, like 0.5.
        step_mm: distance of two points, like 0.05.
        slow_step_mm: distance of two rows of a grid; 0 is the distance of two points.
        origin_mm: stage-y and stage-x of the first point, like ``(1.0, -2.0)``.
        stage_speed_mm_s: of the stage in a step scan; 0 is at once.
        rois: name to `(y0, y1, x0, x1)`; None is the instrument's three, scaled to the frame.
        final_idle: whether the worker of a lost run still reports that it is idle.
        plan_name: in the start document; empty is ``"simulated_step_scan"`` or ``"simulated_fly_scan"``.
        path: ``"grid"``; ``"spiral"``; ``"ellipse"``, those points of the grid that lie inside one. The diameters are
            the sides of the rectangle that `shape` and `step_mm` span.
        tells: the geometry in the start document: ``"scanspec"``, its JSON; ``"shape"`` alone; ``"grid"``, shape,
            snaking and extents as ``grid_scan``; ``"repr"``, Python's repr of the scanspec as ``spec_scan``;
            ``"nothing"``.
        readbacks: whether the events of a step scan hold the stage's positions; a fly scan has no events.
        wrong_sum_at: seq_nums, like ``(3, 7)``, for which the camera's own sum is 1000 counts too high.
        cameras: 1, or 2: `camera2` sees the sample mirrored, in frames half as high and wide, in its own file.
        color: whether frames are RGB1: three planes, `(3, height, width)`; a sum is over all of them.
        positions_file: whether a fly scan's positions go to a second HDF5 file, as from a PandA.
        baseline: whether the stage is read before the first and after the last point, in its own stream.

    Raises:
        SettingsError: with the first invalid field, and the reason.
    """

    shape: tuple[int, int] = (60, 60)
    mode: Mode = "step"
    rate_hz: float = 20.0
    snake: bool = True
    frame_shape: tuple[int, int] = INSTRUMENT_FRAME
    dtype: Dtype = "uint8"
    gzip: int = 1
    seed: int = 0
    ending: Ending = "complete"
    ending_after: int | None = None
    frames_per_point: int = 1
    flush_period_s: float = 0.5
    step_mm: float = 0.05
    slow_step_mm: float = 0.0
    origin_mm: tuple[float, float] = (1.0, -2.0)
    stage_speed_mm_s: float = 0.0
    rois: Mapping[str, Rect] | None = None
    final_idle: bool = True
    plan_name: str = ""
    path: PathKind = "grid"
    tells: GeometryForm = "scanspec"
    readbacks: bool = True
    wrong_sum_at: tuple[int, ...] = ()
    cameras: int = 1
    color: bool = False
    positions_file: bool = False
    baseline: bool = False

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_sizes()
        self._check_numbers()
        self._check_path()
        self._check_ending()
        self._check_devices()
        if not self.rectangles:
            raise SettingsError("rois: there is none; leave them out for the instrument's own")
        for name, rect in self.rectangles.items():
            _check_rect(name, rect, frame_shape=self.frame_shape)

    @property
    def points(self) -> int:
        """Points of the whole scan; fewer than in the shape on any path but a grid."""
        return points_of(self.route)

    @property
    def route(self) -> Route:
        """The parameters of the path."""
        return (self.path, self.shape, self.steps_mm, self.origin_mm, self.snake)

    @property
    def steps_mm(self) -> tuple[float, float]:
        """Distances of two rows, and of two points of a row."""
        return (self.slow_step_mm or self.step_mm, self.step_mm)

    @property
    def points_announced(self) -> int:
        """Points announced by documents before the requested end."""
        if self.ending == "complete":
            return self.points
        return max(1, self.points // 2) if self.ending_after is None else self.ending_after

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return math.prod(self.dataset_shape) * ITEM_BYTES[self.dtype]

    @property
    def dataset_shape(self) -> tuple[int, ...]:
        """One frame's shape in the file: `(height, width)`, or `(3, height, width)` in color."""
        return (3, *self.frame_shape) if self.color else self.frame_shape

    @property
    def rectangles(self) -> dict[str, Rect]:
        """The regions of the frame with the patterns, `(y0, y1, x0, x1)` half open."""
        return default_rois(self.frame_shape) if self.rois is None else dict(self.rois)

    @property
    def plan(self) -> str:
        """The plan's name in the start document."""
        return self.plan_name or f"simulated_{self.mode}_scan"

    def of_second_camera(self) -> ScanRequest:
        """Return the same scan for `camera2` alone, with frames half as high and wide."""
        height, width = self.frame_shape[0] // 2, self.frame_shape[1] // 2
        rois = {
            name: (*_scaled(y0, y1, 0.5, height), *_scaled(x0, x1, 0.5, width))
            for name, (y0, y1, x0, x1) in self.rectangles.items()
        }
        return replace(self, cameras=1, frame_shape=(height, width), rois=rois, wrong_sum_at=())

    def as_dict(self) -> dict[str, Any]:
        """Return the request as plain JSON types, for the start document and the file."""
        plain = asdict(self)
        for name in ("shape", "frame_shape", "origin_mm", "wrong_sum_at"):
            plain[name] = list(plain[name])
        plain["rois"] = {name: list(rect) for name, rect in self.rectangles.items()}
        return plain

    def _check_choices(self) -> None:
        kinds = {"mode": Mode, "ending": Ending, "dtype": Dtype, "path": PathKind, "tells": GeometryForm}
        for name, kind in kinds.items():
            choices = get_args(kind)
            if getattr(self, name) not in choices:
                raise SettingsError(f"{name}: {getattr(self, name)!r} is none of {', '.join(choices)}")
        for name in ("readbacks", "color", "positions_file", "baseline"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name}: {getattr(self, name)!r} is neither True nor False")

    def _check_sizes(self) -> None:
        for name in ("shape", "frame_shape"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2 or not all(_whole(side) for side in pair):
                raise SettingsError(f"{name}: {pair!r} is not two whole numbers, slow (or rows) first")
        if min(self.shape) < 1 or self.shape[0] * self.shape[1] > POINTS_MAX:
            raise SettingsError(f"shape: {self.shape[0]}x{self.shape[1]} is not 1 to {POINTS_MAX:,} points")
        if not all(FRAME_SIDE_MIN <= side <= FRAME_SIDE_MAX for side in self.frame_shape):
            sides = f"{self.frame_shape[0]}x{self.frame_shape[1]}"
            raise SettingsError(f"frame_shape: {sides} has a side not within {FRAME_SIDE_MIN} to {FRAME_SIDE_MAX}")
        if not _whole(self.frames_per_point) or not 1 <= self.frames_per_point <= 1000:
            raise SettingsError(f"frames_per_point: {self.frames_per_point!r} is not within 1 to 1000")

    def _check_numbers(self) -> None:
        bounds = {
            "rate_hz": (0.0, 1e6),
            "flush_period_s": (0.001, 60.0),
            "step_mm": (1e-9, 1e3),
            "slow_step_mm": (0.0, 1e3),
            "stage_speed_mm_s": (0.0, 1e6),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not _real(value) or not low <= value <= high:
                raise SettingsError(f"{name}: {value!r} is not within {low:g} to {high:g}")
        if not _whole(self.gzip) or not 0 <= self.gzip <= 9:
            raise SettingsError(f"gzip: {self.gzip!r} is not a level from 0 (none) to 9")
        if not _whole(self.seed) or not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed: {self.seed!r} is not a whole number from 0 to {2**32 - 1}")
        if not isinstance(self.origin_mm, tuple) or len(self.origin_mm) != 2 or not all(map(_real, self.origin_mm)):
            raise SettingsError(f"origin_mm: {self.origin_mm!r} is not stage-y and stage-x in mm")

    def _check_path(self) -> None:
        side_min = SIDE_MIN[self.path]
        if min(self.shape) < side_min:
            sides = f"{self.shape[0]}x{self.shape[1]}"
            raise SettingsError(f"path: {self.path} needs {side_min} points along each side, and the shape is {sides}")
        if not 1 <= self.points <= POINTS_MAX:
            raise SettingsError(f"path: {self.path} has {self.points:,} points, not 1 to {POINTS_MAX:,}")
        if self.slow_step_mm not in (0.0, self.step_mm) and self.path != "grid":
            raise SettingsError(f"slow_step_mm: {self.path} has one distance of points in all directions")
        if self.tells == "grid" and self.path != "grid":
            raise SettingsError(f"tells: a start document cannot describe {self.path} as a grid; scanspec and repr can")

    def _check_devices(self) -> None:
        seq_nums = self.wrong_sum_at
        if not isinstance(seq_nums, tuple) or not all(
            _whole(number) and 1 <= number <= self.points for number in seq_nums
        ):
            raise SettingsError(f"wrong_sum_at: {seq_nums!r} are not seq_nums from 1 to {self.points:,}")
        if not _whole(self.cameras) or self.cameras not in (1, 2):
            raise SettingsError(f"cameras: {self.cameras!r} is neither 1 nor 2")
        if self.cameras == 2 and min(self.frame_shape) < 2 * FRAME_SIDE_MIN:
            sides = f"{self.frame_shape[0]}x{self.frame_shape[1]}"
            raise SettingsError(f"cameras: half a frame of {sides} has a side below {FRAME_SIDE_MIN}")
        if self.positions_file and self.mode != "fly":
            raise SettingsError("positions_file: a step scan has its positions in its events; choose fly")

    def _check_ending(self) -> None:
        if self.ending_after is None:
            return
        if self.ending == "complete":
            raise SettingsError("ending_after: a complete scan ends after its last point; choose another ending")
        if not _whole(self.ending_after) or not 0 <= self.ending_after <= self.points:
            raise SettingsError(f"ending_after: {self.ending_after!r} is not within 0 to {self.points:,} points")


def _scaled(start: int, stop: int, scale: float, side: int) -> tuple[int, int]:
    low = min(round(start * scale), side - 1)
    return low, min(max(low + 1, round(stop * scale)), side)


def _check_rect(name: str, rect: Any, *, frame_shape: tuple[int, int]) -> None:
    if name == TOTAL:
        raise SettingsError("rois: `total` is the sum over the whole frame and cannot be a rectangle")
    if len(rect) != 4 or not all(_whole(edge) for edge in rect):
        raise SettingsError(f"rois: {name} {rect!r} is not four whole numbers y0, y1, x0, x1")
    y0, y1, x0, x1 = rect
    height, width = frame_shape
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise SettingsError(f"rois: {name} {tuple(rect)} is not a rectangle within a frame of {height}x{width}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
