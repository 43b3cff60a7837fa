"""The maps of a run with those of rectangles, for programs."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence

import orjson

from snakemap.core.roi_text import rois_from_text
from snakemap.core.run import Run
from snakemap.live.region_maps import RegionMaps
from snakemap.live.run_cache import RunCache, WrittenBytes, source_of
from snakemap.live.written_maps import write_maps
from snakemap.render.export import MapFormat

__all__ = ["maps_with_regions"]


async def maps_with_regions(
    runs: RunCache,
    regions: RegionMaps,
    uid: str,
    form: MapFormat,
    *,
    rois: Sequence[str],
    source: str = "",
    known: Collection[str] = (),
    approximate: bool = False,
) -> WrittenBytes:
    """Return the maps of a run with those of rectangles as further channels, encoded.

    Args:
        runs: cache of runs.
        regions: reads the frames.
        uid: of the run.
        form: format of the maps.
        rois: rectangles as text, see :func:`~snakemap.core.roi_text.roi_from_text`.
        source: name in :attr:`Run.sources`; empty for the main one.
        known: versions of these maps that the client has, or ``*`` for any; then the body is None.
        approximate: whether to read no frames, and to take sums of blocks where exact sums are not known.

    Raises:
        RunNotFound: there is no such run or source.
        RoiError: a rectangle is none, or reaches beyond the frame.
        FrameError: there are no sums of blocks here.
        SnakemapError: as :meth:`RegionMaps.read`.
    """
    run = await runs.run(uid)
    found = source_of(run, source)
    wanted = rois_from_text(rois, taken=found.maps.channels)
    if approximate:
        trouble = await regions.estimate(run, found, wanted)
    else:
        trouble = await regions.read(run, found, wanted)

    def write(run: Run) -> WrittenBytes:
        of = source_of(run, source)
        rois_from_text(rois, taken=of.maps.channels)
        more = regions.maps(run, of, wanted, trouble=trouble, estimated=approximate)
        version = f"{run.cursor}-{zlib.crc32(orjson.dumps(more.about)):08x}"
        if version in known or "*" in known:
            return WrittenBytes(version, None)
        return WrittenBytes(version, write_maps(run, form, source=source, more=more))

    return await runs.compute(uid, write)
