import os

import pytest

from snakemap.errors import SettingsError
from snakemap.simulator.data_files import DIRECTORY, Spool

KB = 1000


def written(spool, size):
    with spool.claim(size) as place:
        place.path.write_bytes(b"x" * size)
    return place.path


def aged(path, age):
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


def test_the_oldest_files_make_room_for_a_new_one(tmp_path):
    spool = Spool(tmp_path, limit_bytes=100 * KB)
    oldest, older, newest = (aged(written(spool, 30 * KB), age) for age in (3, 2, 1))
    new = written(spool, 65 * KB)
    assert spool.files() == [newest, new]
    assert not oldest.exists()
    assert not older.exists()


def test_nothing_is_removed_while_there_is_room(tmp_path):
    spool = Spool(tmp_path, limit_bytes=100 * KB)
    files = [aged(written(spool, 30 * KB), age) for age in (3, 2, 1)]
    assert spool.files() == files


def test_a_file_that_is_being_written_is_never_removed(tmp_path):
    spool, other = Spool(tmp_path, limit_bytes=100 * KB), Spool(tmp_path, limit_bytes=100 * KB)
    with spool.claim(60 * KB) as place:
        place.path.write_bytes(b"x" * 60 * KB)
        aged(place.path, 1000)
        with pytest.raises(SettingsError, match="are in use"), other.claim(60 * KB):
            pass
        assert place.path.exists()
    written(other, 60 * KB)
    assert not place.path.exists()


def test_a_scan_that_would_not_fit_even_alone_is_refused_and_costs_nobody_a_file(tmp_path):
    spool = Spool(tmp_path, limit_bytes=100 * KB)
    kept = written(spool, 30 * KB)
    with pytest.raises(SettingsError, match="fewer points, smaller frames or a higher limit"), spool.claim(101 * KB):
        pass
    assert spool.files() == [kept]


def test_a_scan_may_grow_until_all_files_together_reach_the_limit(tmp_path):
    spool = Spool(tmp_path, limit_bytes=100 * KB)
    written(spool, 30 * KB)
    with spool.claim(10 * KB) as place:
        assert place.bytes_max == 70 * KB


def test_the_files_of_one_scan_share_the_room_as_they_need_it(tmp_path):
    spool = Spool(tmp_path, limit_bytes=100 * KB)
    with spool.claim_all([30 * KB, 10 * KB]) as places:
        assert [place.bytes_max for place in places] == [75 * KB, 25 * KB]
        assert len({place.path for place in places}) == 2
    with pytest.raises(SettingsError, match="this scan needs about"), spool.claim_all([60 * KB, 60 * KB]):
        pass


def test_files_links_and_directories_of_strangers_are_left_alone(tmp_path):
    spool = Spool(tmp_path, limit_bytes=10 * KB)
    directory = tmp_path / DIRECTORY
    directory.mkdir()
    outside = tmp_path / "precious.h5"
    outside.write_bytes(b"x" * 50 * KB)
    strangers = [directory / "precious.h5", directory / "snakemap-sim-20261123T220000-0123abcd.h5.bak"]
    for stranger in strangers:
        stranger.write_bytes(b"x" * 50 * KB)
    link = directory / "snakemap-sim-20261123T220000-0123abcd.h5"
    link.symlink_to(outside)
    (directory / "snakemap-sim-20261123T220001-0123abcd.h5").mkdir()
    written(spool, 9 * KB)
    written(spool, 9 * KB)
    assert len(spool.files()) == 1
    assert outside.exists()
    assert link.is_symlink()
    assert all(stranger.exists() for stranger in strangers)


def test_a_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / DIRECTORY).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="is a link"), Spool(tmp_path, limit_bytes=KB).claim(1):
        pass


def test_a_data_root_that_cannot_be_made_is_told_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file", limit_bytes=KB)
    with pytest.raises(SettingsError, match=r"data_dir: .*file/simulated cannot be made"), spool.claim(1):
        pass


def test_no_companion_remains_when_the_file_is_done(tmp_path):
    spool = Spool(tmp_path, limit_bytes=100 * KB)
    path = written(spool, KB)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".snakemap-sim.lock", path.name]
