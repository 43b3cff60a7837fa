"""Resources of a run: which file, which dataset, which kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from snakemap.core.file_uri import readings

__all__ = ["Resource", "image_data_key", "image_data_keys", "is_spectrum", "kind_of_file"]

SPECTRA_MAX = 3
"""A frame has at least so many rows, so that it can be cut into three bands."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a detector's frames are.

    Attributes:
        uid: of the stream_resource.
        uri: like ``"file://localhost/data/scan.h5"``, as the writer sees it.
        dataset: path in the file, like ``"/entry/data/data"``.
        frames_per_point: frames, or scalars, that make one point; the pixel is their sum.
        frame_shape: rows and columns of a frame in detector pixels; None when the descriptor does not tell, and of
            scalars.
        point_shape: shape of one point's data as the descriptor tells it, like ``(1, 1216, 1936)``; empty when it does
            not tell.
        columns: points in one row of a dataset (rows, columns, height, width), as mapping files have it; 0 where a row
            of the dataset is a point or a part of one.
        template: printf template of the files' names when every frame has a file of its own, like
            ``"%s%s_%6.6d.h5"``; ``uri`` is then their directory. Empty where one file holds all.
        filename: what the template puts after the directory.
    """

    uid: str
    uri: str
    dataset: str
    frames_per_point: int
    frame_shape: tuple[int, int] | None
    point_shape: tuple[int, ...] = ()
    columns: int = 0
    template: str = ""
    filename: str = ""

    def uri_of(self, frame: int) -> str:
        """The URI of the file that holds a frame.

        >>> names = {"template": "%s%s_%6.6d.h5", "filename": "im"}
        >>> Resource("r", "file://localhost/data/a%20b", "/d", 1, None, **names).uri_of(7)
        'file://localhost/data/a%20b/im_000007.h5'
        """
        if not self.template:
            return self.uri
        directory = readings(self.uri)[0].rstrip("/") + "/"
        name = self.template % (directory, self.filename, frame)
        return f"file://localhost{quote(name, errors='surrogateescape')}"


def image_data_keys(descriptor: Mapping[str, Any]) -> list[str]:
    """The data keys of a descriptor that hold detector frames: the external ones with two dimensions or more.

    >>> image_data_keys({"data_keys": {"s": {"external": "STREAM:", "shape": [1]},
    ...                                "d": {"external": "STREAM:", "shape": [1, 128, 96]}}})
    ['d']
    """
    found = []
    for name, data_key in descriptor["data_keys"].items():
        shape = data_key.get("shape") if isinstance(data_key, Mapping) and data_key.get("external") else None
        if isinstance(shape, Sequence) and not isinstance(shape, str) and len(shape) >= 2:
            found.append(name)
    return found


def is_spectrum(shape: Sequence[int]) -> bool:
    """Whether a point's data of that shape is taken for spectra before its dataset has been seen: too low for a frame.

    >>> [is_spectrum(shape) for shape in ((1, 16), (2, 16), (1, 1, 16), (128, 96), (1, 128, 96), (1, 3, 96))]
    [True, True, True, False, False, False]
    """
    return len(shape) >= 2 and (shape[-2] == 1 or (len(shape) == 2 and shape[0] < SPECTRA_MAX))


def image_data_key(descriptor: Mapping[str, Any]) -> str | None:
    """The first of :func:`image_data_keys`, or None."""
    return next(iter(image_data_keys(descriptor)), None)


def kind_of_file(mimetype: Any) -> str:
    """Return the name of a mimetype on the page.

    >>> [_kind_of_file(kind) for kind in ("multipart/related;type=image/tiff", "application/x-zarr", "text/csv", None)]
    ['TIFF (multipart/related;type=image/tiff)', 'Zarr (application/x-zarr)', 'text/csv', 'of no known kind']
    """
    if not isinstance(mimetype, str) or not mimetype:
        return "of no known kind"
    shown = mimetype[:60]
    known = next((name for name in ("TIFF", "JPEG", "Zarr", "PNG") if name.casefold() in mimetype.casefold()), "")
    return f"{known} ({shown})" if known else shown
