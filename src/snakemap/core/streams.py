"""Sources of maps of a run: sums of a camera's frames over ROIs, and scalars.

Every stream of a run counts its own points, and has its own geometry and sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snakemap.core.channels import DEFAULT_CHANNELS, TOTAL
from snakemap.core.derived_documents import DerivedDescriptor, Rectangle
from snakemap.core.frame_ledger import FrameLedger
from snakemap.core.json_values import is_list, is_mapping
from snakemap.core.maps import Maps
from snakemap.core.raster import Raster
from snakemap.core.stream_geometry import StreamGeometry
from snakemap.core.stream_resources import image_data_keys, is_spectrum

__all__ = ["SCALARS", "CrossCheck", "MapSource", "Stream", "cross_checks"]


SCALARS = "scalars"
"""Key of the source whose channels are the scalars of a stream, each a map of its own."""

SEQ_NUM_MAX = 10_000_000
"""Events beyond this point are not counted."""

SCALARS_MAX = 16
IMAGES_MAX = 8
TOLERANCE = 1e-6
"""Relative difference up to which two sums agree; float frames may be summed in another order."""


class MapSource:
    """One set of maps of a run.

    Args:
        key: the image data key, like ``"camera"``, or :data:`SCALARS`; empty before the first descriptor.
        stream: name of its stream, like ``"primary"``.
        raster: the cell of each point.
        channels: names of its maps.
        ledger: the state of its frames.

    Attributes:
        maps: the grids.
        rois: rectangles ``(y0, y1, x0, x1)`` in detector pixels, by channel; empty before the first sums.
        frame_shape: rows and columns of a frame, or None before that is known.
        units: by channel, like ``{"diode": "nA"}``; sums are in counts.
        derived_descriptor: content of its derived descriptor; None before.
        remarks: sentences on its sums for the user, by uid of the derived descriptor.
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
        self.derived_descriptor: DerivedDescriptor | None = None
        self.remarks: dict[str, str] = {}

    @property
    def kind(self) -> Literal["frames", "spectra", "scalars"]:
        """The kind of data at each point; two dimensions are decided when the dataset is read."""
        if self.key == SCALARS:
            return "scalars"
        spectra = self.derived_descriptor.spectra if self.derived_descriptor else is_spectrum(self.ledger.point_shape)
        return "spectra" if spectra else "frames"

    @property
    def rank(self) -> int:
        """Rank among main sources, lowest first: cameras, probable cameras, spectra, scalars."""
        if self.kind != "frames":
            return 2 if self.kind == "spectra" else 3
        return 1 if self.derived_descriptor is None and len(self.ledger.point_shape) == 2 else 0

    @property
    def unread_reason(self) -> str:
        """Why none of its files can be read, for the user; empty if some can."""
        return self.ledger.unread_reason

    @property
    def descriptor(self) -> str | None:
        """Uid of the detector's own descriptor."""
        return self.ledger.descriptor

    def describe(self, derived: DerivedDescriptor) -> None:
        """Apply ROIs and frame shape of a derived descriptor; the maps become empty."""
        self.derived_descriptor, self.rois, self.frame_shape = derived, dict(derived.rois or {}), derived.frame_shape
        self.ledger.unreadable = ""
        self.maps = Maps(self.maps.raster, (*self.rois, TOTAL))

    def set_raster(self, raster: Raster) -> None:
        """Move its points to another raster."""
        before = self.maps
        if (raster.shape, raster.snaking) == (before.raster.shape, before.raster.snaking):
            before.raster = raster
            return
        self.maps = Maps(raster, before.channels)
        cells = np.flatnonzero(before.visited_cells())
        if len(cells):
            # in scan order, so that the last point stays the last
            seq_nums = before.raster.seq_nums(cells)
            order = np.argsort(seq_nums, kind="stable")
            values = {name: before.values(number, cells)[order] for number, name in enumerate(before.channels)}
            self.maps.assign(seq_nums[order], values)

    def add_channels(self, units: Mapping[str, str]) -> bool:
        """Add new scalars with their units; return whether there were any."""
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
    """One stream of a run: its geometry and sources.

    Args:
        name: like ``"primary"``.
        geometry: the raster of its points.

    Attributes:
        descriptors: uids of its descriptors.
        images: its cameras, by data key.
        scalars: the source of its scalars; None if there are none.
        files: the ledger of each scalar in a file, by data key.
        derived_descriptors: the derived descriptor of each of these, by data key.
        events: the highest seq_num of an event.
        event_count: number of different seq_nums of events.
        in_events: whether data comes with events, so that each point has one.
        datum_keys: data keys whose values in events are datum ids.
    """

    def __init__(self, name: str, geometry: StreamGeometry) -> None:
        self.name = name
        self.geometry = geometry
        self.descriptors: set[str] = set()
        self.images: dict[str, MapSource] = {}
        self.scalars: MapSource | None = None
        self.files: dict[str, FrameLedger] = {}
        self.derived_descriptors: dict[str, DerivedDescriptor] = {}
        self.events = 0
        self.event_count = 0
        self.in_events = False
        self.datum_keys: set[str] = set()
        self._has_event = np.zeros(1024, dtype=bool)
        self._epoch = geometry.epoch
        self._units: dict[str, str] = {}

    @property
    def sources(self) -> Iterator[MapSource]:
        """Yield its cameras, then its scalars."""
        yield from self.images.values()
        if self.scalars is not None:
            yield self.scalars

    def describe(self, doc: Mapping[str, Any]) -> bool:
        """Add a descriptor; return whether sources or geometry changed."""
        self.descriptors.add(doc["uid"])
        self.in_events |= any(_comes_with_events(key) for key in doc["data_keys"].values())
        self.datum_keys |= {name for name, key in doc["data_keys"].items() if _holds_datum_ids(key)}
        self.geometry.descriptor(doc)
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
        """The highest seq_num in events, announcements or maps."""
        announced = (ledger.announced for ledger in self.ledgers())
        drawn = (source.maps.highest for source in self.sources)
        return max(self.events, *announced, *drawn, 0)

    def count(self, seq_nums: npt.NDArray[np.int64]) -> None:
        """Count events, each seq_num once: a RunEngine that rewinds repeats them."""
        highest = int(seq_nums[0]) if len(seq_nums) == 1 else int(seq_nums.max())
        self.events = max(self.events, highest)
        if highest >= SEQ_NUM_MAX:
            return
        if highest >= len(self._has_event):
            more = max(highest + 1, 2 * len(self._has_event)) - len(self._has_event)
            self._has_event = np.concatenate([self._has_event, np.zeros(more, dtype=bool)])
        if len(seq_nums) == 1:  # fast path for single events
            self.event_count += not self._has_event[highest]
            self._has_event[highest] = True
            return
        new = np.unique(seq_nums[~self._has_event[seq_nums]])
        self._has_event[new] = True
        self.event_count += len(new)

    def lost(self, expected: int | None) -> int:
        """Return the number of missing events, from gaps in seq_nums and the stop document.

        Args:
            expected: events of this stream in the stop document; None if unknown.
        """
        return max(self.events, expected or 0) - self.event_count if self.in_events and self.events < SEQ_NUM_MAX else 0

    def ledgers(self) -> Iterator[FrameLedger]:
        """Yield the ledgers of all data in files."""
        for source in self.images.values():
            yield source.ledger
        yield from self.files.values()

    def ledger(self, data_key: str) -> FrameLedger | None:
        """Return the ledger of a data key."""
        source = self.images.get(data_key)
        return source.ledger if source else self.files.get(data_key)

    def take(self, seq_nums: npt.NDArray[np.int64], data: Mapping[str, npt.NDArray[np.float64]]) -> bool:
        """Add scalars (n,) by data key; return whether the geometry changed."""
        data = {key: column for key, column in data.items() if key in self._units}
        if not data or not len(seq_nums):
            return False
        self.geometry.extend_to(int(seq_nums.max()))
        self.geometry.columns(seq_nums, data)
        changed = self.follow()
        if self.scalars is not None:
            self.scalars.maps.assign(seq_nums, data)
        return changed

    def follow(self) -> bool:
        """Move the sources to the current raster; return whether it changed."""
        if self._epoch == self.geometry.epoch:
            return False
        self._epoch = self.geometry.epoch
        for source in self.sources:
            source.set_raster(self.geometry.raster)
        return True

    def replace_geometry(self, geometry: StreamGeometry) -> None:
        """Replace the geometry."""
        self.geometry, self._epoch = geometry, -1
        self.follow()

    def _image(self, key: str, shape: Sequence[Any]) -> MapSource:
        known = all(isinstance(size, int) for size in shape)
        channels = (TOTAL,) if known and is_spectrum(shape) else DEFAULT_CHANNELS
        return MapSource(key, stream=self.name, raster=self.geometry.raster, channels=channels, ledger=FrameLedger(key))

    def _add_scalars(self, units: Mapping[str, str]) -> bool:
        self._units.update(units)
        drawn = {key: unit for key, unit in units.items() if key not in self.geometry.position_keys}
        if not drawn:
            return False
        if self.scalars is None:
            self.scalars = MapSource(SCALARS, stream=self.name, raster=self.geometry.raster, channels=())
        return self.scalars.add_channels(drawn)


class CrossCheck:
    """A comparison of sums with those that the detector made itself, updated incrementally.

    Args:
        sums: source of the sums.
        channel: of the sums.
        scalars: source of the detector's sums.
        key: data key of the detector's sum.
    """

    def __init__(self, sums: MapSource, channel: str, scalars: MapSource, key: str) -> None:
        self.channel, self.key = channel, key
        self._sums, self._scalars = sums.maps, scalars.maps
        self._numbers = sums.maps.channels.index(channel), scalars.maps.channels.index(key)
        self._versions = (0, 0)
        self._state = np.zeros(sums.maps.raster.size, dtype=np.uint8)
        self.compared = 0
        self.differing = 0

    def update(self) -> None:
        """Compare the cells that changed since the last call."""
        cells = np.union1d(self._sums.changed(self._versions[0]), self._scalars.changed(self._versions[1]))
        self._versions = self._sums.version, self._scalars.version
        if not len(cells):
            return
        sums, scalars = self._sums.values(self._numbers[0], cells), self._scalars.values(self._numbers[1], cells)
        both = ~np.isnan(sums) & ~np.isnan(scalars)
        off = both & (np.abs(sums - scalars) > TOLERANCE * np.maximum(np.abs(sums), np.abs(scalars)))
        before = self._state[cells]
        self.compared += int(np.count_nonzero(both)) - int(np.count_nonzero(before & 1))
        self.differing += int(np.count_nonzero(off)) - int(np.count_nonzero(before & 2))
        self._state[cells] = both.astype(np.uint8) | (off.astype(np.uint8) << 1)

    @property
    def short(self) -> str:
        """The difference in the width of a title."""
        return f"≠ {self.key} at {self.differing:,} of {self.compared:,}" if self.differing else ""

    @property
    def described(self) -> str:
        """The difference in words; empty if there is none."""
        if not self.differing:
            return ""
        return f"{self.channel} differs from the detector's own {self.key} at {self.differing:,} of {self.compared:,}"


def cross_checks(source: MapSource, scalars: MapSource | None) -> list[CrossCheck]:
    """Return comparisons for sums that the detector also made, by the names that ophyd-async and IOCs use.

    ``camera-sum`` is the sum over the whole frame of ``camera``, ``RedTotal`` that over the ROI ``red``.
    """
    if scalars is None or source.kind == "scalars":
        return []
    found = list[CrossCheck]()
    for channel in source.maps.channels:
        key = _sum_of(channel, source.key, scalars.maps.channels)
        if key is not None:
            found.append(CrossCheck(source, channel, scalars, key))
    return found


def _sum_of(channel: str, camera: str, keys: Sequence[str]) -> str | None:
    """Return the scalar with the detector's own sum of a channel.

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


def _holds_datum_ids(key: Any) -> bool:
    """Return whether events hold datum ids for a data key, as before ophyd-async."""
    external = key.get("external") if is_mapping(key) else None
    return isinstance(external, str) and not external.startswith("STREAM")


def _comes_with_events(key: Any) -> bool:
    """Return whether values or datum ids of a data key are in events."""
    external = key.get("external") if is_mapping(key) else None
    return not (isinstance(external, str) and external.startswith("STREAM"))


def _scalar_keys(doc: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Return, for every data key with one number for each point, its unit and whether it is in a file."""
    found: dict[str, tuple[str, bool]] = {}
    for name, key in doc["data_keys"].items():
        if not is_mapping(key) or not isinstance(name, str):
            continue
        shape, external = key.get("shape"), bool(key.get("external"))
        lone = shape in ([], ()) or (external and is_list(shape) and len(shape) == 1)
        number = key.get("dtype") in ("number", "integer") or (external and key.get("dtype") == "array")
        if lone and number:
            units = key.get("units")
            found[name] = (units if isinstance(units, str) else "", external)
    return dict(list(found.items())[: 4 * SCALARS_MAX])
