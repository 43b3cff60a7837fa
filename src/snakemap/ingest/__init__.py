"""The worker: stores documents from the broker, and sums of frames from the files.

Its two halves are connected by the store only::

    broker -> listener -> store -> reducer -> one RunReducer a run: read loops -> derived writer -> store
                                               |
                                               reader processes -> files

Restarts and duplicates do no harm: every sum is assigned to its point, and missing points are read from the file.
"""

from snakemap.ingest.worker import ingest, run

__all__ = ["ingest", "run"]
