"""Forms that a real RunEngine makes of real plans: Bluesky's own, and those that scanspec drives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import numpy.typing as npt
from bluesky.utils import Msg, RequestAbort, RequestStop
from cycler import cycler
from ophyd_async.core import TriggerInfo
from scanspec.specs import (
    Concat,
    ConstantDuration,
    Ellipse,
    Fly,
    Linspace,
    Polygon,
    Product,
    Range,
    Spec,
    Spiral,
    Squash,
    Static,
    Zip,
)
from tests.support.forms.engine import Broken, Camera, Hall
from tests.support.forms.form import Expected, Form, brightness, on_the_wire

from snakemap.core.geometry import ScanDefaults

__all__ = ["real_forms", "real_names"]

X, Y, Z = "stage-x", "stage-y", "stage-z"
Plan = Iterator[Msg]


@dataclass(frozen=True)
class Recipe:
    """How a form is made, and what is known of it beside what the camera saw.

    Attributes:
        name: of the form.
        about: what formats.md says of it.
        plans: that are run one after the other.
        source: words that tell where the geometry is from.
        needed: motors whose coordinates the map must have; all that move, when None.
        table: seq_nums as they lie in memory.
        status: of each run.
        expected: points of each run; as many as came, when None.
        camera: which one.
        diode: whether it was read, too.
        path: whether its points lie on a path.
        resume: how often to go on after a pause.
        abort: whether to abort then.
        defaults: the instrument's settings.
        start: added to the start document.
    """

    name: str
    about: str
    plans: Callable[[Hall], Sequence[Plan]]
    source: str = ""
    needed: tuple[str, ...] | None = None
    table: Any = None
    status: str = "complete"
    expected: int | None = None
    camera: str = "camera"
    diode: bool = True
    path: bool | None = None
    resume: int = 0
    abort: bool = False
    defaults: ScanDefaults = field(default_factory=ScanDefaults)
    start: Mapping[str, Any] = field(default_factory=dict)


def real_names() -> list[str]:
    """Names of the forms, without making them."""
    return [recipe.name for recipe in RECIPES]


def real_forms(names: Collection[str] | None = None) -> list[Form]:
    """Runs every plan once, or those of some names."""
    hall = Hall()
    try:
        return [
            _form(hall, recipe, number)
            for number, recipe in enumerate(RECIPES)
            if names is None or recipe.name in names
        ]
    finally:
        hall.close()


def _form(hall: Hall, recipe: Recipe, number: int) -> Form:
    recorded = hall.record(*recipe.plans(hall), resume=recipe.resume, abort=recipe.abort, **recipe.start)
    _settle_order(recorded)
    camera: Camera = getattr(hall, recipe.camera)
    uris = {doc["uri"] for name, doc in recorded if name == "stream_resource"}
    frames = {uri: brightness(*camera.places(uri).T) for uri in uris}
    files = {(uri, dataset): counts for uri, counts in frames.items() for dataset in ("/entry/data/data", "/entry/sum")}
    runs = [doc["uid"] for name, doc in recorded if name == "start"]
    return Form(
        recipe.name,
        recipe.about,
        on_the_wire(recorded, stretch=number + 1),
        tuple(_expected(recipe, _seen(recorded, run, camera), camera) for run in runs),
        files=files,
        defaults=recipe.defaults,
        rewinds=recipe.resume > 0,
    )


def _settle_order(recorded: list[tuple[str, Any]]) -> None:
    """Sorts motors that come from a cycler, which has them in another order every time."""
    for name, doc in recorded:
        if name == "start" and ("spiral" in doc["plan_name"] or doc["plan_name"] == "scan_nd"):
            doc["motors"] = sorted(doc["motors"])
            if doc["plan_name"] == "scan_nd":
                doc["hints"]["dimensions"] = [[[motor], "primary"] for motor in doc["motors"]]


def _seen(recorded: list[tuple[str, Any]], run: str, camera: Camera) -> npt.NDArray[np.float64]:
    """Where the stage was (n, 3) at the last frame that was announced for every seq_num; NaN where there is none."""
    resources = {
        doc["uid"]: doc["uri"]
        for name, doc in recorded
        if name == "stream_resource" and doc["run_start"] == run and doc["data_key"] == camera.name
    }
    seen: dict[int, Any] = {}
    for name, doc in recorded:
        if name == "stream_datum" and doc["stream_resource"] in resources:
            places = camera.places(resources[doc["stream_resource"]])
            indices = range(doc["indices"]["start"], doc["indices"]["stop"])
            seq_nums = range(doc["seq_nums"]["start"], doc["seq_nums"]["stop"])
            seen |= {seq_num: places[index * camera.each] for seq_num, index in zip(seq_nums, indices, strict=True)}
    if not seen:
        seen = _read(recorded, run)
    found = np.full((max(seen, default=0), 3), np.nan)
    for seq_num, place in seen.items():
        found[seq_num - 1] = place
    return found


def _read(recorded: list[tuple[str, Any]], run: str) -> dict[int, list[float]]:
    """The same of a run without frames, as its events tell."""
    descriptors = {doc["uid"] for name, doc in recorded if name == "descriptor" and doc["run_start"] == run}
    events = [doc for name, doc in recorded if name == "event" and doc["descriptor"] in descriptors]
    return {doc["seq_num"]: [doc["data"].get(axis, 0.0) for axis in (X, Y, Z)] for doc in events}


def _expected(recipe: Recipe, seen: npt.NDArray[np.float64], camera: Camera) -> Expected:
    scanned = np.ptp(seen, axis=0) > 0 if len(seen) > 1 else np.any(seen != 0.0, axis=0)
    places = {name: seen[:, axis] for axis, name in enumerate((X, Y, Z)) if np.any(seen[:, axis] != 0.0)}
    needed = tuple(name for axis, name in enumerate((X, Y, Z)) if scanned[axis])
    counts = brightness(*seen.T)
    return Expected(
        counts * camera.each,
        places,
        source=recipe.source,
        status=recipe.status,
        expected=recipe.expected or len(seen),
        needed=needed if recipe.needed is None else recipe.needed,
        table=None if recipe.table is None else np.array(recipe.table),
        path=recipe.path if recipe.table is None else False,
        sample=None if Z in places else lambda x, y: brightness(x, y) * camera.each,
        scalars={"diode-value": counts} if recipe.diode else {},
    )


# plans driven by scanspec


def spec_scan(hall: Hall, spec: Spec[Any], *, detectors: Sequence[Any] = (), **start: Any) -> Plan:
    """Visits the points of a spec one by one, as the spec_scan of Diamond's plans does.

    Args:
        hall: with what moves.
        spec: of the names of axes, or of the axes.
        detectors: the camera and the diode, unless told.
        start: what stands in the start document.
    """
    axes = {axis.name: axis for axis in (hall.x, hall.y, hall.z)}
    detectors = list(detectors) or [hall.camera, hall.diode]

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md={"plan_name": "spec_scan", **start})
    def inner() -> Plan:
        for point in spec.midpoints():
            moves = {axes.get(str(getattr(axis, "name", axis))): at for axis, at in point.items()}
            moves = {axis: float(at) for axis, at in moves.items() if axis is not None}
            for axis, at in moves.items():
                yield from bps.abs_set(axis, at, group="move")
            yield from bps.wait("move")
            yield from bps.trigger_and_read([*detectors, *moves])

    return (yield from inner())


def of_spec(name: str, about: str, spec: Spec[Any], **more: Any) -> Recipe:
    """The form of a scan whose start document holds its spec as JSON."""
    told = spec.serialize()
    return Recipe(name, about, lambda hall: [spec_scan(hall, spec, scanspec=told)], source="scanspec", **more)


def old_line(value: Any) -> Any:
    """A spec as it was written before scanspec 1.0, with Line for Linspace."""
    if isinstance(value, dict):
        changed = {key: old_line(part) for key, part in value.items()}
        return {**changed, "type": "Line"} if changed.get("type") == "Linspace" else changed
    return value


def repr_scan(hall: Hall) -> Plan:
    """As demo_spectroscopy: the spec of devices only as its repr, the shape and the motors, and no snaking."""
    spec = Linspace(hall.y, 0.0, 1.0, 2) * ~Linspace(hall.x, 2.0, -1.0, 4)
    dimensions = [[[Y], "primary"], [[X], "primary"]]
    start = {"motors": [Y, X], "num_points": 8, "shape": [2, 4], "hints": {"dimensions": dimensions}}
    return spec_scan(hall, spec, plan_args={"detectors": ["camera"], "spec": repr(spec)}, **start)


# plans that end, and plans that do odd things


def with_pauses(hall: Hall) -> Plan:
    """A grid of 2 x 3 that is paused after its second and fifth point, before the next checkpoint."""
    points = [(y, x) for y in (0.0, 1.0) for x in (0.0, 2.0, 4.0)]
    start = {"shape": [2, 3], "snaking": [False, False], "extents": [[0.0, 1.0], [0.0, 4.0]], "num_points": 6}
    paused: set[int] = set()

    @bpp.stage_decorator([hall.camera, hall.diode])
    @bpp.run_decorator(md={"plan_name": "grid", "hints": {"dimensions": [[[Y], "primary"], [[X], "primary"]]}, **start})
    def inner() -> Plan:
        for number, (y, x) in enumerate(points):
            yield Msg("checkpoint")
            yield from bps.mv(hall.y, y, hall.x, x)
            yield from bps.trigger_and_read([hall.camera, hall.diode, hall.y, hall.x])
            if number in (1, 4) and number not in paused:
                paused.add(number)
                yield from bps.pause()

    return (yield from inner())


def ended(plan: Plan, points: int, error: Exception | type[Exception]) -> Plan:
    """A plan that ends after some points."""
    saved = 0
    for message in plan:
        answer = yield message
        while True:
            saved += message.command == "save"
            if saved >= points:
                raise error
            try:
                message = plan.send(answer)  # type: ignore[attr-defined]
            except StopIteration:
                return
            answer = yield message


def fly_scan(hall: Hall, places: npt.NDArray[np.float64], batches: Sequence[int], **start: Any) -> Plan:
    """A scan that never stops; it is aborted when the batches are fewer than the places."""

    @bpp.stage_decorator([hall.camera])
    @bpp.run_decorator(md={"plan_name": "fly", **start})
    def inner() -> Plan:
        yield from hall.fly(hall.camera, [tuple(place) for place in places], batches)
        if sum(batches) < len(places):
            raise RequestAbort()

    return (yield from inner())


def nested(hall: Hall) -> Plan:
    """A run with the camera, and within it, after two points, a run with the diode alone."""
    saved = 0

    def inner(message: Msg) -> Plan:
        answer = yield message
        yield from bpp.set_run_key_wrapper(bp.scan([hall.diode, hall.x, hall.y], hall.z, 0, 1, 3), "inner")
        yield from bps.mv(hall.z, 0)
        return answer

    def changed(message: Msg) -> tuple[Plan | None, None]:
        nonlocal saved
        saved += message.command == "save" and message.run is None
        return (inner(message) if message.command == "save" and message.run is None and saved == 2 else None), None

    return bpp.plan_mutator(grid(hall, hall.camera), changed)


def grid(hall: Hall, camera: Camera, *, shape: tuple[int, int] = (2, 3), snaked: bool = True) -> Plan:
    """A snaked grid."""
    rows, columns = shape
    return bp.grid_scan([camera, hall.diode], hall.y, 1, 2, rows, hall.x, 5, 3, columns, snake_axes=snaked)


def in_bursts(hall: Hall) -> Plan:
    """A grid with four frames a point."""

    def prepared(message: Msg) -> Plan:
        yield from bps.prepare(hall.burst, TriggerInfo(collections_per_event=4), wait=True)
        yield message

    def changed(message: Msg) -> tuple[Plan | None, None]:
        return (prepared(message) if message.command == "open_run" else None), None

    return bpp.plan_mutator(grid(hall, hall.burst), changed)


def interleaved(hall: Hall) -> Plan:
    """Two runs that are open at a time, one point of each in turn; one with a camera, the other with a diode."""
    camera, diode = "with camera", "with diode"
    hints = {"dimensions": [[[X], "primary"]]}
    yield from bps.stage(hall.camera)
    for key in (camera, diode):
        start = {"plan_name": key, "shape": [4], "snaking": [False], "extents": [[1.0, 4.0]], "hints": hints}
        yield from bpp.set_run_key_wrapper(bps.open_run(start), key)
    for x in (1.0, 2.0, 3.0, 4.0):
        yield from bps.mv(hall.x, x)
        yield from bpp.set_run_key_wrapper(bps.trigger_and_read([hall.camera, hall.diode, hall.x]), camera)
        yield from bpp.set_run_key_wrapper(bps.trigger_and_read([hall.diode, hall.x]), diode)
    for key in (camera, diode):
        yield from bpp.set_run_key_wrapper(bps.close_run(), key)
    yield from bps.unstage(hall.camera)


def watched(hall: Hall, plan: Plan) -> Plan:
    """A scan with a baseline before and after it, and a monitor beside it."""
    return bpp.monitor_during_wrapper(bpp.baseline_wrapper(plan, [hall.z, hall.x]), [hall.x.user_readback])


def other_stream(hall: Hall) -> Plan:
    """A grid with two streams: at the end of every row the diode is read at a place of its own."""

    @bpp.stage_decorator([hall.camera, hall.diode])
    @bpp.run_decorator(md={"plan_name": "two", **GRID_2_3})
    def inner() -> Plan:
        for y in (0.0, 1.0):
            for x in (0.0, 2.0, 4.0):
                yield from bps.mv(hall.y, y, hall.x, x)
                yield from bps.trigger_and_read([hall.camera, hall.diode, hall.y, hall.x])
            yield from bps.mv(hall.x, -9.0)
            yield from bps.trigger_and_read([hall.diode, hall.x], name="dark")

    return (yield from inner())


GRID_2_3 = {
    "shape": [2, 3],
    "snaking": [False, False],
    "extents": [[0.0, 1.0], [0.0, 4.0]],
    "num_points": 6,
    "hints": {"gridding": "rectilinear", "dimensions": [[[Y], "primary"], [[X], "primary"]]},
}
LINE = Linspace(X, 0.5, 2.0, 4)
ROWS = Linspace(Y, 3.0, 1.0, 3)


def both_ways(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Seq_nums of a snaked grid as they lie in memory."""
    table = np.arange(1, rows * columns + 1).reshape(rows, columns)
    table[1::2] = table[1::2, ::-1].copy()
    return table


SNAKED = [[1, 2, 3, 4], [8, 7, 6, 5], [9, 10, 11, 12]]
IN_ORDER = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


def bluesky(name: str, about: str, plan: Callable[[Hall, list[Any]], Plan], **more: Any) -> Recipe:
    """The form of one of Bluesky's own plans with the camera and the diode."""
    return Recipe(name, about, lambda hall: [plan(hall, [hall.camera, hall.diode])], **more)


# annotated more narrowly than they are
list_scan: Callable[..., Plan] = bp.list_scan
list_grid_scan: Callable[..., Plan] = bp.list_grid_scan
rel_list_grid_scan: Callable[..., Plan] = bp.rel_list_grid_scan

OWN_PLANS = [
    bluesky(
        "grid_scan",
        "`grid_scan`: shape, extents, snaking, hints.gridding; the fast axis falls",
        lambda h, d: bp.grid_scan(d, h.y, 0, 2, 3, h.x, 5, 2, 4, snake_axes=False),
        table=IN_ORDER,
        source="shape",
    ),
    bluesky(
        "grid_scan snaked",
        "`snaking: [false, true]`; the slow axis falls",
        lambda h, d: bp.grid_scan(d, h.y, 2, -2, 3, h.x, -1, 2, 4, snake_axes=True),
        table=SNAKED,
        source="shape",
    ),
    bluesky(
        "grid_scan, x slow",
        "the axis called x may be the slow one",
        lambda h, d: bp.grid_scan(d, h.x, 0, 2, 3, h.y, 5, 2, 4, snake_axes=True),
        table=SNAKED,
    ),
    bluesky(
        "grid_scan of one row",
        "an axis of one point",
        lambda h, d: bp.grid_scan(d, h.y, 1.5, 1.5, 1, h.x, 5, 2, 4, snake_axes=True),
        table=[[1, 2, 3, 4]],
    ),
    bluesky(
        "grid_scan of three motors",
        "three axes: rows are the outer ones",
        lambda h, d: bp.grid_scan(d, h.z, 0, 1, 2, h.y, 0, 2, 3, h.x, 5, 2, 2, snake_axes=True),
        needed=(X,),
    ),
    bluesky(
        "rel_grid_scan",
        "extents are relative to where the stage stood; only readbacks tell",
        lambda h, d: _from(h, 10.0, 20.0, bp.rel_grid_scan(d, h.y, -1, 1, 3, h.x, -2, 2, 4, snake_axes=True)),
        table=SNAKED,
    ),
    bluesky(
        "list_grid_scan snaked",
        '`snake_axes: "True"`, a string; no snaking; extents are minimum and maximum whatever the order',
        lambda h, d: bp.list_grid_scan(d, h.y, [0, 1, 2], h.x, [6, 4, 2, 0], snake_axes=True),
        table=SNAKED,
    ),
    bluesky(
        "list_grid_scan uneven",
        "a list need not be evenly spaced",
        lambda h, d: bp.list_grid_scan(d, h.y, [0, 1, 5], h.x, [0, 1, 3, 9], snake_axes=False),
        table=IN_ORDER,
    ),
    bluesky(
        "list_grid_scan, some axes snaked",
        "snake_axes is the repr of a list of devices",
        lambda h, d: list_grid_scan(d, h.z, [0, 1], h.y, [0, 1], h.x, [0, 1, 2, 3], snake_axes=[h.x]),
        needed=(X,),
        table=both_ways(4, 4),
        source="snake_axes",
    ),
    bluesky(
        "list_grid_scan, the middle axis snaked",
        "snake_axes names the middle one of three axes, and the slowest one, which cannot run back",
        lambda h, d: list_grid_scan(d, h.z, [0, 1], h.y, [0, 1, 2], h.x, [0, 3], snake_axes=(h.y, h.z)),
        needed=(X,),
        table=[[1, 2], [3, 4], [5, 6], [11, 12], [9, 10], [7, 8]],
    ),
    bluesky(
        "rel_list_grid_scan, a set of axes snaked",
        "snake_axes is the repr of a set; places are relative to where the stage stood",
        lambda h, d: _from(h, 10.0, 20.0, rel_list_grid_scan(d, h.y, [0, 1, 2], h.x, [0, 1, 2, 3], snake_axes={h.x})),
        table=SNAKED,
    ),
    bluesky(
        "list_grid_scan, no axis of a list snaked",
        "an empty list of axes",
        lambda h, d: list_grid_scan(d, h.y, [0, 1, 2], h.x, [0, 1, 2, 3], snake_axes=[]),
        table=IN_ORDER,
        source="snake_axes",
    ),
    bluesky("scan", "one motor", lambda h, d: bp.scan(d, h.x, 3, 1, num=5)),
    bluesky(
        "scan of two motors", "two that move together", lambda h, d: bp.scan(d, h.x, 0, 1, h.y, 3, 2, num=5), needed=()
    ),
    bluesky("rel_scan", "one motor, relative", lambda h, d: _from(h, 4.0, 7.0, bp.rel_scan(d, h.x, 3, 1, num=5))),
    bluesky(
        "list_scan",
        "a list of places",
        lambda h, d: list_scan(d, h.x, [0, 1, 5, 2, -3], h.y, [3, 2, 1, 7, 4]),
        path=True,
    ),
    bluesky("log_scan", "unevenly spaced", lambda h, d: bp.log_scan(d, h.x, 0, 2, 5)),
    bluesky("spiral", "a spiral", lambda h, d: bp.spiral(d, h.x, h.y, 1.0, 2.0, 2.0, 2.0, 0.4, 4.0), path=True),
    bluesky(
        "spiral_fermat", "a spiral", lambda h, d: bp.spiral_fermat(d, h.x, h.y, 1.0, 2.0, 2.0, 3.0, 0.4, 1.0), path=True
    ),
    bluesky(
        "spiral_square",
        '`gridding: "rectilinear_nonsequential"`: pixels come from positions, not from order',
        lambda h, d: bp.spiral_square(d, h.x, h.y, 1.0, 2.0, 2.0, 3.0, 3, 4),
        path=True,
    ),
    bluesky(
        "rel_spiral_square",
        "the same, relative",
        lambda h, d: _from(h, 5.0, 6.0, bp.rel_spiral_square(d, h.x, h.y, 2.0, 3.0, 3, 4)),
        path=True,
    ),
    bluesky(
        "scan_nd",
        "a cycler, and no shape",
        lambda h, d: bp.scan_nd(d, cycler(h.y, [1, 2, 3]) * cycler(h.x, [5, 6.5, 4])),
    ),
    bluesky("count", "nothing moves", lambda h, d: bp.count(d, 5), needed=()),
    bluesky(
        "adaptive_scan",
        "nobody knows beforehand where the points will be, or how many",
        lambda h, d: bp.adaptive_scan(d, "diode-value", h.x, 0, 2, 0.1, 1.0, 40.0, True),
    ),
    bluesky("x2x_scan", "two motors, half as far", lambda h, d: bp.x2x_scan(d, h.x, h.y, 0.0, 2.0, 5), needed=()),
]


def _from(hall: Hall, x: float, y: float, plan: Plan) -> Plan:
    """A plan that begins somewhere else than at 0."""
    yield from bps.mv(hall.x, x, hall.y, y)
    yield from plan


SPECS = [
    of_spec("scanspec", "scanspec JSON: Product of Linspace and Snake", ROWS * ~LINE, table=SNAKED),
    of_spec("scanspec, not snaked", "no Snake", ROWS * LINE, table=IN_ORDER),
    of_spec("scanspec Range", "Range", Range(Y, 0.0, 1.0, 0.5) * ~Range(X, 2.0, -1.0, 1.0), table=SNAKED),
    of_spec("scanspec of one axis", "a line", LINE, table=[[1, 2, 3, 4]]),
    of_spec("scanspec Zip", "two that move together", Zip(Linspace(X, 0, 3, 4), Linspace(Y, 1, 7, 4)), path=True),
    of_spec("scanspec Static", "one stands still", Zip(Linspace(X, 0, 3, 4), Static(Y, 2.5)), needed=(X,)),
    of_spec(
        "scanspec Concat",
        "a fast axis with a gap in it",
        ROWS * ~Concat(Linspace(X, 0.0, 1.0, 2), Linspace(X, 3.0, 4.0, 2)),
        table=SNAKED,
    ),
    of_spec(
        "scanspec Concat of grids",
        "two grids one after the other",
        Concat(Squash(ROWS * LINE), Squash(ROWS * ~LINE)),
        path=True,
    ),
    of_spec("scanspec Squash", "a grid in one dimension", Squash(ROWS * ~LINE), path=True),
    of_spec("scanspec Spiral", "1-D shape", Spiral(X, 1.0, 4.0, 1.0, Y, 2.0, 3.0), path=True),
    of_spec(
        "scanspec Ellipse", "masked: 1-D shape", Ellipse(X, 1.0, 4.0, 1.0, Y, -2.0, 6.0, 1.5, snake=True), path=True
    ),
    of_spec(
        "scanspec Polygon",
        "masked: 1-D shape",
        Polygon(X, Y, [(0.0, 0.0), (3.0, 0.5), (1.5, 3.0)], 0.7, 0.6, snake=True),
        path=True,
    ),
    of_spec("scanspec of three axes", "three axes", Linspace(Z, 0, 1, 2) * ~ROWS * ~LINE, needed=(X,)),
    of_spec("scanspec, repeated", "the whole grid twice", Product(2, ROWS * ~LINE), needed=(X,)),
    of_spec("scanspec, points repeated", "every point twice", Product(ROWS * ~LINE, 2)),
    of_spec("scanspec Fly", "Fly and a duration", Fly(ConstantDuration(0.1, ROWS * ~LINE)), table=SNAKED),
    of_spec("scanspec of one point", "one point", Linspace(Y, 1, 1, 1) * Linspace(X, 2, 2, 1), needed=(X, Y)),
    Recipe(
        "scanspec with Line",
        "older JSON, still written on b01-1: read Line as Linspace",
        lambda hall: [spec_scan(hall, ROWS * ~LINE, scanspec=old_line((ROWS * ~LINE).serialize()))],
        source="scanspec",
        table=SNAKED,
    ),
    Recipe(
        "spec_scan",
        "plan_args.spec is the Python repr; no snaking, no extents",
        lambda hall: [repr_scan(hall)],
        source="plan_args",
        table=[[1, 2, 3, 4], [8, 7, 6, 5]],
    ),
]

FLOWN = np.stack(
    [np.tile(np.linspace(0.0, 2.4, 13), 8), np.repeat(np.linspace(5.0, -2.0, 8), 13), np.zeros(104)], axis=1
)
FLOWN_SPEC = Linspace(Y, 5.0, -2.0, 8) * Linspace(X, 0.0, 2.4, 13)

ODD = [
    Recipe(
        "rewinds",
        "when the RunEngine rewinds, seq_nums repeat and indices go on",
        lambda hall: [with_pauses(hall)],
        resume=2,
        table=[[1, 2, 3], [4, 5, 6]],
    ),
    Recipe(
        "collections per event",
        "event i owns frames i*c ... i*c + c - 1; the pixel is their sum",
        lambda hall: [in_bursts(hall)],
        camera="burst",
        table=[[1, 2, 3], [6, 5, 4]],
    ),
    Recipe(
        "two runs a task",
        "one task can make several runs",
        lambda hall: [grid(hall, hall.camera), grid(hall, hall.camera, shape=(3, 2))],
    ),
    Recipe(
        "baseline and monitor",
        "baseline streams exist beside primary and are not maps",
        lambda hall: [watched(hall, grid(hall, hall.camera))],
        table=[[1, 2, 3], [6, 5, 4]],
    ),
    Recipe(
        "two streams",
        "more than one stream",
        lambda hall: [other_stream(hall)],
        table=[[1, 2, 3], [4, 5, 6]],
    ),
    Recipe("nested runs", "several open runs share one task", lambda hall: [nested(hall)]),
    Recipe("interleaved runs", "several open runs share one task", lambda hall: [interleaved(hall)]),
    Recipe(
        "fly scan",
        "batched stream_datum and no event documents at all",
        lambda hall: [fly_scan(hall, FLOWN, (40, 1, 33, 30), scanspec=FLOWN_SPEC.serialize())],
        source="scanspec",
        table=np.arange(1, 105).reshape(8, 13),
        diode=False,
    ),
    Recipe(
        "failed",
        "plan raises: stop fail with reason",
        lambda hall: [ended(grid(hall, hall.camera), 4, Broken("no beam"))],
        status="failed",
        expected=6,
    ),
    Recipe(
        "aborted",
        "abort by REST: stop abort, the reason is always empty",
        lambda hall: [ended(grid(hall, hall.camera), 4, RequestAbort)],
        status="aborted",
        expected=6,
    ),
    Recipe(
        "stopped",
        "stop by REST: success with fewer points: success is not complete",
        lambda hall: [ended(grid(hall, hall.camera), 4, RequestStop)],
        status="incomplete",
        expected=6,
    ),
    Recipe(
        "no shape, readbacks",
        "nothing but the readbacks in the events",
        lambda hall: [spec_scan(hall, ROWS * ~LINE)],
        source="positions",
    ),
]

RECIPES = [*OWN_PLANS, *SPECS, *ODD]
