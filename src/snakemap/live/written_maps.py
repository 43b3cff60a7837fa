"""The maps of a run in each format, NeXus by a process of its own."""

from __future__ import annotations

from snakemap.core.run import Run
from snakemap.hdf5.nexus_file import nexus_file
from snakemap.render.export import MapFormat, MoreMaps, written

__all__ = ["write_maps"]


def write_maps(run: Run, form: MapFormat, *, source: str = "", more: MoreMaps | None = None) -> bytes:
    """Return the maps of a run as they are now; meant for a thread.

    Args:
        run: with the maps.
        form: of what is returned.
        source: which of its sources, as :attr:`Run.sources` names them; empty for the main one.
        more: further channels.

    Raises:
        FileNotReady: when a NeXus file cannot be written.
    """
    if form is MapFormat.NEXUS:
        return nexus_file(written(run, MapFormat.NPZ, source=source, more=more))
    return written(run, form, source=source, more=more)
