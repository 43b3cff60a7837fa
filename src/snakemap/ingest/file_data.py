"""Data of a run in files: frames of a camera, summed over ROIs, or scalars, one a point."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from snakemap.core.derived_documents import (
    TOTAL,
    DerivedDescriptor,
    Rectangle,
    derived_descriptor,
    remark_descriptor,
    scalar_descriptor,
)
from snakemap.core.frame_ledger import FrameLedger, RowRange
from snakemap.core.roi import add_up
from snakemap.core.run import Run
from snakemap.core.stream_resources import Resource, is_spectrum
from snakemap.core.streams import MapSource, Stream
from snakemap.errors import FileBroken, FileNotReady
from snakemap.hdf5.frame_layout import FrameLayout, layout_of, scalar_rows, spectra_layout
from snakemap.hdf5.frame_reader import FileFingerprint, FrameBatch, FrameSums, recorded_fingerprints
from snakemap.ingest.reader_pool import FrameReading
from snakemap.ingest.roi_selection import RoiSelection, select_rois

__all__ = ["FileData", "ImageData", "ScalarData", "SummedData"]

FILES_MAX = 20
"""Files whose fingerprints a derived descriptor holds."""

FRAMES_MAX, SCALARS_MAX = 64, 2000
"""Maximum of points in one read."""

SCALARS_PERIOD_S = 0.2
"""Interval between two reads of scalars, so that a fast scan costs few requests."""


class FileData(Protocol):
    """One data key of one stream, read from files.

    Attributes:
        key: the data key.
        stream: name of its stream.
        ledger: read and unread points.
        period_s: interval between two reads.
        shows: whether it has frames to display.
    """

    key: str
    stream: str
    ledger: FrameLedger
    period_s: float
    shows: bool

    @property
    def name(self) -> str:
        """Display name."""
        ...

    @property
    def piece_max(self) -> int:
        """Maximum of points in one read."""
        ...

    @property
    def rank(self) -> int:
        """Priority; lower is read sooner."""
        ...

    @property
    def described(self) -> str | None:
        """Uid of the derived descriptor, if the run has it."""
        ...

    def describe(self, summed: SummedData, *, time: float) -> dict[str, Any]:
        """Return the derived descriptor."""
        ...

    def remark(self, *, time: float) -> list[dict[str, Any]]:
        """Return descriptors with new remarks about the data."""
        ...

    def recorded(self, resource: str) -> dict[str, FileFingerprint]:
        """Return the recorded fingerprints of the files of a resource, by name."""
        ...

    async def read(self, reader: FrameReading, row_range: RowRange, *, show: bool) -> SummedData:
        """Read a row range once; raises the errors of the reader."""
        ...

    async def points(self, reader: FrameReading, resource: Resource) -> int:
        """Return the number of points in the file; raises the errors of the reader."""
        ...

    async def written(self, reader: FrameReading, resource: Resource, rows: range) -> npt.NDArray[np.bool_]:
        """Return which points have certainly been written; raises the errors of the reader."""
        ...


@dataclass(frozen=True, slots=True)
class SummedData:
    """Sums of a row range.

    Attributes:
        file_data: the data that was read.
        row_range: its points.
        columns: values (points,) by channel, the total last; of a scalar, by its data key.
        frame_shape: rows and columns of a frame; None for scalars.
        frame: the last frame of the row range, downsampled for display; None when not requested.
        frames: number of frames that were read.
        size_bytes: their size, uncompressed.
        marks: fingerprints of the files that were read.
    """

    file_data: FileData
    row_range: RowRange
    columns: dict[str, npt.NDArray[Any]]
    frame_shape: tuple[int, int] | None = None
    frame: npt.NDArray[Any] | None = None
    frames: int = 0
    size_bytes: int = 0
    marks: tuple[FileFingerprint, ...] = ()


class ImageData:
    """The frames of a camera, or the spectra of a detector with as many dimensions.

    Args:
        run: their run.
        source: the camera.
        rois: the default ROIs, by name; None for none.

    Attributes:
        regions: the selected ROIs; None before the first frame.
        remarks: remarks about the sums, a sentence each, by subject.
    """

    period_s = 0.0
    shows = True

    def __init__(self, run: Run, source: MapSource, *, rois: Mapping[str, Rectangle] | None) -> None:
        self.run = run
        self.source = source
        self.key, self.stream, self.ledger = source.key, source.stream, source.ledger
        self.rois = rois
        self.regions: RoiSelection | None = None
        self.remarks: dict[str, str] = {}
        self._layouts: dict[str, FrameLayout] = {}
        self._spectra = False

    @property
    def name(self) -> str:
        """Display name; empty for the main source."""
        return "" if self.source is self.run.main else self.run.name_of(self.source)

    @property
    def piece_max(self) -> int:
        """Maximum of points in one read: 1 where each frame has a file of its own."""
        return 1 if any(resource.template for resource in self.ledger.resources.values()) else FRAMES_MAX

    @property
    def rank(self) -> int:
        """Priority; the main source comes before other cameras."""
        return 1 if self.name else 0

    @property
    def described(self) -> str | None:
        """Uid of the derived descriptor, if the run has it."""
        return self.source.derived_descriptor.uid if self.source.derived_descriptor else None

    def recorded(self, resource: str) -> dict[str, FileFingerprint]:
        """Return the recorded fingerprints of the files of a resource, by name."""
        return _recorded(self.source.derived_descriptor, resource)

    def remark(self, *, time: float) -> list[dict[str, Any]]:
        """Return descriptors with new remarks about the sums."""
        if not self.remarks:
            return []
        each = (remark_descriptor(self.run, self.source, *remark, time=time) for remark in self.remarks.items())
        return [doc for doc in each if doc["uid"] not in self.source.remarks]

    def describe(self, summed: SummedData, *, time: float) -> dict[str, Any]:
        """Return the derived descriptor."""
        regions, frame_shape = self.regions, summed.frame_shape
        if regions is None or frame_shape is None:
            raise ValueError(f"no frame of {self.key} has been read")
        return derived_descriptor(
            self.run,
            regions.rectangles,
            frame_shape=frame_shape,
            time=time,
            dtype=summed.columns[TOTAL].dtype.newbyteorder("<").str,
            source=self.source,
            trouble=regions.trouble,
            spectra=self._spectra,
            files=_files_of(summed),
        )

    async def read(self, reader: FrameReading, row_range: RowRange, *, show: bool) -> SummedData:
        """Read a row range once; raises the errors of the reader."""
        resource = self.ledger.resources[row_range.resource]
        if resource.template:
            return await self._read_files(reader, resource, row_range, show=show)
        layout = await self._layout(reader, resource)
        shape = layout.frame_shape
        if layout.colors == "spectra":
            return await self._sum_spectra(reader, row_range, layout)
        regions = self.regions or select_rois(self.run, self.rois, frame_shape=shape, source=self.source)
        batch = _batch(resource, row_range, rois=tuple(regions.rectangles.values()), frame_shape=shape, preview=show)
        reduced = await reader.reduce(batch)
        self.regions = regions
        self._note(reduced)
        columns = {channel: reduced.sums[:, number] for number, channel in enumerate((*regions.rectangles, TOTAL))}
        frames = row_range.count * resource.frames_per_point
        return SummedData(self, row_range, columns, shape, reduced.frame, frames, reduced.size_bytes)

    async def _read_files(
        self, reader: FrameReading, resource: Resource, row_range: RowRange, *, show: bool
    ) -> SummedData:
        """Read the one point of a row range whose frames have a file each."""
        first = row_range.index * resource.frames_per_point
        summed = [await self._read_file(reader, resource, first + n, show) for n in range(resource.frames_per_point)]
        (regions, shape), parts = summed[-1][0], [reduced for _, reduced in summed]
        self.regions = regions
        together: Any = np.concatenate([part.sums for part in parts])
        sums = add_up(together, np.zeros(len(parts), np.intp))
        for part in parts:
            self._note(part)
        if sums.dtype != parts[0].sums.dtype:
            self._note_rounding()
        columns = {channel: sums[:, number] for number, channel in enumerate((*regions.rectangles, TOTAL))}
        size_bytes = sum(part.size_bytes for part in parts)
        return SummedData(self, row_range, columns, shape, parts[-1].frame, len(parts), size_bytes)

    def _note(self, reduced: FrameSums) -> None:
        """Add remarks about sums."""
        if reduced.rounded:
            self._note_rounding()
        if reduced.gaps:
            words = f"{reduced.gaps:,} pixels of each frame of {self.key} are in gaps between its modules"
            self.remarks["gaps"] = f"{words}: they have no data and are not in the sums."

    def _note_rounding(self) -> None:
        words = f"Sums of {self.key} do not fit into 64 bits: they are kept as float64, rounded to 16 digits."
        self.remarks["rounded"] = words

    async def _read_file(
        self, reader: FrameReading, resource: Resource, number: int, show: bool
    ) -> tuple[tuple[RoiSelection, tuple[int, int]], FrameSums]:
        """Sum all frames in the file of one frame number."""
        uri = resource.uri_of(number)
        size = await reader.size(uri, resource.dataset)
        frames = size[0] if len(size) != 2 else 1
        layout = layout_of(size if len(size) != 2 else (1, *size), frames_per_point=frames)
        shape = self.source.frame_shape or layout.frame_shape
        regions = self.regions or select_rois(self.run, self.rois, frame_shape=shape, source=self.source)
        batch = FrameBatch(
            uri, resource.dataset, 0, 1, frames, tuple(regions.rectangles.values()), shape, show,
            size if len(size) == 2 else (),
        )  # fmt: skip
        return (regions, shape), await reader.reduce(batch)

    async def _sum_spectra(self, reader: FrameReading, row_range: RowRange, layout: FrameLayout) -> SummedData:
        """Sum all values of each point."""
        resource = self.ledger.resources[row_range.resource]
        self.regions, self._spectra = RoiSelection(()), True
        batch = _batch(
            resource, row_range, frames_per_point=math.prod(layout.frame_shape), point_shape=layout.frame_shape
        )
        sums = np.asarray(await reader.scalars(batch), dtype=np.float64)
        return SummedData(
            self, row_range, {TOTAL: sums}, layout.frame_shape, frames=row_range.count * layout.frame_shape[0]
        )

    async def points(self, reader: FrameReading, resource: Resource) -> int:
        """Return the number of points in the file; raises the errors of the reader."""
        if resource.template:
            return self.ledger.rows_announced(resource.uid)
        if resource.columns:
            return (await reader.size(resource.uri, resource.dataset))[0] * resource.columns
        layout = await self._layout(reader, resource)
        return await reader.length(resource.uri, resource.dataset) // layout.rows_per_point

    async def written(self, reader: FrameReading, resource: Resource, rows: range) -> npt.NDArray[np.bool_]:
        """Return which points have certainly been written; raises the errors of the reader.

        A file that holds one frame only is proof of that frame.
        """
        if resource.template:
            return np.array([await self._has_files(reader, resource, row) for row in rows])
        layout = await self._layout(reader, resource)
        options: dict[str, Any] = {"frame_shape": layout.frame_shape}
        if layout.colors == "spectra":
            options = {"frames_per_point": math.prod(layout.frame_shape), "point_shape": layout.frame_shape}
        return await reader.written(_batch(resource, _of(resource, rows), **options))

    async def _has_files(self, reader: FrameReading, resource: Resource, row: int) -> bool:
        first = row * resource.frames_per_point
        try:
            for number in range(first, first + resource.frames_per_point):
                await reader.size(resource.uri_of(number), resource.dataset)
        except (FileNotReady, FileBroken):
            return False
        return True

    async def _layout(self, reader: FrameReading, resource: Resource) -> FrameLayout:
        """Return the layout of the dataset's rows; the file is read only where the descriptor leaves it open."""
        known = self._layouts.get(resource.uid)
        if known is not None:
            return known
        promised = resource.frame_shape or self.source.frame_shape
        point = resource.point_shape
        if not resource.columns and (len(point) == 2 or is_spectrum(point)):
            size = await reader.size(resource.uri, resource.dataset)
            if len(size) == 2 or is_spectrum(point):
                self._layouts[resource.uid] = layout = spectra_layout(size, point_shape=point)
                return layout
            if promised is not None:
                self._layouts[resource.uid] = FrameLayout(1, promised)
        if promised is not None and resource.frames_per_point == 1:
            return FrameLayout(1, promised)
        shape = await reader.shape(resource.uri, resource.dataset)
        layout = layout_of(
            shape,
            frames_per_point=resource.frames_per_point,
            point_shape=resource.point_shape,
            frame_shape=promised,
        )
        if promised is not None and tuple(shape[1:]) != resource.point_shape:
            layout = FrameLayout(layout.rows_per_point, promised, layout.colors)
        self._layouts[resource.uid] = layout
        return layout


class ScalarData:
    """Scalars, one a point: sums computed by the detector, positions of motors.

    Args:
        run: their run.
        stream: their stream.
        key: the data key.
    """

    piece_max = SCALARS_MAX
    period_s = SCALARS_PERIOD_S
    shows = False
    rank = 0

    def __init__(self, run: Run, stream: Stream, key: str) -> None:
        self.run = run
        self.key, self.stream, self.ledger = key, stream.name, stream.files[key]
        self._of = stream
        self._uid: str = self._descriptor(0.0)["uid"]

    @property
    def name(self) -> str:
        """Display name."""
        return self.key if self.stream == self.run.main.stream else f"{self.stream}: {self.key}"

    def remark(self, *, time: float) -> list[dict[str, Any]]:
        """Return no remarks."""
        return []

    def recorded(self, resource: str) -> dict[str, FileFingerprint]:
        """Return the recorded fingerprints of the files of a resource, by name."""
        return _recorded(self._of.derived_descriptors.get(self.key), resource)

    @property
    def descriptor(self) -> str | None:
        """Uid of the detector's own descriptor."""
        return self.ledger.descriptor

    @property
    def described(self) -> str | None:
        """Uid of the derived descriptor, if the run has it."""
        return self._uid if self._uid in self.run.derived_uids else None

    def describe(self, summed: SummedData, *, time: float) -> dict[str, Any]:
        """Return the derived descriptor."""
        return self._descriptor(time, files=_files_of(summed))

    async def read(self, reader: FrameReading, row_range: RowRange, *, show: bool) -> SummedData:
        """Read a row range once; raises the errors of the reader.

        Several values of a point are summed; several positions are averaged.
        """
        resource = self.ledger.resources[row_range.resource]
        values = await reader.scalars(_batch(resource, row_range))
        if resource.frames_per_point > 1 and self.key in self._of.geometry.position_keys:
            values = values / resource.frames_per_point
        return SummedData(self, row_range, {self.key: np.asarray(values, dtype=np.float64)})

    async def points(self, reader: FrameReading, resource: Resource) -> int:
        """Return the number of points in the file; raises the errors of the reader."""
        size = await reader.size(resource.uri, resource.dataset)
        each = resource.frames_per_point
        return size[0] // scalar_rows(size, frames_per_point=each, point_shape=resource.point_shape)

    async def written(self, reader: FrameReading, resource: Resource, rows: range) -> npt.NDArray[np.bool_]:
        """Return which points have certainly been written; raises the errors of the reader."""
        return await reader.written(_batch(resource, _of(resource, rows)))

    def _descriptor(self, time: float, *, files: Sequence[tuple[str, str, int, int, int]] = ()) -> dict[str, Any]:
        units = self._of.scalars.units.get(self.key, "") if self._of.scalars else ""
        return scalar_descriptor(self.run, self, self.key, units=units, time=time, files=files)


def _files_of(summed: SummedData) -> list[tuple[str, str, int, int, int]]:
    """Return the fingerprints of the files of a row range, for the derived descriptor."""
    marks = (dataclasses.astuple(mark) for mark in summed.marks[:FILES_MAX])
    return [(summed.row_range.resource, *mark) for mark in marks]


def _recorded(descriptor: DerivedDescriptor | None, resource: str) -> dict[str, FileFingerprint]:
    return recorded_fingerprints(descriptor.files if descriptor else (), resource)


def _of(resource: Resource, rows: range) -> RowRange:
    return RowRange(resource.uid, rows.start, 1, len(rows))


def _batch(resource: Resource, row_range: RowRange, **options: Any) -> FrameBatch:
    fields: dict[str, Any] = {
        "uri": resource.uri,
        "dataset": resource.dataset,
        "start": row_range.index,
        "stop": row_range.index + row_range.count,
        "frames_per_point": resource.frames_per_point,
        "point_shape": resource.point_shape,
        "columns": resource.columns,
    }
    return FrameBatch(**fields | options)
