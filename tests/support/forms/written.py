"""Forms for which there is no plan at hand: their documents are written as formats.md describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scanspec.specs import Ellipse, Linspace
from tests.support.forms.form import Expected, Form, brightness, on_the_wire

from snakemap.core.derived_documents import lost_stop
from snakemap.core.geometry import ScanDefaults
from snakemap.core.run import Run

__all__ = ["written_forms", "written_names"]

X, Y = "stage-x", "stage-y"
SUCCESS, ABORT = "success", "abort"
Numbers = npt.NDArray[np.float64]


class Pen:
    """Writes the documents of one run.

    Args:
        name: of the form; uids are made of it.
        start: added to the start document.
    """

    def __init__(self, name: str, **start: Any) -> None:
        self.uid = f"run {name}"
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[tuple[str, str], Numbers] = {}
        self.write("start", {"uid": self.uid, "plan_name": name, "scan_id": 1, **start})

    def write(self, name: str, doc: dict[str, Any]) -> None:
        """Writes any document."""
        self.documents.append((name, {"time": 1_700_000_000.0, **doc}))

    def describe(self, keys: Mapping[str, Any], *, stream: str = "primary") -> None:
        """Writes a descriptor: a shape is that of a frame or a scalar in a file, a unit that of a number in events."""
        found = {}
        for key, told in keys.items():
            if isinstance(told, list):
                found[key] = {"source": "file", "dtype": "array", "shape": told, "external": "STREAM:"}
                if len(told) == 1:
                    found[key]["units"] = "mm"
            else:
                found[key] = {"source": "soft", "dtype": "number", "shape": [], "units": told}
        doc = {"uid": f"{stream} of {self.uid}", "run_start": self.uid, "name": stream, "data_keys": found}
        self.write("descriptor", {**doc, "configuration": {}, "hints": {}, "object_keys": {}})

    def file(self, key: str, rows: Numbers, *, name: str = "camera", dataset: str = "/entry/data/data") -> None:
        """Writes a stream_resource; rows are what its dataset will hold in the end."""
        uri = f"file://localhost/data/{self.uid.replace(' ', '%20')}/{name}.h5"
        doc = {"uid": f"{key} of {self.uid}", "run_start": self.uid, "data_key": key, "uri": uri}
        parameters = {"dataset": dataset, "swmr": True, "multiplier": 1, "chunk_shape": [1, 4, 6]}
        self.write("stream_resource", {**doc, "mimetype": "application/x-hdf5", "parameters": parameters})
        self.files[uri, dataset] = rows

    def announce(self, key: str, first: int, last: int, *, index: int | None = None, stream: str = "primary") -> None:
        """Writes a stream_datum for some points, both inclusive, from 1 on."""
        index = first - 1 if index is None else index
        doc = {"descriptor": f"{stream} of {self.uid}", "stream_resource": f"{key} of {self.uid}"}
        spans = {"indices": (index, index + last - first + 1), "seq_nums": (first, last + 1)}
        told = {name: {"start": start, "stop": stop} for name, (start, stop) in spans.items()}
        self.write("stream_datum", {"uid": f"{key} {first} of {self.uid}", **doc, **told})

    def event(self, seq_num: int, data: Mapping[str, Any], *, stream: str = "primary") -> None:
        """Writes an event."""
        doc = {"uid": f"{stream} {seq_num} of {self.uid}", "descriptor": f"{stream} of {self.uid}"}
        self.write("event", {**doc, "seq_num": seq_num, "data": dict(data), "timestamps": dict.fromkeys(data, 1.0)})

    def steps(self, keys: Sequence[str], count: int, data: Mapping[str, Numbers] | None = None) -> None:
        """Writes all points of a step scan: what is announced of each, then its event."""
        for seq_num in range(1, count + 1):
            for key in keys:
                self.announce(key, seq_num, seq_num)
            self.event(seq_num, {key: column[seq_num - 1] for key, column in (data or {}).items()})

    def stop(self, status: str = SUCCESS, **more: Any) -> None:
        """Writes the end."""
        self.write("stop", {"uid": f"end of {self.uid}", "run_start": self.uid, "exit_status": status, **more})


def grid(rows: int, columns: int, *, snaked: bool = True) -> tuple[Numbers, Numbers, npt.NDArray[np.int64]]:
    """Where the points of a grid lie in the order of the scan, x and y (n,), and its seq_nums as they lie in memory."""
    table = np.arange(1, rows * columns + 1).reshape(rows, columns)
    if snaked:
        table[1::2] = table[1::2, ::-1].copy()
    row, column = np.nonzero(np.ones((rows, columns)))
    order = np.argsort(table.ravel())
    x, y = (0.5 + 0.25 * column[order]).astype(np.float64), (3.0 - 0.5 * row[order]).astype(np.float64)
    return x, y, table


GX, GY, SNAKED = grid(3, 4)
COUNTS = brightness(GX, GY)
IN_ORDER = grid(3, 4, snaked=False)[2]


def _form(
    pen: Pen, name: str, about: str, *expected: Expected, defaults: ScanDefaults | None = None, anonymous: bool = False
) -> Form:
    messages = on_the_wire(pen.documents, anonymous=anonymous)
    return Form(name, about, messages, expected, files=pen.files, defaults=defaults or ScanDefaults())


def visr(name: str, *, frame: Sequence[int] = (1, 4, 6), **start: Any) -> Pen:
    """A step scan of 12 points as ViSR's plans make it: nothing in the hints, nothing in the events."""
    pen = Pen(name, **{"hints": {}, "detectors": ["det16"], "num_points": 12, **start})
    pen.describe({"camera": list(frame)})
    pen.file("camera", COUNTS)
    pen.steps(["camera"], 12)
    pen.stop(num_events={"primary": 12}, reason="")
    return pen


def shape_alone(name: str) -> Form:
    start = {"shape": [3, 4], "color_rois": {"red": [-0.7, -0.1], "green": [0.0, 0.3], "blue": [0.3, 0.8]}}
    expected = Expected(COUNTS, source="shape; snaking assumed", expected=12, table=SNAKED)
    about = "shape alone, hints {}, events data {}; color_rois are ranges in stage units, no rectangles"
    return _form(visr(name, **start), name, about, expected)


def shape_alone_row_by_row(name: str) -> Form:
    counts = brightness(*grid(3, 4, snaked=False)[:2])
    pen = visr(name, shape=[3, 4])
    pen.files = {place: counts.copy() for place in pen.files}
    expected = Expected(counts, source="row by row assumed", expected=12, table=IN_ORDER)
    return _form(
        pen, name, "shape alone, where the setting says row by row", expected, defaults=ScanDefaults(snake=False)
    )


def nothing_told(name: str) -> Form:
    pen = visr(name, frame=(4, 6), data_session="cm12345-1")
    del pen.documents[0][1]["num_points"]
    expected = Expected(COUNTS, expected=12)
    about = "the 2025 recording: no shape at all, frames [height, width], envelopes without task_id"
    return _form(pen, name, about, expected, anonymous=True)


def nothing_told_at_a_known_instrument(name: str) -> Form:
    pen = visr(name, frame=(4, 6))
    del pen.documents[0][1]["num_points"]
    expected = Expected(COUNTS, source="setting SNAKEMAP_GRID", expected=12, table=SNAKED)
    return _form(pen, name, "no shape, and SNAKEMAP_GRID says 3x4", expected, defaults=ScanDefaults(grid=(3, 4, True)))


def color(name: str) -> Form:
    expected = Expected(COUNTS, expected=12, table=SNAKED)
    return _form(
        visr(name, frame=(1, 3, 4, 6), shape=[3, 4], snaking=[False, True]), name, "RGB1 gives [n,3,H,W]", expected
    )


def sets_as_lists(name: str) -> Form:
    start = {"shape": (3, 4), "motors": {Y, X}, "detectors": {"camera"}, "extents": ((3.0, 2.0), (0.5, 1.25))}
    dimensions = [([Y], "primary"), ([X], "primary")]
    pen = visr(name, **start, snaking=(False, True), hints={"dimensions": dimensions})
    expected = Expected(COUNTS, {X: GX, Y: GY}, source="shape", expected=12, table=SNAKED, sample=brightness)
    return _form(pen, name, "sets and tuples as lists", expected)


def string_of_snake_axes(name: str) -> Form:
    start = {"shape": [3, 4], "snake_axes": "True", "motors": [Y, X]}
    pen = visr(name, **start, hints={"dimensions": [[[Y], "primary"], [[X], "primary"]]})
    expected = Expected(COUNTS, source="snake_axes", expected=12, table=SNAKED)
    return _form(pen, name, '`snake_axes: "True"` and neither extents nor readbacks', expected)


def broken_scanspec(name: str) -> Form:
    start = {"scanspec": {"type": "Nonsense"}, "shape": [3, 4], "snaking": [False, True], "motors": [Y, X]}
    pen = visr(name, **start, extents=[[3.0, 2.0], [0.5, 1.25]])
    expected = Expected(COUNTS, {X: GX, Y: GY}, source="shape", expected=12, table=SNAKED, sample=brightness)
    return _form(pen, name, "a source that cannot be used is passed over", expected)


def extents_that_do_not_fit(name: str) -> Form:
    start = {"shape": [3, 4], "snaking": [False, True], "motors": [Y, X], "extents": [[3.0, 2.0]]}
    expected = Expected(COUNTS, source="shape", expected=12, table=SNAKED)
    return _form(visr(name, **start), name, "extents of another number of axes", expected)


def nonsequential_without_positions(name: str) -> Form:
    start = {"shape": [3, 4], "hints": {"gridding": "rectilinear_nonsequential"}}
    expected = Expected(COUNTS, expected=12)
    return _form(visr(name, **start), name, "pixels come from positions, and nobody tells these", expected)


def positions_in_another_file(name: str) -> Form:
    x, y, table = grid(25, 40)
    counts = brightness(x, y)
    pen = flown(name, x, y, counts, shape=[25, 40])
    expected = Expected(counts, {X: x, Y: y}, expected=1000, table=table, sample=brightness)
    return _form(pen, name, "1,000 points or more: only the shape; positions in a second file of a PandA", expected)


def masked_positions_in_another_file(name: str) -> Form:
    spec = Ellipse(X, 1.0, 8.0, 0.5, Y, -2.0, 6.0, 0.25, snake=True)
    at = [(float(point[X]), float(point[Y])) for point in spec.midpoints()]
    x, y = np.array(at).T
    counts = brightness(x, y)
    pen = flown(name, x, y, counts, shape=[len(x)])
    expected = Expected(counts, {X: x, Y: y}, expected=len(x), sample=brightness)
    return _form(pen, name, "masked specs have a 1-D shape; positions in a second file", expected)


def flown(name: str, x: Numbers, y: Numbers, counts: Numbers, **start: Any) -> Pen:
    """A fly scan with a camera and a PandA: no events, and what is announced comes in batches, each in its own time."""
    pen = Pen(name, **start, motors=[Y, X], detectors=["camera", "panda"], hints={})
    pen.describe({"camera": [1, 4, 6], X: [1], Y: [1]})
    pen.file("camera", counts)
    pen.file(X, x, name="panda", dataset=f"/{X}")
    pen.file(Y, y, name="panda", dataset=f"/{Y}")
    count = len(counts)
    for first in range(1, count + 1, 130):
        for key in ("camera", X, Y):
            pen.announce(key, first, min(first + 129, count))
    pen.stop(num_events={"primary": count})
    return pen


def readbacks_of_a_path(name: str) -> Form:
    turn = np.linspace(0.0, 3.0, 30) ** 0.5 * 6.0
    x, y = 1.0 + turn * np.cos(turn) / 4, -2.0 + turn * np.sin(turn) / 4
    counts = brightness(x, y)
    pen = Pen(name, shape=[30], hints={"dimensions": [[[X, Y], "primary"]]}, motors=[X, Y])
    pen.describe({"camera": [1, 4, 6], X: "mm", Y: "mm"})
    pen.file("camera", counts)
    pen.steps(["camera"], 30, {X: x, Y: y})
    pen.stop(num_events={"primary": 30})
    expected = Expected(counts, {X: x, Y: y}, expected=30, sample=brightness)
    return _form(pen, name, "1-D shape of a spiral; readbacks in the events", expected)


def pages_of_events(name: str) -> Form:
    start = {"shape": [3, 4], "snaking": [False, True], "extents": [[3.0, 2.0], [0.5, 1.25]]}
    pen = Pen(name, **start, hints={"dimensions": [[[Y], "primary"], [[X], "primary"]]})
    pen.describe({"diode-value": "nA", X: "mm", Y: "mm"})
    for part in (slice(0, 5), slice(5, 12)):
        numbers = np.arange(1, 13)[part]
        data = {"diode-value": COUNTS[part], X: GX[part], Y: GY[part]}
        page = {"descriptor": f"primary of {pen.uid}", "seq_num": numbers, "uid": [f"{n}" for n in numbers]}
        times = {"time": [1.0] * len(numbers), "timestamps": dict.fromkeys(data, [1.0] * len(numbers)), "filled": {}}
        pen.write("event_page", {**page, **times, "data": data})
    pen.stop(num_events={"primary": 12})
    places = {X: GX, Y: GY}
    expected = Expected(COUNTS, places, expected=12, table=SNAKED, sample=brightness, scalars={"diode-value": COUNTS})
    return _form(pen, name, "event_page is legal Bluesky; accept it", expected)


def null_for_nan(name: str) -> Form:
    counts = COUNTS.copy()
    counts[[4, 7]] = np.nan
    start = {"shape": [3, 4], "snaking": [False, True], "extents": [[3.0, 2.0], [0.5, 1.25]], "motors": [Y, X]}
    pen = Pen(name, **start)
    pen.describe({"diode-value": "nA", X: "mm", Y: "mm"})
    pen.steps([], 12, {"diode-value": counts, X: GX, Y: GY})
    pen.stop(num_events={"primary": 12})
    expected = Expected(counts, {X: GX, Y: GY}, expected=12, table=SNAKED, blank=2, sample=brightness)
    return _form(pen, name, "NaN and Inf arrive as null", expected)


def without_a_start(name: str) -> Form:
    orphan, pen = Pen(f"{name}, never begun"), visr(name, shape=[3, 4])
    orphan.describe({"camera": [1, 4, 6]})
    orphan.file("camera", COUNTS)
    orphan.steps(["camera"], 12)
    orphan.stop()
    both = list(zip(orphan.documents[1:], pen.documents, strict=False))
    pen.documents = [document for pair in both for document in pair] + pen.documents[len(both) :]
    expected = Expected(COUNTS, expected=12, table=SNAKED)
    return _form(pen, name, "documents without their start must not break anything", expected)


def no_stop(name: str) -> Form:
    pen = visr(name, shape=[3, 4])
    pen.documents.pop()
    del pen.documents[-6:]
    expected = Expected(with_blanks(COUNTS, 9), status="running", expected=12, table=SNAKED)
    return _form(pen, name, "resume or abort after pause: no stop ever", expected)


def lost(name: str) -> Form:
    pen = visr(name, shape=[3, 4])
    pen.documents.pop()
    del pen.documents[-6:]
    pen.write("stop", lost_stop(Run(pen.documents[0][1]), "nothing heard for 900 s", time=1_700_000_900.0))
    # what the file holds beyond is filled in
    expected = Expected(COUNTS, status="lost", expected=12, table=SNAKED)
    return _form(pen, name, "the broker was down: closed as lost, then filled from the file", expected)


def aborted_fly_scan(name: str) -> Form:
    x, y, table = grid(8, 13)
    counts = brightness(x, y)
    spec = Linspace(Y, 3.0, -0.5, 8) * ~Linspace(X, 0.5, 3.5, 13)
    pen = Pen(name, scanspec=spec.serialize(), shape=[8, 13])
    pen.describe({"camera": [1, 4, 6]})
    pen.file("camera", counts[:97])
    for first, last in ((1, 13), (14, 26), (27, 60), (61, 84)):
        pen.announce("camera", first, last)
    pen.stop(ABORT, reason="", num_events={"primary": 84})
    expected = Expected(
        with_blanks(counts, 97),
        {X: x, Y: y},
        source="scanspec",
        status="aborted",
        expected=104,
        table=table,
        sample=brightness,
    )
    return _form(pen, name, "84 frames announced, 97 in the file: the tail is never announced", expected)


def rewound(name: str) -> Form:
    pen = Pen(name, shape=[3, 4], snaking=[False, True], extents=[[3.0, 2.0], [0.5, 1.25]], motors=[Y, X])
    pen.describe({"camera": [1, 4, 6]})
    pen.file("camera", np.concatenate([COUNTS[:4], [1.0, 2.0], COUNTS[4:]]))
    pen.announce("camera", 1, 6)
    pen.announce("camera", 5, 12, index=6)
    pen.stop(num_events={"primary": 12})
    expected = Expected(COUNTS, {X: GX, Y: GY}, expected=12, table=SNAKED, sample=brightness)
    form = _form(pen, name, "seq_nums repeat and indices go on: the last write wins", expected)
    return replace(form, rewinds=True)


def two_cameras(name: str) -> Form:
    pen = Pen(name, shape=[3, 4], snaking=[False, True], extents=[[3.0, 2.0], [0.5, 1.25]], motors=[Y, X])
    pen.describe({"camera": [1, 4, 6], "other": [2, 8, 8]})
    pen.file("camera", COUNTS)
    pen.file("other", np.repeat(2.0 * COUNTS, 2), name="other")
    pen.steps(["other", "camera"], 12)
    pen.stop(num_events={"primary": 12})
    expected = Expected(
        COUNTS, {X: GX, Y: GY}, expected=12, table=SNAKED, sample=brightness, others={"other": 4.0 * COUNTS}
    )
    return _form(pen, name, "several detectors and several image data keys", expected)


def two_streams_of_frames(name: str) -> Form:
    pen = Pen(name, shape=[3, 4], snaking=[False, True], extents=[[3.0, 2.0], [0.5, 1.25]], motors=[Y, X])
    pen.describe({"camera": [1, 4, 6]})
    pen.describe({"flat field": [1, 4, 6]}, stream="other")
    pen.file("camera", COUNTS)
    pen.file("flat field", COUNTS[:5], name="other")
    for seq_num in range(1, 13):
        pen.announce("camera", seq_num, seq_num)
        if seq_num <= 5:
            pen.announce("flat field", seq_num, seq_num, stream="other")
    pen.stop(num_events={"primary": 12, "other": 5})
    expected = Expected(
        COUNTS,
        {X: GX, Y: GY},
        expected=12,
        table=SNAKED,
        sample=brightness,
        others={"other: flat field": COUNTS[:5]},
    )
    return _form(pen, name, "more than one stream, each with its own count of points", expected)


def described_anew(name: str) -> Form:
    pen = Pen(name, shape=[3, 4], snaking=[False, True], extents=[[3.0, 2.0], [0.5, 1.25]], motors=[Y, X])
    pen.describe({"camera": [1, 4, 6], "diode-value": "nA"})
    pen.file("camera", COUNTS)
    for seq_num in range(1, 13):
        if seq_num == 8:
            again = dict(pen.documents[1][1], uid=f"anew of {pen.uid}")
            pen.write("descriptor", again)
        stream = "primary" if seq_num < 8 else "anew"
        pen.announce("camera", seq_num, seq_num, stream=stream)
        pen.event(seq_num, {"diode-value": COUNTS[seq_num - 1]}, stream=stream)
    pen.stop(num_events={"primary": 12})
    expected = Expected(
        COUNTS,
        {X: GX, Y: GY},
        expected=12,
        table=SNAKED,
        sample=brightness,
        scalars={"diode-value": COUNTS},
    )
    return _form(pen, name, "a device that is configured in mid-run is described anew", expected)


def announced_before_numbered(name: str) -> Form:
    pen = visr(name, shape=[3, 4])
    empty = {"start": 0, "stop": 0}
    early = {**pen.documents[3][1], "uid": "early", "indices": {"start": 0, "stop": 1}, "seq_nums": empty}
    pen.documents.insert(3, ("stream_datum", early))
    expected = Expected(COUNTS, source="shape", expected=12, table=SNAKED)
    return _form(pen, name, "a stream_datum whose seq_nums are not known yet says nothing", expected)


def readbacks_that_tremble(name: str) -> Form:
    chance = np.random.default_rng(5)
    x, y = GX + chance.normal(0, 0.002, 12), GY + chance.normal(0, 0.002, 12)
    pen = Pen(name, shape=[3, 4], snaking=[False, True], hints={"dimensions": [[[Y], "primary"], [[X], "primary"]]})
    pen.describe({"camera": [1, 4, 6], X: "mm", Y: "mm"})
    pen.file("camera", COUNTS)
    pen.steps(["camera"], 12, {X: x, Y: y})
    pen.stop(num_events={"primary": 12})
    expected = Expected(COUNTS, {X: GX, Y: GY}, expected=12, table=SNAKED, tolerance=0.01)
    return _form(pen, name, "readbacks tremble about the nodes of a grid that has no extents", expected)


def more_points_than_places(name: str) -> Form:
    pen = visr(name, shape=[2, 4])
    expected = Expected(COUNTS[:8], expected=8, table=SNAKED[:2], beyond=4)
    return _form(pen, name, "points beyond the shape are counted and drawn nowhere", expected)


def classic(name: str, *, late: bool = False) -> Form:
    """As ophyd made it: a resource, a datum a point, and its id in the event."""
    pen = Pen(name, shape=[3, 4], snaking=[False, True], extents=[[3.0, 2.0], [0.5, 1.25]], motors=[Y, X])
    camera = {"source": "PV:cam", "dtype": "array", "shape": [1, 4, 6], "external": "FILESTORE:"}
    own = {"source": "PV:sum", "dtype": "number", "shape": [], "units": "counts"}
    doc = {"uid": f"primary of {pen.uid}", "run_start": pen.uid, "name": "primary", "configuration": {}, "hints": {}}
    pen.write("descriptor", {**doc, "data_keys": {"camera": camera, "camera-sum": own}, "object_keys": {}})
    resource = f"r of {pen.uid}"
    told = {"spec": "AD_HDF5", "root": "/data", "resource_path": "a b.h5", "resource_kwargs": {"frame_per_point": 1}}
    pen.write("resource", {"uid": resource, "run_start": pen.uid, "path_semantics": "posix", **told})
    pen.files["file://localhost/data/a%20b.h5", "/entry/data/data"] = COUNTS
    ids = [f"{resource}/{point}" for point in range(12)]
    for point in range(12):
        if not late:
            arguments = {"point_number": point}
            pen.write("datum", {"datum_id": ids[point], "resource": resource, "datum_kwargs": arguments})
        pen.event(point + 1, {"camera": ids[point], "camera-sum": COUNTS[point]})
    if late:
        page = {"datum_id": ids, "datum_kwargs": {"point_number": list(range(12))}}
        pen.write("datum_page", {"resource": resource, **page})
    pen.stop(num_events={"primary": 12})
    expected = Expected(COUNTS, {X: GX, Y: GY}, expected=12, table=SNAKED, scalars={"camera-sum": COUNTS})
    return _form(pen, name, "resource and datum, as before ophyd-async", expected)


def with_blanks(counts: Numbers, points: int) -> Numbers:
    """The same with nothing after some points."""
    return np.where(np.arange(len(counts)) < points, counts, np.nan)


MAKERS: dict[str, Callable[[str], Form]] = {
    "ViSR": shape_alone,
    "ViSR, row by row": shape_alone_row_by_row,
    "no shape": nothing_told,
    "no shape, known instrument": nothing_told_at_a_known_instrument,
    "color frames": color,
    "sets as lists": sets_as_lists,
    "snake_axes alone": string_of_snake_axes,
    "broken scanspec": broken_scanspec,
    "extents that do not fit": extents_that_do_not_fit,
    "nonsequential, no positions": nonsequential_without_positions,
    "positions in a second file": positions_in_another_file,
    "masked, positions in a second file": masked_positions_in_another_file,
    "spiral from readbacks": readbacks_of_a_path,
    "event_page": pages_of_events,
    "null for NaN": null_for_nan,
    "without a start": without_a_start,
    "no stop": no_stop,
    "lost": lost,
    "aborted fly scan": aborted_fly_scan,
    "rewound fly scan": rewound,
    "two cameras": two_cameras,
    "two streams of frames": two_streams_of_frames,
    "described anew": described_anew,
    "announced before numbered": announced_before_numbered,
    "classic": classic,
    "classic, data last": lambda name: classic(name, late=True),
    "trembling readbacks": readbacks_that_tremble,
    "more points than places": more_points_than_places,
}


def written_names() -> list[str]:
    """Names of the forms."""
    return list(MAKERS)


def written_forms() -> list[Form]:
    """All of them."""
    return [make(name) for name, make in MAKERS.items()]
