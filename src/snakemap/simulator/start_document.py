"""The start document of a simulated scan, with all of the geometry, or as little as of other plans."""

from __future__ import annotations

from typing import Any

from snakemap.synthetic.paths import FAST, SLOW, spec_of
from snakemap.synthetic.request import ScanRequest
from snakemap.synthetic.sample import Sample

__all__ = ["detectors", "start_document"]


def start_document(sample: Sample) -> dict[str, Any]:
    """Return the fields that the plan adds to the start document: the requested geometry, the regions, and the
    request."""
    request = sample.request
    return {
        "plan_name": request.plan,
        "detectors": detectors(request),
        "rois": {name: list(rect) for name, rect in request.rectangles.items()},
        "plan_args": request.as_dict() | _plan_parameters(request),
        "hints": {},
        **_geometry(sample),
    }


def _plan_parameters(request: ScanRequest) -> dict[str, Any]:
    """Return the request as parameters of the simulated blueapi's plans, so that it can be repeated."""
    (rows, columns), (y, x), (slow, fast) = request.shape, request.origin_mm, request.steps_mm
    ends = {"y_stop": y + slow * max(1, rows - 1), "x_stop": x + fast * max(1, columns - 1)}
    ends = {name: float(f"{value:.9g}") for name, value in ends.items()}
    return {"rows": rows, "columns": columns, "x_start": x, "y_start": y, **ends}


def detectors(request: ScanRequest) -> list[str]:
    """Return the names of the devices that write files, the camera first."""
    return ["camera", *["camera2"][: request.cameras - 1], *["panda"][: request.positions_file]]


def _geometry(sample: Sample) -> dict[str, Any]:
    request = sample.request
    shape = list(sample.spec.shape())
    if request.tells == "nothing":
        return {"plan_args": {}}
    if request.tells == "shape":
        return {"shape": shape}
    # one entry for each axis even if a path has one dimension, as in Bluesky's scan_nd, the base of spec_scan
    hints: dict[str, Any] = {"dimensions": [[[SLOW], "primary"], [[FAST], "primary"]]}
    fields = {"motors": [SLOW, FAST], "num_points": request.points, "shape": shape, "hints": hints}
    if request.tells == "grid":
        hints["gridding"] = "rectilinear"
        return fields | {
            "num_intervals": request.points - 1,
            "extents": [list(extent) for extent in _extents(request)],
            "snaking": [False, request.snake],
        }
    if request.tells == "repr":
        spec = spec_of(request.route, axes=(_Motor(SLOW), _Motor(FAST)))
        return fields | {"plan_args": request.as_dict() | _plan_parameters(request) | {"spec": repr(spec)}}
    return fields | {"scanspec": sample.spec.serialize(), "units": {SLOW: "mm", FAST: "mm"}}


def _extents(request: ScanRequest) -> list[tuple[float, float]]:
    return [
        (start, start + step * (size - 1))
        for start, step, size in zip(request.origin_mm, request.steps_mm, request.shape, strict=True)
    ]


class _Motor:
    """An axis whose repr in a spec is a device, as in spec_scan, not its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f'SimMotor(name="{self.name}")'
