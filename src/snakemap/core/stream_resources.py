"""Resources of a run: which file, which dataset, which kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from snakemap.core.file_uri import readings
from snakemap.core.json_values import is_mapping, is_sequence

__all__ = ["Resource", "image_data_key", "image_data_keys", "is_spectrum", "kind_of_file"]

SPECTRA_MAX = 3
"""Minimum rows of a frame: it is cut into three bands."""


@dataclass(frozen=True, slots=True)
class Resource:
    """The location of a detector's frames.

    Attributes:
        uid: of the stream_resource.
        uri: like ``"file://localhost/data/scan.h5"``, on the writer's machine.
        dataset: path in the file, like ``"/entry/data/data"``.
        frames_per_point: frames, or scalars, of one point; the cell is their sum.
        frame_shape: rows and columns of a frame in detector pixels; None if unknown, and for scalars.
        point_shape: shape of one point's data from the descriptor, like ``(1, 1216, 1936)``; empty if unknown.
        columns: points in one row of a dataset (rows, columns, height, width), as in mapping files; 0 if a row of the
            dataset is a point or a part of one.
        template: printf template of file names if every frame has its own file, like ``"%s%s_%6.6d.h5"``; ``uri`` is
            then their directory. Empty if one file holds all.
        filename: second argument of the template.
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
        """Return the URI of the file of a frame.

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
    """Return the data keys of detector frames: external ones with two dimensions or more.

    >>> image_data_keys({"data_keys": {"s": {"external": "STREAM:", "shape": [1]},
    ...                                "d": {"external": "STREAM:", "shape": [1, 128, 96]}}})
    ['d']
    """
    found = list[str]()
    for name, data_key in descriptor["data_keys"].items():
        shape = data_key.get("shape") if is_mapping(data_key) and data_key.get("external") else None
        if is_sequence(shape) and len(shape) >= 2:
            found.append(name)
    return found


def is_spectrum(shape: Sequence[int]) -> bool:
    """Return whether a point's data of a shape counts as spectra before the dataset is read: too few rows for a frame.

    >>> [is_spectrum(shape) for shape in ((1, 16), (2, 16), (1, 1, 16), (128, 96), (1, 128, 96), (1, 3, 96))]
    [True, True, True, False, False, False]
    """
    return len(shape) >= 2 and (shape[-2] == 1 or (len(shape) == 2 and shape[0] < SPECTRA_MAX))


def image_data_key(descriptor: Mapping[str, Any]) -> str | None:
    """Return the first of :func:`image_data_keys`, or None."""
    return next(iter(image_data_keys(descriptor)), None)


def kind_of_file(mimetype: Any) -> str:
    """Return the name of a mimetype on the page.

    >>> [kind_of_file(kind) for kind in ("multipart/related;type=image/tiff", "application/x-zarr", "text/csv", None)]
    ['TIFF (multipart/related;type=image/tiff)', 'Zarr (application/x-zarr)', 'text/csv', 'of no known kind']
    """
    if not isinstance(mimetype, str) or not mimetype:
        return "of no known kind"
    shown = mimetype[:60]
    known = next((name for name in ("TIFF", "JPEG", "Zarr", "PNG") if name.casefold() in mimetype.casefold()), "")
    return f"{known} ({shown})" if known else shown
