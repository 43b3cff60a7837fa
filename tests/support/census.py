"""Run a module like ``python -m``, and on SIGUSR1 write how many Bokeh documents live in the process to a file.

    python census.py FILE panel serve app/dashboard.py ...

This file is a program of its own, which imports nothing from the tests.
"""

from __future__ import annotations

import gc
import runpy
import signal
import sys
from pathlib import Path


def count(path: Path) -> None:
    """Write the number of documents that are left after a collection of garbage."""
    from bokeh.document import Document

    gc.collect()
    new = path.with_suffix(".new")
    new.write_text(str(sum(isinstance(one, Document) for one in gc.get_objects())))
    new.rename(path)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    signal.signal(signal.SIGUSR1, lambda *_: count(file))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
