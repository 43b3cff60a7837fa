"""What can be drawn of a run: the frames of a camera, summed over ROIs, and the scalars that come beside them.

Every stream of a run has its own count of points, so every stream has its own geometry and its own sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snakemap.core.channels import DEFAULT_CHANNELS, TOTAL
from snakemap.core.derived_documents import DerivedDescriptor, Rectangle
from snakemap.core.frame_ledger import FrameLedger
from snakemap.core.maps import Maps
from snakemap.core.raster import Raster
from snakemap.core.stream_geometry import StreamGeometry
from snakemap.core.stream_resources import image_data_keys, is_spectrum

__all__ = ["SCALARS", "CrossCheck", "MapSource", "Stream", "agreements"]


SCALARS = "scalars"
"""Key of the source whose channels are the scalars of a stream, each a map of its own."""

SEQ_NUM_MAX = 10_000_000
"""Events beyond this point are not counted."""

SCALARS_MAX = 16
IMAGES_MAX = 8
TOLERANCE = 1e-6
"""Relative difference up to which two sums agree; floating-point frames may be summed in another order."""


class MapSource:
    """One set of maps of a run.

    Args:
        key: the image data key, like ``"camera"``, or :data:`SCALARS`; empty while nothing has been described.
        stream: name of its stream, like ``"primary"``.
        raster: where its points lie.
        channels: names of its maps.
        ledger: the account of its frames.

    Attributes:
        maps: the grids.
        rois: rectangles ``(y0, y1, x0, x1)`` in detector pixels, by channel; empty before the first sums.
        frame_shape: rows and columns of a frame, or None before that is known.
        units: by channel, like ``{"diode": "nA"}``; sums are in counts.
        told: what our own descriptor says; None before it came.
        remarks: what is to be said of its sums, a sentence each, by uid of our descriptor.
    """

    def __init__(
        self,
        key: str,
        *,
        stream: str,
        raster: Raster,
        channels: Sequence[str] = DEFAULT_CHANNELS,
        ledger: FrameLedger | None = None,
    ) -> None:
        self.key = key
        self.stream = stream
        self.maps = Maps(raster, channels)
        self.ledger = ledger or FrameLedger()
        self.rois: dict[str, Rectangle] = {}
        self.frame_shape: tuple[int, int] | None = None
        self.units: dict[str, str] = {}
        self.told: DerivedDescriptor | None = None
        self.remarks: dict[str, str] = {}

    @property
    def kind(self) -> Literal["frames", "spectra", "scalars"]:
        """What its points are; of a data key with two dimensions only the dataset tells, when it is read."""
        if self.key == SCALARS:
            return "scalars"
        spectra = self.told.spectra if self.told else is_spectrum(self.ledger.point_shape)
        return "spectra" if spectra else "frames"

    @property
    def rank(self) -> int:
        """The lower, the sooner it is the main source: cameras, what is probably a camera, spectra, scalars."""
        if self.kind != "frames":
            return 2 if self.kind == "spectra" else 3
        return 1 if self.told is None and len(self.ledger.point_shape) == 2 else 0

    @property
    def hindrance(self) -> str:
        """Why none of its files can be read, in words for the page; empty when some can."""
        return self.ledger.hindrance

    @property
    def descriptor(self) -> str | None:
        """Uid of the detector's own descriptor."""
        return self.ledger.descriptor

    def describe(self, told: DerivedDescriptor) -> None:
        """Takes ROIs and frame shape from a descriptor of ours; the maps begin anew."""
        self.told, self.rois, self.frame_shape = told, dict(told.rois or {}), told.frame_shape
        self.ledger.unreadable = ""
        self.maps = Maps(self.maps.raster, (*self.rois, TOTAL))

    def lay_out(self, raster: Raster) -> None:
        """Moves its points to another raster; nothing is lost."""
        before = self.maps
        if (raster.shape, raster.snaking) == (before.raster.shape, before.raster.snaking):
            before.raster = raster
            return
        self.maps = Maps(raster, before.channels)
        cells = np.flatnonzero(before.visited_cells())
        if len(cells):
            # in the order of the scan, so that the point that came last still does
            seq_nums = before.raster.seq_nums(cells)
            order = np.argsort(seq_nums, kind="stable")
            values = {name: before.values(number, cells)[order] for number, name in enumerate(before.channels)}
            self.maps.assign(seq_nums[order], values)

    def add_channels(self, units: Mapping[str, str]) -> bool:
        """Adds scalars that it has not had, with their units; whether there were any."""
        self.units.update(units)
        new = [name for name in units if name not in self.maps.channels][: SCALARS_MAX - len(self.maps.channels)]
        if not new:
            return False
        before = self.maps
        self.maps = Maps(before.raster, (*before.channels, *new))
        cells = np.flatnonzero(before.visited_cells())
        values = {name: before.values(number, cells) for number, name in enumerate(before.channels)}
        if len(cells):
            self.maps.assign(before.raster.seq_nums(cells), values)
        return True


class Stream:
    """One stream of a run: its geometry, and everything that can be drawn of it.

    Args:
        name: like ``"primary"``.
        placing: where its points lie.

    Attributes:
        descriptors: uids of its descriptors.
        images: its cameras, by data key.
        scalars: the source of its scalars; None while there are none.
        files: the account of each scalar that is in a file, by data key.
        told: what our descriptor says of each of these, by data key.
        events: the highest seq_num of an event.
        came: how many different seq_nums events have had.
        in_events: whether something of it comes with events, so that each point has one.
        pointed: data keys of which events hold the ids of data, not values.
    """

    def __init__(self, name: str, placing: StreamGeometry) -> None:
        self.name = name
        self.placing = placing
        self.descriptors: set[str] = set()
        self.images: dict[str, MapSource] = {}
        self.scalars: MapSource | None = None
        self.files: dict[str, FrameLedger] = {}
        self.told: dict[str, DerivedDescriptor] = {}
        self.events = 0
        self.came = 0
        self.in_events = False
        self.pointed: set[str] = set()
        self._came = np.zeros(1024, dtype=bool)
        self._epoch = placing.epoch
        self._units: dict[str, str] = {}

    @property
    def sources(self) -> Iterator[MapSource]:
        """Its cameras, then its scalars."""
        yield from self.images.values()
        if self.scalars is not None:
            yield self.scalars

    def describe(self, doc: Mapping[str, Any]) -> bool:
        """Takes a descriptor; whether there is more to draw than before."""
        self.descriptors.add(doc["uid"])
        self.in_events |= any(_comes_with_events(key) for key in doc["data_keys"].values())
        self.pointed |= {name for name, key in doc["data_keys"].items() if _is_pointed(key)}
        self.placing.descriptor(doc)
        changed = self.follow()
        for key in image_data_keys(doc):
            if key not in self.images and len(self.images) < IMAGES_MAX:
                self.images[key] = self._image(key, doc["data_keys"][key]["shape"])
                changed = True
        scalars = _scalar_keys(doc)
        for key, (_, external) in scalars.items():
            if external and key not in self.files:
                self.files[key] = FrameLedger(key)
        for ledger in self.ledgers():
            ledger.add_descriptor(doc)
        return self._add_scalars({key: unit for key, (unit, _) in scalars.items()}) or changed

    @property
    def points(self) -> int:
        """The highest seq_num that anything has told of."""
        announced = (ledger.announced for ledger in self.ledgers())
        drawn = (source.maps.highest for source in self.sources)
        return max(self.events, *announced, *drawn, 0)

    def count(self, seq_nums: npt.NDArray[np.int64]) -> None:
        """Counts events, each seq_num once: a RunEngine that rewinds uses them again."""
        highest = int(seq_nums[0]) if len(seq_nums) == 1 else int(seq_nums.max())
        self.events = max(self.events, highest)
        if highest >= SEQ_NUM_MAX:
            return
        if highest >= len(self._came):
            more = max(highest + 1, 2 * len(self._came)) - len(self._came)
            self._came = np.concatenate([self._came, np.zeros(more, dtype=bool)])
        if len(seq_nums) == 1:  # an event, which must cost little
            self.came += not self._came[highest]
            self._came[highest] = True
            return
        new = np.unique(seq_nums[~self._came[seq_nums]])
        self._came[new] = True
        self.came += len(new)

    def lost(self, told: int | None) -> int:
        """Events that never came, by the gaps in their seq_nums and by how many there were.

        Args:
            told: events of this stream, as the stop document has it; None when it does not tell.
        """
        return max(self.events, told or 0) - self.came if self.in_events and self.events < SEQ_NUM_MAX else 0

    def ledgers(self) -> Iterator[FrameLedger]:
        """The accounts of everything of it that is in files."""
        for source in self.images.values():
            yield source.ledger
        yield from self.files.values()

    def ledger(self, data_key: str) -> FrameLedger | None:
        """The account of a data key."""
        source = self.images.get(data_key)
        return source.ledger if source else self.files.get(data_key)

    def take(self, seq_nums: npt.NDArray[np.int64], data: Mapping[str, npt.NDArray[np.float64]]) -> bool:
        """Takes scalars (n,) by data key; whether the geometry has changed by it."""
        data = {key: column for key, column in data.items() if key in self._units}
        if not data or not len(seq_nums):
            return False
        self.placing.make_room(int(seq_nums.max()))
        self.placing.columns(seq_nums, data)
        changed = self.follow()
        if self.scalars is not None:
            self.scalars.maps.assign(seq_nums, data)
        return changed

    def follow(self) -> bool:
        """Lays the sources out on the raster that holds now; whether it is another one than before."""
        if self._epoch == self.placing.epoch:
            return False
        self._epoch = self.placing.epoch
        for source in self.sources:
            source.lay_out(self.placing.raster)
        return True

    def replace_placing(self, placing: StreamGeometry) -> None:
        """Gives it another geometry."""
        self.placing, self._epoch = placing, -1
        self.follow()

    def _image(self, key: str, shape: Sequence[Any]) -> MapSource:
        known = all(isinstance(size, int) for size in shape)
        channels = (TOTAL,) if known and is_spectrum(shape) else DEFAULT_CHANNELS
        return MapSource(key, stream=self.name, raster=self.placing.raster, channels=channels, ledger=FrameLedger(key))

    def _add_scalars(self, units: Mapping[str, str]) -> bool:
        self._units.update(units)
        drawn = {key: unit for key, unit in units.items() if key not in self.placing.position_keys}
        if not drawn:
            return False
        if self.scalars is None:
            self.scalars = MapSource(SCALARS, stream=self.name, raster=self.placing.raster, channels=())
        return self.scalars.add_channels(drawn)


class CrossCheck:
    """Whether our sum of a frame is the one that the detector itself made of it, kept by increments.

    Args:
        ours: source of our sums.
        channel: which of them.
        theirs: source of the scalars.
        key: data key of the detector's sum.
    """

    def __init__(self, ours: MapSource, channel: str, theirs: MapSource, key: str) -> None:
        self.channel, self.key = channel, key
        self._ours, self._theirs = ours.maps, theirs.maps
        self._numbers = ours.maps.channels.index(channel), theirs.maps.channels.index(key)
        self._versions = (0, 0)
        self._state = np.zeros(ours.maps.raster.size, dtype=np.uint8)
        self.compared = 0
        self.differing = 0

    def update(self) -> None:
        """Compares what has come since the last time."""
        cells = np.union1d(self._ours.changed(self._versions[0]), self._theirs.changed(self._versions[1]))
        self._versions = self._ours.version, self._theirs.version
        if not len(cells):
            return
        ours, theirs = self._ours.values(self._numbers[0], cells), self._theirs.values(self._numbers[1], cells)
        both = ~np.isnan(ours) & ~np.isnan(theirs)
        off = both & (np.abs(ours - theirs) > TOLERANCE * np.maximum(np.abs(ours), np.abs(theirs)))
        before = self._state[cells]
        self.compared += int(np.count_nonzero(both)) - int(np.count_nonzero(before & 1))
        self.differing += int(np.count_nonzero(off)) - int(np.count_nonzero(before & 2))
        self._state[cells] = both.astype(np.uint8) | (off.astype(np.uint8) << 1)

    @property
    def short(self) -> str:
        """The same in the width of a title."""
        return f"≠ {self.key} at {self.differing:,} of {self.compared:,}" if self.differing else ""

    @property
    def described(self) -> str:
        """A word about the difference; empty while there is none."""
        if not self.differing:
            return ""
        return f"{self.channel} differs from the detector's own {self.key} at {self.differing:,} of {self.compared:,}"


def agreements(source: MapSource, scalars: MapSource | None) -> list[CrossCheck]:
    """The sums of a source that the detector made as well, by the names that ophyd-async and IOCs give them.

    ``camera-sum`` is the sum over the whole frame of ``camera``, ``RedTotal`` that over the ROI ``red``.
    """
    if scalars is None or source.kind == "scalars":
        return []
    found = []
    for channel in source.maps.channels:
        key = _sum_of(channel, source.key, scalars.maps.channels)
        if key is not None:
            found.append(CrossCheck(source, channel, scalars, key))
    return found


def _sum_of(channel: str, camera: str, keys: Sequence[str]) -> str | None:
    """The scalar that holds the detector's own sum of a channel.

    >>> _sum_of("total", "cam", ["cam2-sum", "cam-sum"]), _sum_of("red", "cam", ["x", "RedTotal"])
    ('cam-sum', 'RedTotal')
    """
    camera = _plain(camera)
    wanted = [f"{camera}sum", f"{camera}total"] if channel == TOTAL else []
    wanted += [f"{camera}{_plain(channel)}{word}" for word in ("total", "sum")] if channel != TOTAL else []
    wanted += [f"{_plain(channel)}total"] if channel != TOTAL else []
    names = {_plain(key): key for key in reversed(keys)}
    return next((names[name] for name in wanted if name in names), None)


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _is_pointed(key: Any) -> bool:
    """Whether events hold the id of a datum for a data key, as before ophyd-async."""
    external = key.get("external") if isinstance(key, Mapping) else None
    return isinstance(external, str) and not external.startswith("STREAM")


def _comes_with_events(key: Any) -> bool:
    """Whether the values of a data key, or the names under which they are found, are in events."""
    external = key.get("external") if isinstance(key, Mapping) else None
    return not (isinstance(external, str) and external.startswith("STREAM"))


def _scalar_keys(doc: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Unit, and whether it is in a file, of every data key of a descriptor that is one number a point."""
    found: dict[str, tuple[str, bool]] = {}
    for name, key in doc["data_keys"].items():
        if not isinstance(key, Mapping) or not isinstance(name, str):
            continue
        shape, external = key.get("shape"), bool(key.get("external"))
        lone = shape in ([], ()) or (external and isinstance(shape, list) and len(shape) == 1)
        number = key.get("dtype") in ("number", "integer") or (external and key.get("dtype") == "array")
        if lone and number:
            units = key.get("units")
            found[name] = (units if isinstance(units, str) else "", external)
    return dict(list(found.items())[: 4 * SCALARS_MAX])
