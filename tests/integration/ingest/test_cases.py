"""Cases that went wrong once, through the real chain: store, worker, files, then the run as page and API show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.cases import Documents, Outcome, all_played, image, number, played, playing, ramp, snaked, write

RAMP = [64.0 * (point + 1) for point in range(4)]
"""Sums of the frames of :func:`ramp`."""


async def test_frames_and_events_of_a_plain_run_come_to_their_maps(redis_url: str, tmp_path: Path) -> None:
    case = Documents(tmp_path / "plain", 2, 3)
    descriptor = case.descriptor(cam=image(1, 8, 8), diode=number("nA"))
    resource = case.stream_resource("cam", write(case.folder / "cam.h5", ramp(6)))
    for point in range(6):
        case.stream_datum(descriptor, resource, point, point + 1)
        case.event(descriptor, point + 1, diode=float(point))
    case.stop(primary=6)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == snaked(2, 3, [64 * (point + 1) for point in range(6)])
    assert outcome.channel("diode", "scalars") == snaked(2, 3, list(range(6)))
    assert (outcome.run.status, outcome.words.strip()) == ("complete", "")


async def test_only_the_axes_run_back_that_snake_axes_names(redis_url: str, tmp_path: Path) -> None:
    case = Documents(tmp_path / "snake_axes", 2, 2, 3, snaking=None, extents=None, snake_axes=["x"])
    descriptor = case.descriptor(diode=number())
    for point in range(1, 13):
        case.event(descriptor, point, diode=float(point))
    case.stop(primary=12)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("diode") == [[1, 2, 3], [6, 5, 4], [7, 8, 9], [12, 11, 10]]
    assert outcome.run.raster.source == "shape and snake_axes"
    assert outcome.run.status == "complete"


# what is drawn first can be drawn


def spectra(count: int, values: int = 16) -> npt.NDArray[Any]:
    """Spectra (count, values), no two the same."""
    return np.arange(count * values, dtype="u4").reshape(count, values)


def with_diode(folder: Path, data: npt.NDArray[Any], *shape: int, points: int = 4) -> Documents:
    """A run of one detector that tells a shape and writes a dataset, with a diode beside it."""
    case = Documents(folder, 2, points // 2)
    descriptor = case.descriptor(mca=image(*shape, dtype=data.dtype.str), diode=number("nA"))
    resource = case.stream_resource("mca", write(folder / "mca.h5", data, "/mca"), "/mca")
    case.stream_datum(descriptor, resource, 0, points)
    for point in range(points):
        case.event(descriptor, point + 1, diode=float(point))
    case.stop(primary=points)
    return case


async def test_spectra_are_summed_however_their_dataset_has_them(redis_url: str, tmp_path: Path) -> None:
    one, two = spectra(12), spectra(24)
    lone = with_diode(tmp_path / "shape of one dimension", one, 16, points=12)
    ours = [
        (with_diode(tmp_path / "one row a point", one, 1, 16, points=12), one),
        (with_diode(tmp_path / "two rows a point", two, 2, 16, points=12), two),
        (with_diode(tmp_path / "two rows in one", two.reshape(12, 2, 16), 2, 16, points=12), two),
        (with_diode(tmp_path / "one row in one", one.reshape(12, 1, 16), 1, 16, points=12), one),
        (with_diode(tmp_path / "frames of one row", one.reshape(12, 1, 16), 1, 1, 16, points=12), one),
        (with_diode(tmp_path / "many rows a point", spectra(60), 5, 16, points=12), spectra(60)),
    ]
    outcomes = await all_played(redis_url, tmp_path, lone, *(case for case, _ in ours))
    sums = one.sum(axis=1).tolist()
    assert outcomes[0].channel("mca") == snaked(2, 6, sums)
    assert outcomes[0].channel("diode") == snaked(2, 6, list(range(12)))
    assert (outcomes[0].run.status, outcomes[0].words.strip()) == ("complete", "")
    for outcome, (case, written) in zip(outcomes[1:], ours, strict=True):
        about = case.folder.name
        assert outcome.channel("total") == snaked(2, 6, written.reshape(12, -1).sum(axis=1).tolist()), about
        assert (list(outcome.run.sources), outcome.run.main.kind) == (["mca", "scalars"], "spectra"), about
        assert outcome.channel("diode", "scalars") == snaked(2, 6, list(range(12))), about
        assert (outcome.run.status, outcome.words.strip()) == ("complete", ""), about


async def test_spectra_with_another_length_than_promised_are_not_drawn_and_that_is_said(
    redis_url: str, tmp_path: Path
) -> None:
    outcome = await played(redis_url, tmp_path, with_diode(tmp_path / "longer", spectra(4, 32), 1, 16))
    assert outcome.channel("diode") == snaked(2, 2, [0, 1, 2, 3])
    assert outcome.run.status == "complete"
    assert "mca is not drawn: " in outcome.words
    assert "no stack of spectra of 16 values: its shape is (4, 32)." in outcome.words


@pytest.mark.parametrize("shape", [(1, 16), (2, 16), (5, 16)], ids=str)
async def test_a_camera_comes_before_spectra_whatever_the_plan_names_first(
    redis_url: str, tmp_path: Path, shape: tuple[int, int]
) -> None:
    written = spectra(4 * shape[0])
    case = Documents(tmp_path / "both", 2, 2, detectors=["mca", "cam"])
    descriptor = case.descriptor(mca=image(*shape, dtype="<u4"), cam=image(1, 8, 8), diode=number())
    first = case.stream_resource("mca", write(case.folder / "mca.h5", written, "/mca"), "/mca")
    second = case.stream_resource("cam", write(case.folder / "cam.h5", ramp(4)))
    case.stream_datum(descriptor, first, 0, 4)
    case.stream_datum(descriptor, second, 0, 4)
    for point in range(4):
        case.event(descriptor, point + 1, diode=float(point))
    case.stop(primary=4)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == snaked(2, 2, RAMP)
    assert outcome.channel("total", "mca") == snaked(2, 2, written.reshape(4, -1).sum(axis=1).tolist())
    assert list(outcome.run.sources) == ["cam", "mca", "scalars"]
    assert (outcome.run.status, outcome.words.strip()) == ("complete", "")


async def test_files_that_are_not_hdf5_leave_the_maps_to_what_can_be_read(redis_url: str, tmp_path: Path) -> None:
    kinds = {
        "TIFF": "multipart/related;type=image/tiff",
        "JPEG": "multipart/related;type=image/jpeg",
        "Zarr": "application/x-zarr",
    }
    alone, beside = [], []
    for name, mimetype in kinds.items():
        for second in (False, True):
            case = Documents(tmp_path / f"{name} {second}", 2, 2, detectors=["cam", "other"])
            others: dict[str, Any] = {"other": image(1, 8, 8)} if second else {}
            descriptor = case.descriptor(cam=image(1, 8, 8), i0=number("nA"), **others)
            resource = case.stream_resource("cam", case.folder, mimetype=mimetype)
            case.stream_datum(descriptor, resource, 0, 4)
            if second:
                resource = case.stream_resource("other", write(case.folder / "other.h5", ramp(4)))
                case.stream_datum(descriptor, resource, 0, 4)
            for point in range(4):
                case.event(descriptor, point + 1, i0=1.0 + point)
            case.stop(primary=4)
            (beside if second else alone).append(case)
    outcomes = await all_played(redis_url, tmp_path, *alone, *beside)
    for outcome, (name, mimetype) in zip(outcomes, [*kinds.items()] * 2, strict=True):
        said = f"cam is not drawn: its files are {name} ({mimetype}), and only HDF5 is read."
        assert outcome.words.strip() == said
        assert outcome.run.status == "complete"
        assert outcome.channel("i0", "scalars") == snaked(2, 2, [1, 2, 3, 4])
    assert [outcome.run.main.key for outcome in outcomes] == ["scalars"] * 3 + ["other"] * 3
    assert outcomes[-1].channel("total") == snaked(2, 2, RAMP)


async def test_a_camera_whose_file_is_no_use_leaves_the_maps_to_the_next(redis_url: str, tmp_path: Path) -> None:
    """No stack of frames, frames of another shape, text, and a file outside the data root."""
    root = tmp_path / "root"
    outside = write(tmp_path / "elsewhere" / "cam.h5", ramp(4))
    text = np.array([b"none"] * 4).reshape(4, 1, 1)
    files = {
        "one value": np.arange(4.0),
        "another shape": ramp(4, height=5),
        "text": text,
        "outside": None,
    }
    cases = []
    for name, data in files.items():
        case = Documents(root / name, 2, 2, detectors=["cam"])
        descriptor = case.descriptor(cam=image(1, 8, 8), i0=number("nA"))
        path = outside if data is None else write(case.folder / "cam.h5", data)
        resource = case.stream_resource("cam", path)
        for point in range(4):
            case.stream_datum(descriptor, resource, point, point + 1)
            case.event(descriptor, point + 1, i0=1.0 + point)
        case.stop(primary=4)
        cases.append(case)
    for outcome, name in zip(await all_played(redis_url, root, *cases), files, strict=True):
        assert outcome.run.main.key == "scalars", name
        assert outcome.channel("i0") == snaked(2, 2, [1, 2, 3, 4])
        assert outcome.run.status == "complete", name
        assert outcome.words.startswith(" cam is not drawn: "), outcome.words
        assert outcome.words.count("cam") <= 3, outcome.words


async def test_a_run_of_which_nothing_can_be_read_is_incomplete_and_says_why(redis_url: str, tmp_path: Path) -> None:
    case = Documents(tmp_path / "nothing", 2, 2)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", case.folder, mimetype="image/tiff")
    case.stream_datum(descriptor, resource, 0, 4)
    case.stop(primary=4)
    outcome: Outcome = await played(redis_url, tmp_path, case)
    assert (outcome.run.main.key, outcome.run.status, outcome.run.points) == ("cam", "incomplete", 0)
    assert "cam is not drawn: its files are TIFF (image/tiff), and only HDF5 is read." in outcome.words


# what was lost on the way


async def test_lost_events_leave_their_points_blank_and_are_counted(redis_url: str, tmp_path: Path) -> None:
    cases = []
    for name, lost in {"inside": (5, 6, 7), "first": (1, 2), "last": (11, 12), "none": ()}.items():
        case = Documents(tmp_path / name, 3, 4)
        descriptor = case.descriptor(diode=number("nA"))
        for point in range(1, 13):
            if point not in lost:
                case.event(descriptor, point, diode=float(point))
        case.stop(primary=12)
        cases.append((case, lost))
    outcomes = await all_played(redis_url, tmp_path, *(case for case, _ in cases))
    for outcome, (_, lost) in zip(outcomes, cases, strict=True):
        expected = [None if point in lost else float(point) for point in range(1, 13)]
        assert outcome.channel("diode") == snaked(3, 4, expected)
        assert outcome.run.status == ("incomplete" if lost else "complete")
        assert (f"{len(lost)} of 12 events are missing." in outcome.words) == bool(lost)


async def test_frames_whose_announcement_was_lost_are_read_while_the_run_goes_on(
    redis_url: str, tmp_path: Path
) -> None:
    case = Documents(tmp_path / "lost", 3, 4)
    descriptor = case.descriptor(cam=image(1, 8, 8), diode=number("nA"))
    resource = case.stream_resource("cam", write(case.folder / "cam.h5", ramp(12)))
    for point in (0, 1, 2, 7):
        case.stream_datum(descriptor, resource, point, point + 1)
        case.event(descriptor, point + 1, diode=float(point))
    async with playing(redis_url, tmp_path) as chain:
        await chain.play(case)
        await chain.lab.until_points(case.uid, 8)
        outcome = await chain.outcome(case)
        assert outcome.channel("total") == snaked(3, 4, [64.0 * (point + 1) for point in range(8)])
        assert outcome.run.status == "running"
        assert "4 of 8 events are missing." in outcome.words
        case.stream_datum(descriptor, resource, 8, 12)
        for point in range(8, 12):
            case.event(descriptor, point + 1, diode=float(point))
        case.stop(primary=12)
        await chain.play(case)
        await chain.lab.until_settled(case.uid)
        outcome = await chain.outcome(case)
    assert outcome.channel("total") == snaked(3, 4, [64.0 * (point + 1) for point in range(12)])
    assert outcome.run.filled == 4
    assert "4 extra points recovered from the file." in outcome.words
    assert "4 of 12 events are missing." in outcome.words
    assert outcome.run.status == "incomplete"


# documents from before ophyd-async


def classic(
    folder: Path,
    spec: str,
    resource_path: str,
    *,
    order: str = "datum first",
    shape: tuple[int, ...] = (8, 8),
    lost: tuple[int, ...] = (),
    **kwargs: Any,
) -> Documents:
    """A snaked scan of 3 x 4 points whose events hold the ids of data, and the sum that the detector made itself."""
    case = Documents(folder, 3, 4)
    cam = image(*shape, external="FILESTORE:")
    descriptor = case.descriptor(cam=cam, cam_total=number())
    resource = case.resource(spec, resource_path, **kwargs)
    ids = [f"{resource}/{point}" for point in range(12)]

    def data() -> None:
        for point in range(12):
            case.datum(resource, point)

    if order == "data first":
        data()
    if order == "page":
        numbers = {"point_number": list(range(12))}
        case.add("datum_page", datum_id=ids, resource=resource, datum_kwargs=numbers)
    if order == "bulk":
        arguments = [{"point_number": point} for point in range(12)]
        case.add("bulk_datum", datum_ids=ids, resource=resource, datum_kwarg_list=arguments)
    for point in range(12):
        if order == "datum first":
            case.datum(resource, point)
        if point not in lost:
            case.event(descriptor, point + 1, cam=ids[point], cam_total=64.0 * (point + 1))
    if order == "data last":
        data()
    case.stop(primary=12)
    return case


SUMS = snaked(3, 4, [64.0 * (point + 1) for point in range(12)])


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
async def test_a_classic_area_detector_is_drawn_in_whatever_order_its_documents_come(
    redis_url: str, tmp_path: Path, spec: str
) -> None:
    cases = []
    for order in ("datum first", "data first", "data last", "page", "bulk"):
        case = classic(tmp_path / order, spec, "ad.h5", order=order, frame_per_point=1)
        write(case.folder / "ad.h5", ramp(12))
        cases.append(case)
    for outcome in await all_played(redis_url, tmp_path, *cases):
        assert outcome.channel("total") == SUMS
        assert outcome.channel("cam_total", "scalars") == SUMS
        assert (outcome.run.status, outcome.words.strip()) == ("complete", "")
        assert (outcome.run.file or "").endswith("/ad.h5")


async def test_frames_a_point_and_shapes_that_are_wrong_in_a_classic_descriptor(redis_url: str, tmp_path: Path) -> None:
    """The dataset decides: descriptors of ophyd have had depth 0, sides exchanged, and another number of frames."""
    cases = []
    for shape in ((8, 6, 0), (1, 6, 8), (0, 8, 6), (2, 8, 6)):
        case = classic(tmp_path / str(shape), "AD_HDF5", "ad.h5", shape=shape, frame_per_point=2)
        write(case.folder / "ad.h5", ramp(24, height=8, width=6))
        cases.append(case)
    expected = snaked(3, 4, [48.0 * (4 * point + 3) for point in range(12)])
    for outcome in await all_played(redis_url, tmp_path, *cases):
        assert outcome.channel("total") == expected
        assert outcome.run.frame_shape == (8, 6)
        assert outcome.run.status == "complete"


@pytest.mark.parametrize("each", [1, 2])
async def test_a_classic_detector_with_a_file_for_every_frame(redis_url: str, tmp_path: Path, each: int) -> None:
    """In single mode areaDetector writes datasets of two dimensions; others write a stack of one frame."""
    told: dict[str, Any] = {"template": "%s%s_%6.6d.h5", "filename": "im age", "frame_per_point": each}
    cases = []
    for name in ("one frame", "a stack of one"):
        case = classic(tmp_path / name, "AD_HDF5_SINGLE", "files", **told)
        for frame, data in enumerate(ramp(12 * each)):
            path = case.folder / "files" / f"im age_{frame:06d}.h5"
            if name == "one frame":
                write(path, data, compression=None)
            else:
                write(path, data[np.newaxis])
        cases.append(case)
    firsts = [each * point + 1 for point in range(12)]
    expected = snaked(3, 4, [64.0 * sum(range(first, first + each)) for first in firsts])
    for outcome in await all_played(redis_url, tmp_path, *cases):
        assert outcome.channel("total") == expected
        assert outcome.run.status == "complete"
        assert (outcome.run.file or "").endswith("/files/im age_000000.h5")


async def test_classic_files_that_are_not_read_leave_the_maps_to_the_scalars(redis_url: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(tmp_path / "elsewhere" / "ad.h5", ramp(12))
    template: dict[str, Any] = {"template": "%s%s_%6.6d.h5", "filename": "../../elsewhere/ad"}
    cases = {
        "its files are of the kind AD_TIFF; only AD_HDF5, AD_HDF5_SWMR and AD_HDF5_SINGLE are read": classic(
            root / "tiff", "AD_TIFF", "files", template="%s%s_%d.tiff", filename="im"
        ),
        "its files are of the kind XSP3; only AD_HDF5, AD_HDF5_SWMR and AD_HDF5_SINGLE are read": classic(
            root / "xsp3", "XSP3", "x.h5"
        ),
        "has 0 frames a point": classic(root / "none", "AD_HDF5", "ad.h5", frame_per_point=0),
        "does not name its files": classic(
            root / "width", "AD_HDF5_SINGLE", "files", template="%s%s_%999999999d.h5", filename="im"
        ),
        "is not in the data root": classic(root / "outside", "AD_HDF5", str(tmp_path / "elsewhere" / "ad.h5")),
        "..": classic(root / "up", "AD_HDF5_SINGLE", "files", **template),
    }
    for outcome, said in zip(await all_played(redis_url, root, *cases.values()), cases, strict=True):
        assert outcome.channel("cam_total") == SUMS, said
        assert outcome.run.main.key == "scalars", said
        assert outcome.run.status == "complete", said
        assert outcome.words.strip().startswith("cam is not drawn: "), outcome.words
        assert said in outcome.words, outcome.words


async def test_frames_of_lost_classic_events_are_read_from_the_file(redis_url: str, tmp_path: Path) -> None:
    case = classic(tmp_path / "lost", "AD_HDF5", "ad.h5", lost=(4, 5, 6))
    write(case.folder / "ad.h5", ramp(12))
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == SUMS
    assert outcome.run.filled == 3
    assert "3 of 12 events are missing." in outcome.words
    assert outcome.run.status == "incomplete"


async def test_a_camera_whose_file_never_came_leaves_the_maps_to_the_scalars_of_an_incomplete_run(
    redis_url: str, tmp_path: Path
) -> None:
    """It could have been read, so that the run is not complete without it."""
    cases = []
    for name in ("none", "no HDF5"):
        case = Documents(tmp_path / name, 2, 2)
        descriptor = case.descriptor(cam=image(1, 8, 8), i0=number("nA"))
        resource = case.stream_resource("cam", case.folder / "cam.h5")
        if name != "none":
            (case.folder / "cam.h5").write_bytes(b"a picture")
        for point in range(4):
            case.stream_datum(descriptor, resource, point, point + 1)
            case.event(descriptor, point + 1, i0=1.0 + point)
        case.stop(primary=4)
        cases.append(case)
    for outcome in await all_played(redis_url, tmp_path, *cases, file_timeout_s=1):
        assert outcome.run.main.key == "scalars"
        assert outcome.channel("i0") == snaked(2, 2, [1, 2, 3, 4])
        assert outcome.run.status == "incomplete"
        assert "No frame of cam could be read; the maps show scalars." in outcome.words
        assert "4 points of cam could not be read." in outcome.words


# names of files


async def test_files_are_found_whether_or_not_their_uri_is_encoded(redis_url: str, tmp_path: Path) -> None:
    names = ["10%Fe/sample #5/det.h5", "what?/det.h5", "a%20b.h5", "100%.h5", "a%2Fb.h5", " ends .h5 ", "é/%C3%A9.h5"]
    cases = []
    for number_of_case, name in enumerate(names):
        for encoded in (False, True):
            folder = tmp_path / f"{number_of_case}{'encoded' if encoded else ''}"
            path = write(folder / name, ramp(4))
            uri = f"file:///{quote(str(path))[1:]}" if encoded else f"file://control-7{path}"
            case = Documents(folder, 2, 2)
            descriptor = case.descriptor(cam=image(1, 8, 8))
            case.stream_datum(descriptor, case.stream_resource("cam", path, uri=uri), 0, 4)
            case.stop(primary=4)
            cases.append((case, path))
    outcomes = await all_played(redis_url, tmp_path, *(case for case, _ in cases))
    for outcome, (_, path) in zip(outcomes, cases, strict=True):
        assert outcome.channel("total") == snaked(2, 2, RAMP), path
        assert (outcome.summary["file"], outcome.summary["status"]) == (str(path), "complete")


async def test_of_two_files_that_a_uri_may_mean_the_decoded_one_is_read(redis_url: str, tmp_path: Path) -> None:
    write(tmp_path / "both" / "a%20b.h5", ramp(4, first=100))
    path = write(tmp_path / "both" / "a b.h5", ramp(4))
    case = Documents(tmp_path / "both", 2, 2)
    descriptor = case.descriptor(cam=image(1, 8, 8))
    resource = case.stream_resource("cam", path, uri=f"file://localhost{tmp_path}/both/a%20b.h5")
    case.stream_datum(descriptor, resource, 0, 4)
    case.stop(primary=4)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == snaked(2, 2, RAMP)
    assert outcome.summary["file"] == str(path)


async def test_the_path_of_a_classic_resource_is_not_decoded(redis_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "10%Fe" / "what? #5 a%20b.h5", ramp(4))
    case = Documents(tmp_path / "classic", 2, 2)
    descriptor = case.descriptor(cam=image(8, 8, external="FILESTORE:"))
    resource = case.resource("AD_HDF5", path.name, root=path.parent, frame_per_point=1)
    for point in range(4):
        case.event(descriptor, point + 1, cam=case.datum(resource, point))
    case.stop(primary=4)
    outcome = await played(redis_url, tmp_path, case)
    assert outcome.channel("total") == snaked(2, 2, RAMP)
    assert outcome.summary["file"] == str(path)
