import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from snakemap.errors import FileNotReady, FileRefused
from snakemap.files import data_root
from snakemap.files.data_root import DataRoot, local_path, shown

SECRET = b"the canary"


@pytest.fixture
def world(tmp_path):
    """A data root with one good file, and a secret beside it."""
    root = tmp_path / "data" / "cm1-1"
    (root / "visit").mkdir(parents=True)
    (root / "visit" / "scan.h5").write_bytes(b"good")
    (tmp_path / "data" / "cm1-10").mkdir()
    (tmp_path / "data" / "cm1-10" / "scan.h5").write_bytes(SECRET)
    return root


@pytest.fixture(params=[True, False], ids=["openat2", "part-by-part"])
def root(world, request):
    with DataRoot(world, openat2=request.param) as root:
        yield root


def open_descriptors():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def content(root, path):
    fd = root.open(path)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "name",
    ["visit/scan.h5", "./visit//./scan.h5", "{root}/visit/scan.h5", "{root}/./visit/scan.h5", "/{root}/visit/scan.h5"],
)
def test_a_file_in_the_root_is_opened_by_any_plain_name(root, name):
    assert content(root, name.format(root=root.root)) == b"good"


@pytest.mark.parametrize(
    "name",
    [
        "../cm1-10/scan.h5",
        "visit/../../cm1-10/scan.h5",
        "visit/../visit/scan.h5",
        "{root}/../cm1-10/scan.h5",
        "{root}0/scan.h5",
        "/etc/passwd",
        "/",
        "visit/scan.h5\0.txt",
        "a" * 5000,
        "\ud800",
        "n" * 256,
    ],
)
def test_a_name_that_leads_out_or_is_none_is_refused(root, name):
    with pytest.raises(FileRefused):
        root.open(name.format(root=root.root))


@pytest.mark.parametrize("name", ["scan.h5", "visit/other.h5", "visit/scan.h5/inside", "no/such/visit.h5"])
def test_a_file_that_is_not_there_is_not_ready(root, name):
    with pytest.raises(FileNotReady, match="is not there"):
        root.open(name)


@pytest.mark.parametrize(
    "target",
    ["scan.h5", "../visit/scan.h5", "{root}/visit/scan.h5", "{root}/visit/../visit/scan.h5", "/{root}/visit/scan.h5"],
)
def test_links_that_stay_in_the_root_work(root, world, target):
    (world / "visit" / "link.h5").symlink_to(target.format(root=world))
    (world / "directory").symlink_to(world / "visit")
    assert content(root, "visit/link.h5") == b"good"
    assert content(root, "directory/link.h5") == b"good"


@pytest.mark.parametrize(
    "target",
    [
        "../../cm1-10/scan.h5",
        "{root}0/scan.h5",
        "{root}/../cm1-10/scan.h5",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cwd",
        "/dev/zero",
        "link.h5",
    ],
)
def test_links_that_lead_out_or_nowhere_are_refused(root, world, target):
    (world / "visit" / "link.h5").symlink_to(target.format(root=world))
    with pytest.raises(FileRefused):
        root.open("visit/link.h5")


def test_a_linked_directory_outside_is_refused(root, world):
    (world / "directory").symlink_to("../cm1-10")
    with pytest.raises(FileRefused):
        root.open("directory/scan.h5")


def test_a_refusal_does_not_tell_whether_something_is_there(root, world):
    (world / "there").symlink_to("/etc/passwd")
    (world / "not there").symlink_to("/etc/no such file")
    messages = []
    for name in ("there", "not there", "/etc/passwd", "/etc/no such file"):
        with pytest.raises(FileRefused) as refusal:
            root.open(name)
        messages.append(str(refusal.value).replace(name, "it"))
    assert set(messages) == {"it is not in the data root, or links to a place outside it"}


@pytest.mark.parametrize("use_root_link", [True, False])
def test_a_root_that_is_itself_reached_by_a_link_knows_both_its_names(world, tmp_path, use_root_link):
    (tmp_path / "link").symlink_to(world)
    (world / "absolute.h5").symlink_to(tmp_path / "link" / "visit" / "scan.h5")
    with DataRoot(tmp_path / "link") as root:
        assert content(root, (tmp_path / "link" if use_root_link else world) / "visit" / "scan.h5") == b"good"
        assert content(root, "absolute.h5") == b"good"


def test_a_pipe_is_refused_without_waiting_for_its_other_end(root, world):
    os.mkfifo(world / "pipe.h5")
    with pytest.raises(FileRefused, match="is a pipe, not a file"):
        root.open("pipe.h5")


def test_a_socket_is_refused(root, world, monkeypatch):
    monkeypatch.chdir(world)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.h5")
        with pytest.raises(FileRefused, match="is a socket, not a file"):
            root.open("socket.h5")


@pytest.mark.parametrize("name", ["visit", ".", "", "{root}"])
def test_a_directory_is_no_file(root, name):
    with pytest.raises(FileRefused, match="is a directory, not a file"):
        root.open(name.format(root=root.root))


@pytest.mark.parametrize(("name", "entries"), [("visit", ["scan.h5"]), (".", ["visit"]), ("{root}", ["visit"])])
def test_a_directory_in_the_root_is_opened_to_be_listed(root, name, entries):
    fd = root.open_directory(name.format(root=root.root))
    try:
        with os.scandir(fd) as listed:
            assert [entry.name for entry in listed] == entries
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["..", "../cm1-10", "/etc", "{root}0"])
def test_a_directory_outside_is_refused(root, name):
    with pytest.raises(FileRefused):
        root.open_directory(name.format(root=root.root))


def test_a_file_is_no_directory(root):
    with pytest.raises(FileRefused, match="is a file, not a directory"):
        root.open_directory("visit/scan.h5")


def test_a_hard_link_is_opened_like_the_file_itself(root, world, tmp_path):
    os.link(tmp_path / "data" / "cm1-10" / "scan.h5", world / "hard.h5")
    assert content(root, "hard.h5") == SECRET


def test_an_opened_file_tells_where_it_really_is(root, world):
    (world / "link.h5").symlink_to("visit/scan.h5")
    fd = root.open("link.h5")
    try:
        assert str(root.name_of(fd)) == "visit/scan.h5"
    finally:
        os.close(fd)


def test_a_root_that_is_not_there_yet_may_come(tmp_path):
    with DataRoot(tmp_path / "late") as root:
        with pytest.raises(FileNotReady, match="the data root"):
            root.open("scan.h5")
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "scan.h5").write_bytes(b"good")
        assert content(root, "scan.h5") == b"good"


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.EACCES, FileRefused, "is not readable for the account"),
        (errno.ESTALE, FileNotReady, "cannot be opened at the moment: Stale file handle"),
        (errno.EMFILE, FileNotReady, "cannot be opened at the moment: Too many open files"),
    ],
)
def test_what_the_disk_says_is_told_in_plain_words(world, monkeypatch, number, error, message):
    def failing(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    with DataRoot(world, openat2=False) as root:
        root.hold()
        monkeypatch.setattr(data_root, "_pin", failing)
        with pytest.raises(error, match=message):
            root.open("visit/scan.h5")


def test_no_descriptor_is_left_open(root, world):
    (world / "in.h5").symlink_to(world / "visit" / "scan.h5")
    (world / "out.h5").symlink_to("/etc/passwd")
    content(root, "in.h5")
    before = open_descriptors()
    content(root, "in.h5")
    for name in ("out.h5", "no.h5", "..", "visit"):
        with pytest.raises((FileRefused, FileNotReady)):
            root.open(name)
    assert open_descriptors() == before


def test_nothing_gets_out_while_a_file_is_swapped_for_a_link(root, world, tmp_path):
    outside = tmp_path / "data" / "cm1-10"
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for target in ("visit", outside):
                (world / "next").symlink_to(target)
                (world / "next").replace(world / "moving")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = []
    try:
        while len(seen) < 3000 or {b"good", None} - set(seen):
            try:
                seen.append(content(root, "moving/scan.h5"))
            except (FileRefused, FileNotReady):
                seen.append(None)
    finally:
        stop.set()
        swapping.join()
    assert set(seen) == {b"good", None}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file://localhost/dls/a.h5", "/dls/a.h5"),
        ("file:///dls/a.h5", "/dls/a.h5"),
        ("file:/dls/a.h5", "/dls/a.h5"),
        ("FILE://localhost/dls/a.h5", "/dls/a.h5"),
        ("file://b01-1-control/dls/a.h5", "/dls/a.h5"),
        ("/dls/a.h5", "/dls/a.h5"),
        ("/dls/100%25.h5", "/dls/100%25.h5"),
        ("file:///dls/a%20b%23%3F.h5", "/dls/a b#?.h5"),
        ("file:///dls/a#b?c.h5", "/dls/a#b?c.h5"),
        ("file:///dls/%C3%A9.h5", "/dls/é.h5"),
        ("file:///dls/%FF.h5", "/dls/\udcff.h5"),
        ("//dls//./a.h5", "/dls/a.h5"),
        ("file://localhost/C:/data/a.h5", "/C:/data/a.h5"),
    ],
)
def test_a_uri_tells_a_path(uri, path):
    assert local_path(uri) == Path(path)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a.h5",
        "file:a.h5",
        "http://host/a.h5",
        "s3://bucket/a.h5",
        "file://localhost",
        "/dls/../etc/passwd",
        "file:///dls/%2e%2e/etc/passwd",
        "file:///dls/..%2fetc/passwd",
        "file:///dls/a%00.h5",
        "/dls/a\0.h5",
    ],
)
def test_what_is_no_path_of_a_file_is_refused(uri):
    with pytest.raises(FileRefused):
        local_path(uri)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/data/a.h5", "/mnt/a.h5"),
        ("/data", "/mnt"),
        ("/database/a.h5", "/database/a.h5"),
        ("/data/deep/a.h5", "/deep/a.h5"),
        ("/data/deeper/a.h5", "/mnt/deeper/a.h5"),
        ("file://localhost/data/deep/a%20b.h5", "/deep/a b.h5"),
        ("/other/data/a.h5", "/other/data/a.h5"),
    ],
)
def test_the_longest_prefix_of_whole_parts_is_mapped(uri, path):
    path_map = (("/data", "/mnt"), ("/data/deep", "/deep"), ("/datab", "/wrong"))
    assert local_path(uri, path_map) == local_path(uri, path_map[::-1]) == Path(path)


def test_the_root_of_the_writer_can_be_mapped():
    assert local_path("/a/b.h5", [("/", "/mnt/writer")]) == Path("/mnt/writer/a/b.h5")


def test_a_name_is_shown_in_one_line_of_bounded_length():
    assert shown("a\nb\u202e\ud800.h5") == "a\ufffdb\ufffd\ufffd.h5"
    assert shown("x" * 1000) == "x" * 200 + "..."
    assert shown("") == "(no name)"


CONFINED = """
import os, pathlib, socket, sys
from snakemap.files.data_root import restrict_process
root, outside = map(pathlib.Path, sys.argv[1:])
assert restrict_process([root, root / "no such directory"])

def attempt(what, *arguments, **options):
    try:
        what(*arguments, **options)
    except OSError as error:
        return type(error).__name__
    return "done"

print(
    attempt((root / "visit" / "scan.h5").read_bytes),
    attempt(os.listdir, root),
    attempt(outside.read_bytes),
    attempt((root / "visit" / "scan.h5").write_bytes, b"spoiled"),
    attempt((root / "new.h5").write_bytes, b"new"),
    attempt((root / "visit" / "scan.h5").unlink),
    attempt(os.posix_spawn, "/bin/true", ["true"], {}),
)
"""


def test_a_restricted_process_reads_in_the_root_and_can_do_nothing_else(world):
    outside = world.parent / "cm1-10" / "scan.h5"
    command = [sys.executable, "-c", CONFINED, str(world), str(outside)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.stderr == ""
    assert answer.stdout.split() == ["done", "done", *["PermissionError"] * 5]


def test_a_kernel_without_landlock_changes_nothing(monkeypatch, world):
    def missing(*_arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(data_root, "_syscall", missing)
    assert data_root.restrict_process([world]) is False
    assert (world.parent / "cm1-10" / "scan.h5").read_bytes() == SECRET


@pytest.mark.parametrize("number", [1, 38])
def test_without_openat2_names_are_resolved_part_by_part(monkeypatch, world, number):
    def missing(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(data_root, "_syscall", missing)
    with DataRoot(world) as root:
        assert content(root, "visit/scan.h5") == b"good"
        with pytest.raises(FileRefused):
            root.open("../cm1-10/scan.h5")
