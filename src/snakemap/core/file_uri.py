"""The paths that a file URI may mean: decoded, and unchanged.

RFC 8089 has reserved characters percent-encoded; ophyd-async and others put a path behind ``file://localhost`` without
encoding it. Both readings are possible for a name such as ``10%Fe``. The decoded path is tried first, the other one if
there is no such file. A path without a scheme is never decoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

__all__ = ["is_file_uri", "path_of", "readings"]

FILE_URI = re.compile(r"file:(?://[^/]*(?=/)|(?=/[^/]))", re.IGNORECASE)
UNENCODED = re.compile(r"[^!-~]|[#?\"<>\\^`{|}]|%(?![0-9A-Fa-f]{2})")
"""Characters that a file URI holds only if its path was not encoded."""


def is_file_uri(text: str) -> bool:
    """Return whether a text is a ``file:`` URI with an absolute path, of any host."""
    return FILE_URI.match(text) is not None


def readings(uri: str) -> tuple[str, ...]:
    """Return the paths that a URI may mean, in the order to try; one for a path without a scheme.

    Bytes that are not UTF-8 become surrogates, as in :func:`os.fsdecode`.

    >>> readings("file://localhost/data/a%20b.h5"), readings("/data/a%20b.h5")
    (('/data/a b.h5', '/data/a%20b.h5'), ('/data/a%20b.h5',))
    >>> readings("file:///data/sample #5/what?.h5")
    ('/data/sample #5/what?.h5',)
    """
    scheme = FILE_URI.match(uri)
    if scheme is None:
        return (uri,)
    raw = uri[scheme.end() :]
    return tuple(dict.fromkeys((os.fsdecode(unquote_to_bytes(raw)), raw)))


def path_of(uri: str, read: Iterable[str] = ()) -> str:
    """Return the path of a file for display: the one that was read, else the more likely one.

    A URI with characters that an encoded one cannot hold was not encoded. The result is valid Unicode, else the path of
    the URI unchanged.

    Args:
        uri: of the file.
        read: names in the data root of files that were read for it, like ``visit/10%Fe/scan.h5``.

    >>> path_of("file://localhost/data/10%Fe/sample #5/a.h5"), path_of("file:///data/sample%20%235.h5")
    ('/data/10%Fe/sample #5/a.h5', '/data/sample #5.h5')
    >>> path_of("file:///data/a%20b.h5", ["a%20b.h5"])
    '/data/a%20b.h5'
    """
    decoded, raw = (found := readings(uri))[0], found[-1]
    if not _is_unicode(decoded):
        return raw
    for name in read:
        for path in found:
            if path.endswith(f"/{name}"):
                return path
    return raw if UNENCODED.search(raw) else decoded


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
