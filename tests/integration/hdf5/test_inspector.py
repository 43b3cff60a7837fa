import asyncio
import json
import os
import shutil
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import pytest_asyncio
from tests.support.escapes import CANARY, ESCAPES, pictures, virtual, write
from tests.support.patience import PATIENCE
from tests.support.swmr_writer import SHAPE, SwmrWriter

from snakemap.errors import FileBroken, FileNotReady, FileRefused, FrameError, SnakemapError
from snakemap.hdf5.inspector import FileInspector

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = Path(__file__).parents[2] / "data" / "hostile"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "cm1-1"
    root.mkdir()
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def looker(data_root):
    """One for all tests: whatever a test does to it, the next one must find it in order."""
    looker = FileInspector(data_root, path_map=[("/writer", str(data_root))], time_limit_s=3)
    yield looker
    await looker.close()


@pytest.fixture
def visit(data_root):
    directory = data_root / f"visit-{len(list(data_root.iterdir()))}"
    directory.mkdir()
    return directory


@pytest.fixture
def outside(data_root):
    path = data_root.parent / "cm1-10" / "secret.h5"
    if not path.exists():
        path.parent.mkdir()
        write(path, np.full((8, *SHAPE), CANARY, np.uint16))
    return path


def named(listing):
    return {member["name"]: member for member in listing["members"]}


# the tree


async def test_members_are_told_with_shape_dtype_links_and_classes(looker, visit):
    path = visit / "scan.nxs"
    write(visit / "data.h5", pictures(0, 3), name="frames")
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "plot"})
        entry.create_group("plot").attrs["NX_class"] = "NXdata"
        entry["hard"] = np.zeros((2, 5), "f4")
        entry["soft"] = h5py.SoftLink("/entry/hard")
        entry["external"] = h5py.ExternalLink("data.h5", "/frames")
        entry["gone"] = h5py.SoftLink("/nowhere")
        entry["gone file"] = h5py.ExternalLink("nothing.h5", "/frames")
        entry["round"] = h5py.SoftLink("/entry/round")
        entry["out"] = h5py.ExternalLink("../../../etc/passwd", "/x")
        entry["type"] = np.dtype("i4")
    listing = await looker.members(str(path), "/entry")
    received = named(listing)
    assert (listing["total"], listing["found"], listing["file"]) == (9, 9, f"{visit.name}/scan.nxs")
    assert list(received) == sorted(received)
    facts = {
        name: (one["link"], one["target"], one["kind"], one["shape"], one["dtype"]) for name, one in received.items()
    }
    assert facts == {
        "external": ("external", "data.h5:/frames", "dataset", [3, *SHAPE], "uint16"),
        "gone": ("soft", "/nowhere", "broken", None, ""),
        "gone file": ("external", "nothing.h5:/frames", "broken", None, ""),
        "hard": ("hard", "", "dataset", [2, 5], "float32"),
        "out": ("external", "../../../etc/passwd:/x", "refused", None, ""),
        "plot": ("hard", "", "group", None, ""),
        "round": ("soft", "/entry/round", "broken", None, ""),
        "soft": ("soft", "/entry/hard", "dataset", [2, 5], "float32"),
        "type": ("hard", "", "datatype", None, "int32"),
    }
    assert "too many links" in received["round"]["why"]
    assert "not in the data root" in received["out"]["why"]
    assert received["plot"]["nx"] == "NXdata"
    assert [name for name, one in received.items() if one["default"]] == ["plot"]


async def test_a_group_of_100_000_members_is_told_a_page_at_a_time(looker, visit):
    path = visit / "many.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("g")
        for number in range(100_000):
            group[f"m{number:06}"] = h5py.SoftLink("/g")
    began = time.monotonic()
    page = await looker.members(str(path), "/g", offset=99_990, count=500)
    assert time.monotonic() - began < 3 * PATIENCE
    assert (page["total"], [one["name"] for one in page["members"]]) == (
        100_000,
        [f"m{number:06}" for number in range(99_990, 100_000)],
    )
    found = await looker.members(str(path), "/g", search="M0012", offset=98, count=3)
    assert (found["found"], [one["name"] for one in found["members"]]) == (100, ["m001298", "m001299"])
    assert (await looker.members(str(path), "/g", offset=200_000))["members"] == []


async def test_names_of_any_kind_are_told_and_found_again(looker, visit):
    names = ["<img src=x onerror=alert(1)>", "line\nbreak", "\x01control", "emoji 🎉", "n" * 10_000, "a b", "..", "ü"]
    path = visit / "names.h5"
    with h5py.File(path, "w") as file:
        for number, name in enumerate(names):
            file[name] = number
        file.id.links.create_soft(b"\xff\xfe", b"/a b")
    received = [one["name"] for one in (await looker.members(str(path)))["members"]]
    assert set(names) < set(received)
    for name in received:
        block = await looker.read(str(path), f"/{name}")
        assert int(block.values) == (names.index(name) if name in names else names.index("a b"))


async def test_a_search_goes_through_the_whole_file_and_follows_no_link(looker, visit):
    path = visit / "deep.h5"
    with h5py.File(path, "w") as file:
        group = file
        for depth in range(60):
            group = group.create_group(f"level {depth}")
        group["Needle"] = 1
        file["needle at the top"] = 2
        file["again"] = file["level 0"]
        group["up"] = file["level 0"]
        file["soft needle"] = h5py.SoftLink("/")
    found = await looker.find(str(path), "needle")
    assert found["more"] is False
    assert found["paths"][:2] == ["/needle at the top", "/soft needle"]
    assert [one.rpartition("/")[2] for one in found["paths"][2:]] == ["Needle"]
    assert (await looker.find(str(path), "needle", count=1)) == {"paths": ["/needle at the top"], "more": True}
    assert (await looker.find(str(path), "nothing of the kind"))["paths"] == []


async def test_all_that_is_told_of_a_dataset(looker, visit):
    path = visit / "scan.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "d", data=pictures(0, 4), chunks=(1, *SHAPE), maxshape=(None, *SHAPE), compression="gzip", shuffle=True
        )
        data.attrs.update({"units": "counts", "long_name": "camera", "many": np.arange(50), "name": "x" * 1000})
        data.attrs["long"] = np.zeros(8000)
        data.attrs["nan"] = np.nan
        file.create_dataset("b", data=pictures(0, 4), chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4"))
    received = await looker.about(str(path), "/d")
    assert received["shape"] == [4, *SHAPE]
    assert received["maxshape"] == [None, *SHAPE]
    assert received["chunks"] == [1, *SHAPE]
    assert (received["layout"], received["filters"], received["dtype"]) == ("chunked", ["shuffle", "gzip 4"], "uint16")
    assert (received["units"], received["long_name"], received["live"]) == ("counts", "camera", True)
    assert received["bytes"] == 4 * SHAPE[0] * SHAPE[1] * 2
    assert 0 < received["stored"] < received["bytes"]
    attributes = {one["name"]: one for one in received["attributes"]}
    assert attributes["many"]["value"] == list(range(20))
    assert attributes["many"]["cut"] is True
    assert len(attributes["name"]["value"]) == 201
    assert (attributes["long"]["value"], attributes["long"]["shape"]) == ([0.0] * 20, [8000])
    assert attributes["nan"]["value"] == "nan"
    assert (await looker.about(str(path), "/b"))["filters"] == ["bitshuffle"]


async def test_attributes_beyond_all_bounds_are_told_of_without_being_read(looker, visit):
    path = visit / "huge.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(300):
            file.attrs[f"a{number:03}"] = np.zeros(25_000)
    received = await looker.about(str(path))
    assert (len(received["attributes"]), received["attributes_total"]) == (200, 300)
    assert {(one["value"], one["cut"]) for one in received["attributes"]} == {(None, True)}


async def test_nexus_defaults_signals_axes_and_errors_are_found(looker, visit):
    path = visit / "scan.nxs"
    write(visit / "raw.h5", pictures(0, 4), name="frames")
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "plot"})
        plot = entry.create_group("plot")
        plot.attrs.update({"NX_class": "NXdata", "signal": "y", "axes": ["x", "."]})
        plot["y"] = np.zeros((4, 3))
        plot["y_errors"] = np.ones((4, 3))
        plot["x"] = np.arange(4.0)
        plot["title"] = "A <b>plot</b>"
        linked = entry.create_group("linked")
        linked.attrs.update({"NX_class": "NXdata", "signal": "data"})
        linked["data"] = h5py.ExternalLink("raw.h5", "/frames")
        old = file.create_group("old")
        old.attrs["NX_class"] = "NXdata"
        old["counts"] = np.arange(5)
        old["counts"].attrs.update({"signal": 1, "axes": "angle"})
        old["angle"] = np.arange(5.0)
    expected = {
        "signal": "/entry/plot/y",
        "signals": ["/entry/plot/y"],
        "axes": ["/entry/plot/x", None],
        "errors": "/entry/plot/y_errors",
        "title": "A <b>plot</b>",
    }
    assert (await looker.about(str(path)))["nexus"] == {"default": "/entry/plot", **expected}
    assert (await looker.about(str(path), "entry/plot/y"))["nexus"] == {"default": None, **expected}
    assert (await looker.about(str(path), "/entry/plot/x"))["nexus"]["signal"] is None
    assert (await looker.about(str(path), "/entry/linked/data"))["nexus"]["signal"] == "/entry/linked/data"
    old_plot = (await looker.about(str(path), "/old/counts"))["nexus"]
    assert (old_plot["signal"], old_plot["axes"]) == ("/old/counts", ["/old/angle"])


@pytest.mark.parametrize("received", ["model", ["model", "gone", "residue"], np.array(["model"], h5py.string_dtype())])
async def test_auxiliary_signals_are_told_beside_the_signal_and_have_its_axes(looker, visit, received):
    path = visit / "scan.nxs"
    with h5py.File(path, "w") as file:
        plot = file.create_group("plot")
        plot.attrs.update({"NX_class": "NXdata", "signal": "y", "axes": ["x"], "auxiliary_signals": received})
        for name in ("model", "other", "residue", "x", "y"):
            plot[name] = np.arange(4.0)
    auxiliary = [name for name in ("model", "residue") if name in received]
    signals = [f"/plot/{name}" for name in ("y", *auxiliary)]
    members = named(await looker.members(str(path), "/plot"))
    assert [name for name, member in members.items() if member["auxiliary"]] == auxiliary
    assert [name for name, member in members.items() if member["default"]] == ["y"]
    for name in ("y", *auxiliary):
        plot = (await looker.about(str(path), f"/plot/{name}"))["nexus"]
        assert (plot["signal"], plot["signals"], plot["axes"]) == (f"/plot/{name}", signals, ["/plot/x"])
    assert (await looker.about(str(path), "/plot/other"))["nexus"]["signals"] == []
    assert (await looker.about(str(path), "/plot"))["nexus"]["signals"] == signals


async def test_a_dataset_that_grows_is_told_as_it_is_now(looker, visit):
    with SwmrWriter(visit / "scan.h5") as writer:
        for count in (1, 4, 9):
            writer.write(count - writer.write(0))
            shape = [count, *SHAPE]
            path, node = str(visit / "scan.h5"), "/entry/data/data"
            assert (await looker.about(path, node))["shape"] == shape
            assert named(await looker.members(path, "/entry/data"))["data"]["shape"] == shape
            block = await looker.read(path, node, [count - 1])
            assert block.of == (count, *SHAPE)
            assert block.values.tolist() == pictures(count - 1, count, block.values.dtype)[0].tolist()


async def test_a_file_that_was_replaced_or_deleted_is_what_it_is_now(looker, visit):
    path = write(visit / "scan.h5", pictures(0, 4))
    assert (await looker.about(str(path), "d"))["shape"] == [4, *SHAPE]
    other = write(visit / "other.h5", pictures(0, 2))
    other.replace(path)
    assert (await looker.about(str(path), "d"))["shape"] == [2, *SHAPE]
    path.unlink()
    with pytest.raises(FileNotReady):
        await looker.members(str(path))


# values


KINDS = {
    "bool": np.array([[True, False], [False, True]]),
    "uint8": np.arange(6, dtype="u1").reshape(2, 3),
    "big-endian": np.arange(6, dtype=">i4"),
    "half": np.arange(4, dtype="f2"),
    "long double": np.arange(4, dtype=np.longdouble),
    "complex": np.arange(4) * (1 + 2j),
    "complex of single precision": (np.arange(4) * 1j).astype("c8"),
    "int64": np.array([2**63 - 1, -(2**63)]),
    "uint64": np.array([2**64 - 1], "u8"),
    "nan": np.array([np.nan, np.inf]),
    "nothing": np.zeros((0, 3)),
    "five dimensions": np.arange(2**5).reshape(2, 2, 2, 2, 2),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_numbers_are_read_as_they_are(looker, visit, kind):
    values = KINDS[kind]
    path = visit / "numbers.h5"
    with h5py.File(path, "w") as file:
        file["d"] = values
    block = await looker.read(str(path), "d")
    np.testing.assert_array_equal(block.values, values)
    assert block.of == values.shape
    scalar = await looker.read(str(path), "d", [0] * values.ndim) if values.size else block
    assert scalar.values.shape == (() if values.size else values.shape)


OTHERS = {
    "text": ("Grüße <b>", "Grüße <b>"),
    "texts": (np.array(["a", "ü"], h5py.string_dtype()), ["a", "ü"]),
    "bytes": (np.array([[b"ab", b"c\xff"]]), [["ab", "c\N{REPLACEMENT CHARACTER}"]]),
    "records": (np.array([(1, 2.5, b"x"), (2, np.nan, b"y")], "i4,f8,S1"), [[1, 2.5, "x"], [2, "nan", "y"]]),
    "nested records": (np.array([((1, 2), 3)], [("a", [("b", "i4"), ("c", "i4")]), ("d", "i4")]), [[[1, 2], 3]]),
    "arrays in records": (np.array([([1, 2],)], [("a", "i4", 2)]), [[[1, 2]]]),
    "opaque": (np.array([b"\x01\xff"], "V2"), ["01 ff"]),
}


@pytest.mark.parametrize("kind", OTHERS)
async def test_what_is_no_number_is_read_as_lists(looker, visit, kind):
    values, expected = OTHERS[kind]
    path = visit / "others.h5"
    with h5py.File(path, "w") as file:
        file["d"] = values
    assert (await looker.read(str(path), "d")).values == expected


async def test_enumerations_lists_references_and_nothing_are_told(looker, visit):
    path = visit / "rare.h5"
    with h5py.File(path, "w") as file:
        enum = h5py.enum_dtype({"IDLE": 0, "BUSY": 7}, "u1")
        file.create_dataset("enum", data=[0, 7, 3], dtype=enum)
        lists = file.create_dataset("lists", (2,), h5py.vlen_dtype("i4"))
        lists[0] = [1, 2, 3]
        file["reference"] = np.array([file["enum"].ref, None], h5py.ref_dtype)
        file["region"] = file["enum"].regionref[0:2]
        file["nothing"] = h5py.Empty("f4")
    about = await looker.about(str(path), "enum")
    assert (about["values"], about["enum"]) == ("enum", {"IDLE": 0, "BUSY": 7})
    assert (await looker.read(str(path), "enum")).values.tolist() == [0, 7, 3]
    assert (await looker.read(str(path), "lists")).values == [[1, 2, 3], []]
    assert (await looker.read(str(path), "reference")).values == ["reference to /enum", "reference to nothing"]
    assert (await looker.read(str(path), "region")).values == "region of /enum"
    assert (await looker.about(str(path), "nothing"))["shape"] is None
    with pytest.raises(FrameError, match="no values"):
        await looker.read(str(path), "nothing")


async def test_only_the_slice_that_was_asked_for_is_read(looker, visit):
    values = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    path = visit / "stack.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=values, chunks=(1, 5, 6))
    for selection, expected in (
        ([2], values[2]),
        ([2, [1, 4, 2]], values[2, 1:4:2]),
        ([[0, 4, 3], 0, 0], values[::3, 0, 0]),
        ([[2, 99, 1]], values[2:]),
        ([3, 4, 5], values[3, 4, 5]),
        ([[4, 4, 1]], values[4:4]),
    ):
        np.testing.assert_array_equal((await looker.read(str(path), "d", selection)).values, expected)
    for bad in ([4], [-1], [0, 0, 0, 0], [[0, 4, 0]], [[3, 1, 1]], [[-1, 2, 1]], [[0, 1]]):
        with pytest.raises(FrameError):
            await looker.read(str(path), "d", bad)
    with pytest.raises(FrameError, match="120 values are requested, at most 100"):
        await looker.read(str(path), "d", most=100)


async def test_absurd_shapes_and_bombs_are_told_and_not_unpacked(looker, visit):
    path = visit / "bombs.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("absurd", (10**9, 10**6), "u1", chunks=(1000, 1000))
        bomb = file.create_dataset("bomb", (5 << 27,), "u1", chunks=(1 << 27,), compression="gzip")
        bomb[:] = 0
        file.create_dataset("one chunk", (1 << 29,), "u1", chunks=(1 << 29,), compression="gzip")
    assert (await looker.about(str(path), "absurd"))["bytes"] == 10**15
    assert (await looker.read(str(path), "absurd", [5, [0, 100, 1]])).values.tolist() == [0] * 100
    with pytest.raises(FrameError, match="values are requested"):
        await looker.read(str(path), "absurd")
    with pytest.raises(FrameError, match="would have to be unpacked"):
        await looker.read(str(path), "bomb", [[0, 5 << 27, 1 << 20]])
    with pytest.raises(FileBroken, match="chunks of 537 MB"):
        await looker.read(str(path), "one chunk", [0])


async def test_a_frame_that_is_not_written_yet_is_not_shown_as_a_dark_one(looker, visit):
    path = visit / "scan.h5"
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("d", (4, *SHAPE), "u2", chunks=(1, *SHAPE))
        data[0] = pictures(0, 1)[0]
    assert (await looker.read(str(path), "d", [0])).values.tolist() == pictures(0, 1)[0].tolist()
    with pytest.raises(FileNotReady, match="no frame 2"):
        await looker.read(str(path), "d", [2])
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert not (await looker.read(str(path), "d", [2])).values.any()


# ways out


async def answers(looker, path):
    """All that can be got out of a file by asking for its dataset ``d``, as text."""
    received = []
    for ask in (
        looker.about(path, "d"), looker.about(path), looker.members(path), looker.find(path, "d"),
        looker.read(path, "d"), looker.read(path, "d", [0]), looker.members(path, "d"),
    ):  # fmt: skip
        try:
            answer = await ask
            if isinstance(answer, dict):
                answer.pop(
                    "identified", None
                )  # inode and time of the file that was asked for, not of what it points at
            received.append(answer if isinstance(answer, dict) else [answer.of, answer.values.tolist()])
        except SnakemapError as error:
            received.append(f"{error.code}: {error}")
    return received


@pytest.mark.parametrize("escape", ESCAPES)
async def test_nothing_outside_is_told_and_not_whether_it_is_there(looker, visit, outside, escape):
    """The same words, whether the file that is pointed at is there or not."""
    received = []
    for number, target in enumerate((outside, outside.with_name("nothng.h5"))):
        directory = visit / str(number)
        directory.mkdir()
        ESCAPES[escape](directory, target)
        path = directory / "scan.h5"
        os.utime(path, (0, 0), follow_symlinks=False)
        answer = json.dumps(await answers(looker, str(path))).replace(f"{visit.name}/{number}/", "")
        received.append(answer.replace("nothng.h5", "secret.h5"))
        assert f"{CANARY}, {CANARY}" not in answer
        with pytest.raises(FileRefused):
            await looker.read(str(path), "d")
    assert received[0] == received[1]


@pytest.mark.parametrize("name", ["../cm1-10/secret.h5", "/etc/passwd", "{outside}", "a\0b", "x" * 5000, ".", ""])
async def test_no_name_leads_out(looker, outside, name):
    with pytest.raises(FileRefused):
        await looker.members(name.format(outside=outside))


async def test_links_and_virtual_sources_inside_go_on_working(looker, visit):
    write(visit / "raw.h5", pictures(0, 8))
    virtual(visit / "scan.h5", [("raw.h5", "d")])
    with h5py.File(visit / "scan.h5", "a") as file:
        file["linked"] = h5py.ExternalLink("/writer" + str(visit / "raw.h5").removeprefix(str(visit.parent)), "d")
    for node in ("d", "linked"):
        block = await looker.read(str(visit / "scan.h5"), node, [3])
        assert block.values.tolist() == pictures(3, 4)[0].tolist()
        assert (await looker.about(str(visit / "scan.h5"), node))["shape"] == [8, *SHAPE]


# hostile files


@pytest.mark.parametrize("name", ["r2466.h5", "r101745.h5", "r233.h5"])
async def test_a_file_that_crashes_or_hangs_hdf5_keeps_nobody_else_waiting(looker, visit, name):
    shutil.copy(HOSTILE / name, visit / name)
    good = write(visit / "good.h5", pictures(0, 2))
    began = time.monotonic()
    bad = asyncio.ensure_future(_walked(looker, str(visit / name)))
    while not bad.done():
        asked = time.monotonic()
        assert (await looker.about(str(good), "d"))["shape"] == [2, *SHAPE]
        assert time.monotonic() - asked < 2.5 * PATIENCE  # that of starting a process among it
        await asyncio.sleep(0.05)
    await bad
    assert time.monotonic() - began < 60 * PATIENCE


async def _walked(looker, path, nodes=40):
    """Goes through a file as far as it lets us; gives the number of answers and of refusals."""
    said, refused, waiting = 0, 0, ["/"]
    for _ in range(nodes):
        if not waiting:
            break
        node = waiting.pop()
        try:
            about = await looker.about(path, node)
            said += 1
            if about["kind"] == "group":
                listing = await looker.members(path, node, count=20)
                waiting += [f"{node.rstrip('/')}/{one['name']}" for one in listing["members"]]
            elif about["shape"] is not None:
                await looker.read(path, node, [[0, min(size, 4), 1] for size in about["shape"]])
        except SnakemapError:
            refused += 1
    return said, refused


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"not HDF5 at all", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" * 99]
)
async def test_what_is_no_hdf5_is_told_in_clear_words(looker, visit, content):
    path = visit / "scan.h5"
    path.write_bytes(content)
    with pytest.raises(FileNotReady if content[:4] in (b"", b"\0\0\0\0", b"\x89HDF") else FileBroken):
        await looker.members(str(path))
    os.utime(path, (0, 0))
    with pytest.raises(FileBroken, match=r"scan\.h5"):
        await looker.members(str(path))


async def test_mutated_files_crash_and_hang_nothing(looker, visit, record_property):
    """As many as a setting says: 10,000 take some minutes."""
    count = int(os.environ.get("SNAKEMAP_TEST_MUTATED", "100"))
    original = _corpus(visit / "original.h5")
    random, launches = np.random.default_rng(4), looker.launches
    said, refused, slowest = 0, 0, 0.0
    for number in range(count):
        data = original.copy()
        places = random.integers(0, len(data), random.integers(1, 24))
        data[places] = random.integers(0, 256, len(places))
        path = visit / f"m{number % 8}.h5"
        path.write_bytes(data[: random.integers(1, len(data))].tobytes() if number % 10 == 0 else data.tobytes())
        began = time.monotonic()
        one, other = await _walked(looker, str(path), nodes=24)
        said, refused, slowest = said + one, refused + other, max(slowest, time.monotonic() - began)
    record_property("readers replaced", looker.launches - launches)
    record_property("slowest file (s)", round(slowest, 1))
    assert said > count
    assert refused > count / 10
    good = write(visit / "good.h5", pictures(0, 2))
    assert (await looker.about(str(good), "d"))["shape"] == [2, *SHAPE]


def _corpus(path):
    """A file with something of everything, as bytes."""
    with h5py.File(path, "w", libver="latest") as file:
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "data", "note": "text", "numbers": np.arange(10)})
        data = entry.create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "frames", "axes": ["x", ".", "."]})
        data.create_dataset("frames", data=pictures(0, 3), chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
        data.create_dataset("packed", data=pictures(0, 3), chunks=(1, *SHAPE), compression="gzip", shuffle=True)
        data["x"] = np.arange(3.0)
        entry["text"], entry["texts"] = "words", np.array(["a", "b"], h5py.string_dtype())
        entry["records"] = np.array([(1, 2.5, b"x")], "i4,f8,S1")
        entry["enum"] = np.array([True, False])
        lists = entry.create_dataset("lists", (2,), h5py.vlen_dtype("i4"))
        lists[0] = [1, 2, 3]
        entry["reference"] = data.ref
        entry["soft"], entry["external"] = h5py.SoftLink("/entry/data"), h5py.ExternalLink("original.h5", "/")
    with h5py.File(path, "a", libver="earliest") as file:
        old = file.create_group("old")
        for number in range(20):
            old[f"m{number}"] = number
    return np.frombuffer(path.read_bytes(), np.uint8)
