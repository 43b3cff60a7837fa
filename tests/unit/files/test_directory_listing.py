import asyncio
import os
import socket
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.patience import patiently

from snakemap.errors import FileNotReady, FileRefused
from snakemap.files.directory_listing import DirectoryCache, DirectoryPage

HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cm1-1"
    root.mkdir()
    return root


@pytest.fixture
def directories(root: Path) -> DirectoryCache:
    return DirectoryCache(root, period_s=0.05)


def made(path: Path, content: bytes = HDF5, *, age_s: float = 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def kinds(page: DirectoryPage) -> dict[str, str]:
    return {entry.name: entry.kind for entry in page.entries}


def names(page: DirectoryPage) -> list[str]:
    return [entry.name for entry in page.entries]


async def test_what_a_file_is_is_told_by_its_content(root: Path, directories: DirectoryCache) -> None:
    made(root / "scan.h5", b"no HDF5")
    made(root / "scan.nxs")
    made(root / "noend")
    made(root / "behind.dat", bytes(1024) + HDF5)
    made(root / "empty.h5", b"")
    (root / "sub").mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "sock"))
        page = await directories.page()
    assert kinds(page) == {
        "sub": "directory", "scan.h5": "file", "scan.nxs": "hdf5", "noend": "hdf5", "behind.dat": "hdf5",
        "empty.h5": "file", "pipe": "other", "sock": "other",
    }  # fmt: skip


@pytest.mark.parametrize("block", [0, *(512 << power for power in range(12))])
async def test_hdf5_behind_a_user_block_of_any_power_of_two_is_recognized(
    root: Path, directories: DirectoryCache, block: int
) -> None:
    with h5py.File(made(root / "file.mat", b""), "w", userblock_size=block, libver="latest") as file:
        file["x"] = np.arange(5)
        file.flush()
        then = time.time() - 30
        os.utime(root / "file.mat", (then, then))
        assert [(entry.kind, entry.live) for entry in (await directories.page()).entries] == [("hdf5", True)]
    then = time.time() - 31
    os.utime(root / "file.mat", (then, then))
    directories = DirectoryCache(root)
    assert [(entry.kind, entry.live) for entry in (await directories.page()).entries] == [("hdf5", False)]


async def test_a_signature_elsewhere_makes_no_hdf5(root: Path, directories: DirectoryCache) -> None:
    for place in (256, 511, 513, 768, 1536, 6144, 12288, 8191):
        made(root / f"{place}.dat", bytes(place) + HDF5)
    made(root / "cut.dat", bytes(8192) + HDF5[:7])
    assert set(kinds(await directories.page()).values()) == {"file"}


async def test_links_that_stay_inside_are_followed_and_others_look_all_the_same(
    root: Path, directories: DirectoryCache, tmp_path: Path
) -> None:
    made(root / "sub" / "scan.h5")
    secret = made(tmp_path / "cm1-10" / "secret.h5")
    (root / "inside").symlink_to("sub/scan.h5")
    (root / "absolute").symlink_to(root / "sub")
    (root / "chained").symlink_to("inside")
    for name, target in {
        "out": secret, "gone": secret.with_name("nothing.h5"), "up": "../cm1-10/secret.h5", "dir": secret.parent,
        "proc": "/proc/self/root", "loop": "loop", "dangling": "nowhere",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    page = await directories.page(order="name")
    refused = {
        entry.name: (entry.kind, entry.size, entry.modified) for entry in page.entries if entry.kind == "refused"
    }
    assert refused == dict.fromkeys(("out", "gone", "up", "dir", "proc", "loop", "dangling"), ("refused", 0, 0.0))
    assert kinds(page)["inside"] == kinds(page)["chained"] == "hdf5"
    assert kinds(page)["absolute"] == "directory"
    assert names(await directories.page("absolute")) == ["scan.h5"]


@pytest.mark.parametrize("path", ["..", "../cm1-10", "/etc", "sub/../..", "a\0b", "x" * 5000, "scan.h5", "out"])
async def test_no_directory_outside_is_listed(
    root: Path, directories: DirectoryCache, tmp_path: Path, path: str
) -> None:
    made(tmp_path / "cm1-10" / "secret.h5")
    made(root / "scan.h5")
    (root / "sub").mkdir()
    (root / "out").symlink_to(tmp_path / "cm1-10")
    with pytest.raises(FileRefused):
        await directories.page(path)


async def test_a_root_or_directory_that_is_not_there_is_told_and_found_when_it_comes(root: Path) -> None:
    directories = DirectoryCache(root / "later", period_s=0.05)
    with pytest.raises(FileNotReady, match="data root"):
        await directories.page()
    made(root / "later" / "scan.h5")
    assert names(await directories.page()) == ["scan.h5"]
    with pytest.raises(FileNotReady):
        await directories.page("nowhere")


async def test_orders_and_filters(root: Path, directories: DirectoryCache) -> None:
    for number, name in enumerate(["scan-9.h5", "scan-10.h5", "Scan-1.h5", "note[1].txt"]):
        made(root / name, HDF5 + bytes(number), age_s=100 * (number + 1))
    made(root / "z" / "file")
    assert names(await directories.page(order="newest")) == ["z", "scan-9.h5", "scan-10.h5", "Scan-1.h5", "note[1].txt"]
    assert names(await directories.page(order="name")) == ["z", "note[1].txt", "Scan-1.h5", "scan-9.h5", "scan-10.h5"]
    assert names(await directories.page(order="size")) == ["z", "note[1].txt", "Scan-1.h5", "scan-10.h5", "scan-9.h5"]
    assert names(await directories.page(order="name", search="SCAN-1")) == ["Scan-1.h5", "scan-10.h5"]
    assert names(await directories.page(order="name", search="scan-?.h5")) == ["Scan-1.h5", "scan-9.h5"]
    assert names(await directories.page(search="*[1]*")) == ["note[1].txt"]
    page = await directories.page(order="name", offset=1, count=2)
    assert (names(page), page.offset, page.found, page.total) == (["note[1].txt", "Scan-1.h5"], 1, 5, 5)
    assert names(await directories.page(order="name", count=1, around="scan-9.h5")) == ["scan-9.h5"]
    assert (await directories.page(offset=1000, count=3)).offset == 2


async def test_a_file_being_written_is_live(root: Path, directories: DirectoryCache) -> None:
    written = HDF5 + b"\x03\x08\x08\x05"  # version 3, open for writing with SWMR
    made(root / "written-lately", written, age_s=30)
    made(root / "written-long-ago", written, age_s=90)
    made(root / "closed-lately", HDF5 + b"\x03\x08\x08\x00", age_s=30)
    made(root / "touched-now", HDF5 + b"\x00\x00\x00\x00", age_s=2)
    made(root / "text", b"text", age_s=0)
    page = await directories.page()
    assert {entry.name for entry in page.entries if entry.live} == {"written-lately", "touched-now"}


async def test_names_of_any_kind_are_listed(root: Path, directories: DirectoryCache) -> None:
    odd = ["<img src=x onerror=alert(1)>", "line\nbreak", "\x1b[31m", "🎉", "n" * 255, " ", "a&b"]
    for name in odd:
        made(root / name)
    made(Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")))
    made(root / ".hidden")
    page = await directories.page()
    assert set(names(page)) == {*odd, "\udcff\udcfe"}
    assert set(kinds(page).values()) == {"hdf5"}


async def test_ten_thousand_files_are_looked_into_only_as_far_as_they_are_shown(
    root: Path, directories: DirectoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10_000):
        (root / f"scan-{number}.h5").touch()
    opened = []
    recognize = directories._recognize
    monkeypatch.setattr(directories, "_recognize", lambda place: opened.append(place) or recognize(place))
    page = await directories.page(count=100)
    assert (page.total, len(page.entries), len(opened)) == (10_000, 100, 100)
    await directories.page(count=100)
    assert len(opened) == 100


async def test_no_more_entries_than_a_bound_are_told(
    root: Path, directories: DirectoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snakemap.files.directory_listing.ENTRIES_MAX", 5)
    for number in range(6):
        made(root / str(number))
    page = await directories.page()
    assert (page.total, page.more) == (5, True)


async def notified(event: asyncio.Event) -> None:
    async with patiently(10):
        await event.wait()
    event.clear()


async def test_who_watches_is_told_of_new_changed_and_deleted_files(root: Path, directories: DirectoryCache) -> None:
    news = asyncio.Event()
    directories.watch("tab", "", news.set)
    await directories.page()
    made(root / "scan.h5")
    await notified(news)
    assert names(await directories.page()) == ["scan.h5"]
    made(root / "scan.h5", HDF5 + b"more")
    await notified(news)
    (root / "scan.h5").rename(root / "other.h5")
    await notified(news)
    assert names(await directories.page()) == ["other.h5"]
    (root / "other.h5").unlink()
    await notified(news)
    assert names(await directories.page()) == []
    directories.unwatch("tab")


async def test_a_directory_is_listed_once_for_all_and_not_when_nobody_looks(
    root: Path, directories: DirectoryCache
) -> None:
    made(root / "scan.h5")
    for number in range(20):
        directories.watch(number, "", lambda: None)
        await directories.page()
    before = directories.scans
    assert before <= 2
    await asyncio.sleep(0.5)
    assert before < directories.scans <= before + 11
    for number in range(20):
        directories.unwatch(number)
    await asyncio.sleep(0.1)
    before = directories.scans
    await asyncio.sleep(0.3)
    assert directories.scans == before


async def test_a_slow_directory_is_listed_for_no_more_than_a_tenth_of_the_time(
    root: Path, directories: DirectoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = directories._scan

    def slow(path: str) -> object:
        time.sleep(0.05)
        return scan(path)

    monkeypatch.setattr(directories, "_scan", slow)
    directories.watch("tab", "", lambda: None)
    await asyncio.sleep(1.2)
    directories.unwatch("tab")
    assert 1 <= directories.scans <= 4


async def test_who_watches_hears_that_the_directory_is_gone_and_there_again(
    root: Path, directories: DirectoryCache
) -> None:
    news = asyncio.Event()
    (root / "sub").mkdir()
    directories.watch("tab", "sub", news.set)
    await directories.page("sub")
    (root / "sub").rmdir()
    await notified(news)
    with pytest.raises(FileNotReady):
        await directories.page("sub")
    made(root / "sub" / "scan.h5")
    await notified(news)
    assert names(await directories.page("sub")) == ["scan.h5"]
    directories.unwatch("tab")


async def test_what_was_found_before_anybody_watched_is_not_shown_as_new(root: Path) -> None:
    directories = DirectoryCache(root, period_s=5)
    await directories.page()
    made(root / "scan.h5")
    directories.watch("tab", "", lambda: None)
    assert names(await directories.page()) == ["scan.h5"]
    directories.unwatch("tab")


async def test_a_file_that_ceased_to_be_live_is_told_of(
    root: Path, directories: DirectoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snakemap.files.directory_listing.SURELY_LIVE_S", 1.0)
    made(root / "scan.h5", age_s=0.5)
    news = asyncio.Event()
    directories.watch("tab", "", news.set)
    assert [entry.live for entry in (await directories.page()).entries] == [True]
    await asyncio.sleep(1)
    await notified(news)
    assert [entry.live for entry in (await directories.page()).entries] == [False]
    directories.unwatch("tab")
