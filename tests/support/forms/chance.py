"""Whole runs by chance: start documents, descriptors, events and stops, valid and broken, in good order and in bad."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

__all__ = ["random_run"]

AXES = ["stage-x", "stage-y", "stage-z", "time", ""]
STRANGE: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**31,
    2**63,
    -(2**70),
    1e308,
    -1e308,
    5e-324,
    "",
    "stage-x",
    "\ud83d\ude00" * 5,
    "x" * 200,
    [],
    {},
    [[]],
    [None],
    [0],
    [-1, 2],
    [1e308, -1e308],
    [True, False],
    ["stage-x", None],
    {"type": "Snake"},
    {"start": 0, "stop": 10**12},
    [[[[[[[[]]]]]]]],
]
GEOMETRY = (
    "scanspec",
    "shape",
    "snaking",
    "snake_axes",
    "extents",
    "hints",
    "motors",
    "num_points",
    "plan_args",
    "units",
)


class Chance(random.Random):
    """Chance, and what it makes."""

    def often(self, share: float) -> bool:
        """True with some probability."""
        return self.random() < share

    def number(self) -> Any:
        """A coordinate."""
        return self.choice(
            [0, 1, -1, 0.1, 1e-9, 1e12, self.uniform(-5, 5), self.uniform(-5, 5), round(self.gauss(0, 3), 1)]
        )

    def size(self) -> Any:
        """Points along an axis: few, or far too many."""
        return self.choice([1, 2, 3, 4, 5, 7, 9, 12]) if self.often(0.97) else self.choice([0, -3, 10**7, 10**12, 2.0])

    def axis(self) -> str:
        """The name of a motor."""
        return self.choice(AXES[:3]) if self.often(0.95) else self.choice(AXES)

    def spec(self, depth: int = 0) -> Any:
        """A scanspec as JSON, more or less."""
        kinds = ["Linspace", "Line", "Range", "Static", "Spiral", "Ellipse", "Polygon"]
        if depth < 4:
            kinds += ["Product", "Product", "Snake", "Snake", "Zip", "Concat", "Squash", "Fly", "ConstantDuration"]
        kind = self.choice(kinds)
        found = {"type": kind, **self._fields(kind, depth)}
        if self.often(0.04):
            found[self.choice(list(found))] = self.choice(STRANGE)
        if self.often(0.02):
            del found[self.choice(list(found))]
        return found

    def _fields(self, kind: str, depth: int) -> dict[str, Any]:
        x, y = self.sample(AXES[:3], 2)
        match kind:
            case "Linspace" | "Line":
                return {"axis": self.axis(), "start": self.number(), "stop": self.number(), "num": self.size()}
            case "Range":
                return {"axis": x, "start": self.number(), "stop": self.uniform(-5, 5), "step": self.uniform(0.5, 3)}
            case "Static":
                return {"axis": x, "value": self.number(), "num": self.size()}
            case "Spiral" | "Ellipse":
                names = ("axis", "centre", "diameter")
                told = {f"x_{name}": part for name, part in zip(names, (x, 1.0, self.uniform(1, 6)), strict=True)}
                told |= {f"y_{name}": part for name, part in zip(names, (y, -1.0, self.uniform(1, 6)), strict=True)}
                return {
                    **told,
                    "x_step": self.uniform(0.4, 2),
                    **({"y_step": 0.7, "snake": True} if kind[0] == "E" else {}),
                }
            case "Polygon":
                vertices = [[self.uniform(-3, 3), self.uniform(-3, 3)] for _ in range(self.randint(2, 6))]
                return {"x_axis": x, "y_axis": y, "vertices": vertices, "x_step": 0.7, "y_step": 0.9}
            case "Product":
                outer = self.choice([2, 3]) if self.often(0.1) else self.spec(depth + 1)
                return {"outer": outer, "inner": self.spec(depth + 1), "gap": self.often(0.8)}
            case "Zip" | "Concat":
                left = self.spec(depth + 1)
                return {"left": left, "right": dict(left, axis=y) if self.often(0.5) else self.spec(depth + 1)}
            case "ConstantDuration":
                return {"constant_duration": 0.1, "spec": self.spec(depth + 1)}
        return {"spec": self.spec(depth + 1)}

    def start(self, uid: str) -> dict[str, Any]:
        """A start document."""
        shape = [self.size() for _ in range(self.choice([1, 2, 2, 2, 3]))]
        axes = self.sample(AXES[:3], len(shape))
        told: dict[str, Any] = {
            "scanspec": self.spec(),
            "shape": shape,
            "snaking": [self.often(0.5) for _ in shape],
            "snake_axes": self.choice(["True", "False", "[SimMotor(name='stage-x')]", True]),
            "extents": [[self.number(), self.number()] for _ in shape],
            "hints": {"dimensions": [[[name], "primary"] for name in axes], "gridding": self.choice(GRIDDINGS)},
            "motors": axes,
            "num_points": self.size(),
            "plan_args": {"spec": self.choice(REPRS), "args": ["SimMotor(name='stage-y')", [0, 1, 3], "x", [4, 3]]},
            "units": {"stage-x": "mm"},
        }
        kept = {key: told[key] for key in GEOMETRY if self.often(0.4)}
        for key in list(kept):
            if self.often(0.08):
                kept[key] = self.choice(STRANGE)
        start = {"uid": uid, "time": 1.7e9, "plan_name": self.choice(["scan", "", 5]), "scan_id": 1, **kept}
        if self.often(0.1):
            start["rois"] = self.choice([*STRANGE, {"red": [0, 2, 0, 2]}])
        return start

    def descriptor(self, run: str, uid: str) -> dict[str, Any]:
        """A descriptor of camera, motors and a scalar."""
        shapes = [[1, 4, 6], [4, 6], [2, 4, 6], [1, 3, 4, 6], [1], [], [0, 4, 6], [None, 4, 6]]
        keys: dict[str, Any] = {"camera": {"external": "STREAM:", "shape": self.choice(shapes), "dtype": "array"}}
        for name in AXES[:3]:
            external = {"external": "STREAM:"} if self.often(0.2) else {}
            keys[name] = {"dtype": "number", "shape": [1] if external else [], "units": "mm", "source": "", **external}
        keys["diode"] = {"dtype": self.choice(["number", "array", "string"]), "shape": [], "units": "nA"}
        kept = {
            key: value if self.often(0.95) else self.choice(STRANGE) for key, value in keys.items() if self.often(0.8)
        }
        name = self.choice(["primary", "primary", "primary", "baseline", "other", "snakemap"])
        hints = {"camera": {"fields": ["camera"]}}
        return {"uid": uid, "run_start": run, "time": 1.7e9, "name": name, "data_keys": kept, "hints": hints}

    def columns(self, seq_num: int) -> dict[str, Any]:
        """The data of an event."""
        data: dict[str, Any] = {
            "stage-x": (seq_num - 1) % 4 * 0.5,
            "stage-y": (seq_num - 1) // 4 * 1.0,
            "diode": 1.0 * seq_num,
        }
        if self.often(0.2):
            data = {key: self.number() for key in data}
        if self.often(0.1):
            data[self.choice(list(data))] = self.choice(STRANGE)
        return {} if self.often(0.1) else data

    def page(self, descriptor: str) -> dict[str, Any]:
        """An event_page."""
        first, count = self.randint(1, 12), self.randint(0, 6)
        seq_nums: list[Any] = list(range(first, first + count))
        rows = [self.columns(seq_num) for seq_num in seq_nums]
        data = {key: [row.get(key) for row in rows] for key in ("stage-x", "stage-y", "diode", "half", "total")}
        if self.often(0.1) and seq_nums:
            data["diode"].pop()
        if self.often(0.05):
            seq_nums = self.choice([[-1], [0], [2**62], [1.5], [None], [[1]]])
        return {"descriptor": descriptor, "seq_num": seq_nums, "data": data, "uid": [], "time": [], "timestamps": {}}

    def span(self, first: int, count: int) -> Any:
        """A range of rows or points."""
        return {"start": first, "stop": first + count} if self.often(0.95) else self.choice(STRANGE)

    def run(self, uid: str) -> list[tuple[str, Any]]:
        """The documents of a run in good order."""
        documents: list[tuple[str, Any]] = [("start", self.start(uid))]
        descriptors = [f"{uid} d{number}" for number in range(self.choice([1, 1, 1, 2, 3]))]
        documents += [("descriptor", self.descriptor(uid, name)) for name in descriptors]
        for key in ("camera", "stage-x", "stage-y"):
            uri = self.choice(["file://localhost/data/a.h5", "file://[", "", "s3://bucket/a"])
            parameters = self.choice([{"dataset": "/entry/data/data"}, {"path": "x"}, {}])
            doc = {"uid": f"{uid} {key}", "run_start": uid, "data_key": key, "uri": uri, "parameters": parameters}
            documents.append(("stream_resource", {**doc, "mimetype": "application/x-hdf5"}))
        count = self.choice([0, 1, 5, 12, 16, 30])
        for seq_num in range(1, count + 1):
            documents += self._point(uid, self.choice(descriptors), seq_num)
        documents += self._ours(uid, descriptors[0], count)
        status = self.choice(["success", "success", "abort", "fail", "odd"])
        events = self.choice([{"primary": count}, {}, None, {"primary": -1}, 5])
        documents.append(("stop", {"uid": f"{uid} end", "run_start": uid, "exit_status": status, "num_events": events}))
        return documents

    def _point(self, uid: str, descriptor: str, seq_num: int) -> list[tuple[str, Any]]:
        if self.often(0.05):
            return [("event_page", self.page(descriptor))]
        spans = {"indices": self.span(seq_num - 1, 1), "seq_nums": self.span(seq_num, self.choice([1, 1, 1, 1, 2]))}
        datum = {"uid": "", "descriptor": descriptor, "stream_resource": f"{uid} camera", **spans}
        told = seq_num if self.often(0.97) else self.choice([0, -1, 2**53, 2**40, 1])
        event = {"uid": "", "descriptor": descriptor, "seq_num": told, "data": self.columns(seq_num), "time": 1.7e9}
        return [("stream_datum", datum), ("event", event)]

    def _ours(self, uid: str, source: str, count: int) -> list[tuple[str, Any]]:
        """Sums that the worker made, or what looks like them."""
        told: dict[str, Any] = {
            "data_key": "camera",
            "source": source,
            "rois": '{"half": [0, 4, 0, 3]}',
            "frame_shape": [4, 6],
        }
        if self.often(0.2):
            told[self.choice(list(told))] = self.choice(STRANGE)
        if self.often(0.2):
            told = {"kind": "scalar", "data_key": self.choice(["stage-x", "diode"]), "source": source}
        doc = {"uid": f"{uid} ours", "run_start": uid, "name": "snakemap", "data_keys": {}}
        descriptor = {**doc, "configuration": {"snakemap": {"data": told}}}
        pages = [("event_page", self.page(f"{uid} ours")) for _ in range(1 + count // 4)]
        return [("descriptor", descriptor), *pages]


GRIDDINGS = ["rectilinear", "rectilinear", "rectilinear_nonsequential", "odd", None]
REPRS: list[Any] = [
    "Product(outer=Linspace(axis=SimMotor(name='stage-y'), start=0.0, stop=1.0, num=2), "
    "inner=Snake(spec=Linspace(axis=SimMotor(name='stage-x'), start=0.0, stop=1.0, num=3)), gap=True)",
    "__import__('os').getcwd()",
    "Linspace(axis=SimMotor(name='x'), start=0.0, stop=1e999, num=3)",
    "(" * 300,
    "Snake(spec=Snake(spec=Linspace()))",
    None,
    {"type": "Linspace", "axis": "stage-x", "start": 0, "stop": 1, "num": 4},
]
NOISE: Sequence[str] = [
    "",
    "not JSON",
    "[]",
    "null",
    '{"name": "event"}',
    '{"task_id": "t", "statuses": {}}',
    '{"state": "IDLE", "task_status": null, "errors": [], "warnings": []}',
    '{"name": "start", "doc": {"uid": 5, "time": "now"}}',
    '{"name": "nothing", "doc": {}}',
]


def random_run(seed: int) -> list[str]:
    """What a broker delivers of one or two runs, the same for the same seed.

    Args:
        seed: any number.

    Returns:
        Bodies of messages; most are JSON.
    """
    chance = Chance(seed)
    documents = [
        document for name in ("a", "b")[: chance.choice([1, 1, 2])] for document in chance.run(f"{seed}{name}")
    ]
    if chance.often(0.3):
        documents = [document for document in documents for _ in range(chance.choice([0, 1, 1, 1, 1, 2]))]
    disorder = chance.choice(["none", "none", "neighbors", "all"])
    if disorder == "all":
        chance.shuffle(documents)
    elif disorder == "neighbors":
        places = [place + chance.uniform(0, 4) for place in range(len(documents))]
        documents = [document for _, document in sorted(zip(places, documents, strict=True), key=lambda pair: pair[0])]
    texts = []
    for name, doc in documents:
        if chance.often(0.02) and doc:
            doc = {**doc, chance.choice(list(doc)): chance.choice(STRANGE)}
        texts.append(json.dumps({"name": name, "doc": doc, "task_id": chance.choice(["t", None])}))
    for _ in range(chance.choice([0, 0, 1, 3])):
        texts.insert(chance.randint(0, len(texts)), chance.choice(NOISE))
    return texts
