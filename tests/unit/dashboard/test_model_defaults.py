"""Bokeh's defaults are the same ones, found in less time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys
import panel
from bokeh.model import Model
from bokeh.plotting import figure
from snakemap.dashboard.model_defaults import keep_defaults

def of_class(kind, key):
    try:
        default = kind.lookup(key).class_default(kind)
    except ValueError as error:
        return str(error)
    plain = default is None or isinstance(default, (bool, int, float, str, tuple))
    return f"{type(default).__name__} {default if plain else ''}"

def of_classes():
    found = {}
    for name, kind in sorted(Model.model_class_reverse_map.items()):
        model = kind.__new__(kind)
        unstable = [key for key in sorted(kind.properties()) if kind.lookup(key).has_unstable_default(model)]
        defaults = [[of_class(kind, key), of_class(kind, key)] for key in sorted(kind.properties())]
        found[name] = [repr(sorted(kind._overridden_defaults())), unstable, defaults]
    return found

def of_a_theme():
    plot = figure()
    seen = [plot.background_fill_color, plot.themed_values()]
    for values in ({"background_fill_color": "red"}, {}):
        plot.apply_theme(values)
        seen += [plot.background_fill_color, plot.themed_values()]
    return seen

def of_lists():
    one, other = figure(), figure()
    one.tags.append("mine")
    return [one.tags, other.tags]

def calls():
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        count += event == "call"
    figure()
    plot = figure()
    sys.setprofile(trace)
    plot.properties_with_values()
    sys.setprofile(None)
    return count

before = [of_classes(), of_a_theme(), of_lists(), calls()]
keep_defaults()
keep_defaults()
print(json.dumps([before, [of_classes(), of_a_theme(), of_lists(), calls()]]))
"""


@pytest.fixture(scope="module")
def found() -> list:
    """What Bokeh says before and after."""
    return json.loads(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True).stdout)


def test_every_class_has_the_same_defaults(found):
    (before, *_), (after, *_) = found
    assert len(before) > 300
    assert after == before


def test_themes_and_lists_work_as_before(found):
    (_, *before, _), (_, *after, _) = found
    assert after == before
    theme, lists = after
    assert theme[2:4] == ["red", {"background_fill_color": "red"}]
    assert theme[:2] == theme[4:] == ["#ffffff", None]
    assert lists == [["mine"], []]


def test_a_model_is_read_with_half_as_many_calls(found):
    (*_, before), (*_, after) = found
    assert after < 0.5 * before
