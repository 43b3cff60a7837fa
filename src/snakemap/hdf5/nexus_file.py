"""Maps as a NeXus file, written by another process: HDF5 is not loaded here.

::

    /entry            NXentry   default="maps"; title, entry_identifier (uid), program_name, status
    /entry/maps       NXdata    signal: the last channel; auxiliary_signals: the others; axes: slow, fast
    /entry/maps/NAME            float64 (rows, columns) a channel, NaN where not visited; `units`
    /entry/maps/AXIS            float64 (rows,) or (columns,): the coordinates; `units`, `long_name`
    /entry/maps/x, y            float64 (points,): the positions of a path
    /entry/note       NXnote    the JSON `about` of an archive of NumPy arrays
"""

from __future__ import annotations

import subprocess
import sys

from snakemap.errors import FileNotReady
from snakemap.hdf5.reader_process import environment

__all__ = ["nexus_file"]

LIMIT_S = 60.0


def nexus_file(archive: bytes) -> bytes:
    """Return the maps of an archive as a NeXus file; meant for a thread.

    Args:
        archive: of NumPy arrays, as :func:`snakemap.render.export.written` writes it.

    Raises:
        FileNotReady: the writing process fails, or takes too long.
    """
    command = [sys.executable, "-P", "-m", "snakemap.hdf5.child.nexus_writer"]
    try:
        done = subprocess.run(
            command, input=archive, capture_output=True, env=environment(), timeout=LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise FileNotReady(f"the NeXus file cannot be written: {error}") from error
    return done.stdout
