"""Find the beginning of an HDF5 file: byte 0, or behind a user block of 512, 1024, 2048, ... bytes."""

from __future__ import annotations

import os

__all__ = ["HEAD_BYTES", "SIGNATURE", "head_of"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAD_BYTES = 12
"""Bytes of the signature, the version of the superblock, and the flags of a writer in newer versions."""

FIRST_BYTES = 4096 + HEAD_BYTES
"""Most user blocks end within these bytes: one read finds them."""


def head_of(fd: int) -> bytes | None:
    """Return the first bytes of HDF5 in an open file, behind its user block; None if it is no HDF5 file.

    One read, and one more for each doubling of the size beyond 8 kB.

    Raises:
        OSError: it cannot be read.
    """
    size = os.fstat(fd).st_size
    first = os.pread(fd, FIRST_BYTES, 0)
    for block in (0, 512, 1024, 2048, 4096):
        if first.startswith(SIGNATURE, block):
            return first[block : block + HEAD_BYTES]
    block = 8192
    while block < size:
        head = os.pread(fd, HEAD_BYTES, block)
        if head.startswith(SIGNATURE):
            return head
        block *= 2
    return None
