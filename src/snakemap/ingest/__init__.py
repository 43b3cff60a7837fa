"""The worker: from the broker into the store, and from the files that documents speak of into the maps.

Two halves that are joined only by the store::

    broker -> listener -> store -> reducer -> one reduction a run: reading -> pages -> store
                                               |
                                               readers (processes) -> files

Whatever stops, starts again, or comes twice, changes nothing in the end: every sum is assigned to its point, and the
file says what is missing.
"""

from snakemap.ingest.worker import ingest, run

__all__ = ["ingest", "run"]
