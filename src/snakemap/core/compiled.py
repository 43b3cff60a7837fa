"""Functions that numba compiles, with or without its cache on disk."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["call_compiled", "compiled"]


def call_compiled(python: Callable[..., None], *arguments: Any) -> None:
    """Call a function compiled for the dtypes of its arguments, without its cache on disk if that is unusable.

    The function writes into its last argument, and returns nothing.
    """
    try:
        compiled(python, cache=True)(*arguments)
    except (OSError, ImportError):
        # raised before anything is computed; ImportError: code cached under another module's name
        compiled(python, cache=False)(*arguments)


@functools.cache
def compiled(python: Callable[..., None], *, cache: bool) -> Callable[..., None]:
    """Return a function as numba compiles it; it runs without the lock of the interpreter."""
    import numba  # imported here: a process that sums nothing starts in half the time without it

    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "nsz"}}
    try:
        return numba.njit(python, cache=cache, **options)
    except RuntimeError:
        # no directory is writable for the cache
        return numba.njit(python, **options)
