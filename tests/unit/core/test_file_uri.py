"""Tests of the paths that a file URI may mean."""

from __future__ import annotations

import pytest

from snakemap.core.file_uri import is_file_uri, path_of, readings
from snakemap.errors import FileRefused
from snakemap.files.data_root import local_paths


@pytest.mark.parametrize(
    ("uri", "paths"),
    [
        ("file://localhost/d/10%Fe/a.h5", ("/d/10\udcfe/a.h5", "/d/10%Fe/a.h5")),
        ("file://localhost/d/sample #5/a.h5", ("/d/sample #5/a.h5",)),
        ("file://localhost/d/what?/a.h5", ("/d/what?/a.h5",)),
        ("file:///d/a%20b.h5", ("/d/a b.h5", "/d/a%20b.h5")),
        ("file:///d/a%2Fb.h5", ("/d/a/b.h5", "/d/a%2Fb.h5")),
        ("file:///d/100%.h5", ("/d/100%.h5",)),
        ("file:///d/100%2.h5", ("/d/100%2.h5",)),
        ("file://control-7/d/a%23.h5", ("/d/a#.h5", "/d/a%23.h5")),
        ("FILE:/d/a.h5", ("/d/a.h5",)),
        ("/d/a%20b.h5", ("/d/a%20b.h5",)),
        ("file:/// a.h5 ", ("/ a.h5 ",)),
        ("file:///d/é/%C3%A9.h5", ("/d/é/é.h5", "/d/é/%C3%A9.h5")),
    ],
)
def test_a_uri_is_read_decoded_first_and_then_as_it_stands(uri, paths):
    assert readings(uri) == paths


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file://localhost/d/10%Fe/sample #5/a.h5", "/d/10%Fe/sample #5/a.h5"),
        ("file://localhost/d/10%Fe/a.h5", "/d/10%Fe/a.h5"),
        ("file://localhost/d/5%20um pinhole.h5", "/d/5%20um pinhole.h5"),
        ("file://localhost/d/what?/100%.h5", "/d/what?/100%.h5"),
        ("file:///d/sample%20%235%3F.h5", "/d/sample #5?.h5"),
        ("file:///d/10%25Fe.h5", "/d/10%Fe.h5"),
        ("file:/// a.h5 ", "/ a.h5 "),
        ("/d/a%20b.h5", "/d/a%20b.h5"),
    ],
)
def test_the_path_that_is_shown_is_whole(uri, path):
    assert path_of(uri) == path


def test_the_reading_that_was_read_is_shown():
    uri = "file:///data/visit/a%20b.h5"
    assert path_of(uri) == "/data/visit/a b.h5"
    assert path_of(uri, ["other.h5", "visit/a%20b.h5"]) == "/data/visit/a%20b.h5"
    assert path_of(uri, ["visit/a b.h5"]) == "/data/visit/a b.h5"


def test_each_reading_is_mapped_and_refused_as_a_path_is():
    assert [str(path) for path in local_paths("file:///w/10%25", [("/w", "/mnt")])] == ["/mnt/10%", "/mnt/10%25"]
    for uri in ("file:///w/%2e%2e/etc/passwd", "file:///w/../etc/%70asswd", "http://host/a%20b"):
        with pytest.raises(FileRefused):
            local_paths(uri)


def test_only_absolute_file_uris_are_some():
    answers = {
        text: is_file_uri(text) for text in ("file:///a", "file://host/a", "file:/a", "file:a", "/a", "http://h/a")
    }
    assert [text for text, is_one in answers.items() if is_one] == ["file:///a", "file://host/a", "file:/a"]
