"""What the start document of a simulated scan says: all of the geometry, or as little as other plans tell."""

from __future__ import annotations

from typing import Any

from snakemap.synthetic.paths import FAST, SLOW, spec_of
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["detectors", "start_document"]


def start_document(sample: Sample) -> dict[str, Any]:
    """What the plan adds to the start document: the geometry as far as it is told, the regions, and the request."""
    request = sample.request
    return {
        "plan_name": request.plan,
        "detectors": detectors(request),
        "rois": {name: list(rect) for name, rect in request.rectangles.items()},
        "plan_args": request.as_dict() | _words(request),
        "hints": {},
        **_geometry(sample),
    }


def _words(request: ScanRequest) -> dict[str, Any]:
    """The same in the words of the plans that the simulated blueapi offers, so that they can be run again."""
    (rows, columns), (y, x), (slow, fast) = request.shape, request.origin_mm, request.steps_mm
    ends = {"y_stop": y + slow * max(1, rows - 1), "x_stop": x + fast * max(1, columns - 1)}
    ends = {name: float(f"{value:.9g}") for name, value in ends.items()}
    return {"rows": rows, "columns": columns, "x_start": x, "y_start": y, **ends}


def detectors(request: ScanRequest) -> list[str]:
    """Names of the devices that write files, the camera first."""
    return ["camera", *["camera2"][: request.cameras - 1], *["panda"][: request.positions_file]]


def _geometry(sample: Sample) -> dict[str, Any]:
    request = sample.request
    shape = list(sample.spec.shape())
    if request.tells == "nothing":
        return {"plan_args": {}}
    if request.tells == "shape":
        return {"shape": shape}
    # one entry an axis even where a path has one dimension: so Bluesky's scan_nd has it, which is under spec_scan
    hints: dict[str, Any] = {"dimensions": [[[SLOW], "primary"], [[FAST], "primary"]]}
    told = {"motors": [SLOW, FAST], "num_points": request.points, "shape": shape, "hints": hints}
    if request.tells == "grid":
        hints["gridding"] = "rectilinear"
        return told | {
            "num_intervals": request.points - 1,
            "extents": [list(extent) for extent in _extents(request)],
            "snaking": [False, request.snake],
        }
    if request.tells == "repr":
        spec = spec_of(request.route, axes=(_Motor(SLOW), _Motor(FAST)))
        return told | {"plan_args": request.as_dict() | _words(request) | {"spec": repr(spec)}}
    return told | {"scanspec": sample.spec.serialize(), "units": {SLOW: "mm", FAST: "mm"}}


def _extents(request: ScanRequest) -> list[tuple[float, float]]:
    return [
        (start, start + step * (size - 1))
        for start, step, size in zip(request.origin_mm, request.steps_mm, request.shape, strict=True)
    ]


class _Motor:
    """An axis that a spec shows as spec_scan's do: as a device, not as its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f'SimMotor(name="{self.name}")'
