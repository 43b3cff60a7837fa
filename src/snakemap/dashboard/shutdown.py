"""End the server of the pages in time, however busy its event loop is.

Bokeh handles SIGTERM on its event loop, behind everything that waits there, like the first drawing of fifty tabs.
Python runs a handler of its own between two instructions of whatever runs. The interpreter then frees all models of all
tabs one by one, which takes longer still, and which the kernel does better.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import sys
import threading
from types import FrameType

from tornado.ioloop import IOLoop

__all__ = ["GRACE_S", "end_in_time"]

log = logging.getLogger(__name__)

GRACE_S = 3.0
"""How long the loop and the end of the interpreter may take before the process ends as it is."""

_ending = threading.Event()


def end_in_time() -> None:
    """Have SIGTERM end this process within `GRACE_S`, once the current event loop runs."""
    if threading.current_thread() is threading.main_thread():
        IOLoop.current().add_callback(_install)
        atexit.register(_exit)  # this early, so that it comes after all that others clean up


def _exit() -> None:
    if _ending.is_set():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _install() -> None:
    loop = asyncio.get_running_loop()
    loop.remove_signal_handler(signal.SIGTERM)

    def end(_number: int, _frame: FrameType | None) -> None:
        # nothing is lost: what tabs show is in the store, and its private server notices that a process is gone
        _ending.set()
        timer = threading.Timer(GRACE_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        loop.call_soon_threadsafe(loop.stop)

    signal.signal(signal.SIGTERM, end)
