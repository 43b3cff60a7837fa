from __future__ import annotations

from pathlib import Path

import datashader
import numpy as np
import pytest
from numba.core.caching import FunctionCache, NullCache
from numba.core.dispatcher import Dispatcher

from snakemap.render import averages
from snakemap.render.averages import averaged

COMPILED = averages._compiled()
MEANS = [[2.5, 4.5], [10.5, 12.5]]


def means() -> list[list[float]]:
    return averaged(np.arange(16.0).reshape(4, 4), width=2, height=2, agg="mean").tolist()


@pytest.fixture(autouse=True)
def _caches_as_before(monkeypatch):
    for function in COMPILED:
        monkeypatch.setattr(function, "_cache", function._cache)
    averages._keep_compiled.cache_clear()
    yield
    averages._keep_compiled.cache_clear()


def test_compiled_code_is_kept_on_disk_for_the_next_process():
    assert means() == MEANS
    for function in COMPILED:
        kept = Path(function.stats.cache_path).glob(f"resampling.{function.py_func.__name__}-*.nbi")
        assert list(kept), function


def test_without_any_place_for_compiled_code_means_are_the_same(monkeypatch):
    def refuse(_function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(Dispatcher, "enable_caching", refuse)
    assert means() == MEANS


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ModuleNotFoundError("No module named 'resampling'")]
)
def test_a_cache_that_cannot_be_used_costs_only_time(monkeypatch, error):
    raster = datashader.Canvas.raster

    def spoiled(canvas, cells, **options):
        if any(isinstance(function._cache, FunctionCache) for function in COMPILED):
            raise error
        return raster(canvas, cells, **options)

    monkeypatch.setattr(datashader.Canvas, "raster", spoiled)
    assert means() == MEANS
    assert all(isinstance(function._cache, NullCache) for function in COMPILED)
