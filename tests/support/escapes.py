"""Files that lead out of the data root, in every way that HDF5 and file systems know."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from tests.support.swmr_writer import SHAPE, picture

__all__ = ["CANARY", "ESCAPES", "pictures", "virtual", "write"]

CANARY = 77
"""What all pixels of the frames outside are."""


def write(path, frames, *, name="d", libver="latest", **options):
    with h5py.File(path, "a", libver=libver) as file:
        file.create_dataset(name, data=frames, **options)
    return path


def pictures(start, stop, dtype=np.uint16):
    return np.stack([picture(number, dtype) for number in range(start, stop)])


def virtual(path, sources, *, name="d"):
    """A virtual dataset that shows 8 frames of each source, one after the other."""
    layout = h5py.VirtualLayout((8 * len(sources), *SHAPE), np.uint16)
    for number, (file, dataset) in enumerate(sources):
        layout[8 * number : 8 * number + 8] = h5py.VirtualSource(file, dataset, (8, *SHAPE))
    with h5py.File(path, "a", libver="latest") as file:
        file.create_virtual_dataset(name, layout)


def escape_symlink(visit, outside):
    (visit / "scan.h5").symlink_to(outside)


def escape_relative_symlink(visit, outside):
    (visit / "scan.h5").symlink_to(os.path.relpath(outside, visit))


def escape_external(visit, outside):
    with h5py.File(visit / "scan.h5", "w") as file:
        file["d"] = h5py.ExternalLink(str(outside), "d")


def escape_relative_external(visit, outside):
    with h5py.File(visit / "scan.h5", "w") as file:
        file["d"] = h5py.ExternalLink(os.path.relpath(outside, visit), "d")


def escape_two_hops(visit, outside):
    with h5py.File(visit / "hop.h5", "w") as file:
        file["d"] = h5py.ExternalLink(str(outside), "d")
    with h5py.File(visit / "scan.h5", "w") as file:
        file["d"] = h5py.ExternalLink("hop.h5", "d")


def escape_through_a_soft_link(visit, outside):
    with h5py.File(visit / "scan.h5", "w") as file:
        file["group"] = h5py.ExternalLink(str(outside), "/")
        file["d"] = h5py.SoftLink("/group/d")


def escape_external_through_a_symlink(visit, outside):
    (visit / "link.h5").symlink_to(outside)
    with h5py.File(visit / "scan.h5", "w") as file:
        file["d"] = h5py.ExternalLink("link.h5", "d")


def escape_by_proc(visit, outside):
    with h5py.File(visit / "scan.h5", "w") as file:
        file["d"] = h5py.ExternalLink(f"/proc/self/root{outside}", "d")


def escape_virtual(visit, outside):
    virtual(visit / "scan.h5", [(str(outside), "d")])


def escape_relative_virtual(visit, outside):
    virtual(visit / "scan.h5", [(os.path.relpath(outside, visit), "d")])


def escape_virtual_through_a_symlink(visit, outside):
    (visit / "link.h5").symlink_to(outside)
    virtual(visit / "scan.h5", [("link.h5", "d")])


def escape_virtual_through_an_external_link(visit, outside):
    virtual(visit / "scan.h5", [(".", "there")])
    with h5py.File(visit / "scan.h5", "a") as file:
        file["there"] = h5py.ExternalLink(str(outside), "d")


def escape_virtual_of_virtual(visit, outside):
    virtual(visit / "hop.h5", [(str(outside), "d")])
    virtual(visit / "scan.h5", [("hop.h5", "d")])


def escape_virtual_by_a_second_source(visit, outside):
    write(visit / "good.h5", pictures(0, 8))
    virtual(visit / "scan.h5", [("good.h5", "d"), (str(outside), "d")])


def escape_virtual_by_another_directory(visit, outside):
    (visit / "sub").mkdir()
    write(visit / "sub" / "next.h5", pictures(0, 8))
    (visit / "next.h5").symlink_to(outside)
    virtual(visit / "sub" / "hop.h5", [("next.h5", "d")])
    virtual(visit / "scan.h5", [("sub/hop.h5", "d")])


def escape_pattern(visit, outside):
    layout = h5py.VirtualLayout((8, *SHAPE), np.uint16, maxshape=(None, *SHAPE))
    layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(f"{outside.parent}/%b.h5", "d", (1, *SHAPE))
    with h5py.File(visit / "scan.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("d", layout)


def escape_raw_storage(visit, outside):
    size = 8 * SHAPE[0] * SHAPE[1] * 2
    with h5py.File(visit / "scan.h5", "w") as file:
        file.create_dataset("d", (8, *SHAPE), np.uint16, external=[(str(outside), 0, size)])


def escape_raw_storage_in_a_source(visit, outside):
    escape_raw_storage(visit, outside)
    (visit / "scan.h5").rename(visit / "raw.h5")
    virtual(visit / "scan.h5", [("raw.h5", "d")])


ESCAPES: dict[str, Callable[[Path, Path], None]] = {
    name: escape for name, escape in sorted(globals().items()) if name.startswith("escape_")
}
"""Each makes a ``scan.h5`` in a directory whose dataset ``d`` leads to the one of a file outside the data root."""
