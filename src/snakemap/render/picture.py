"""Former names of :mod:`snakemap.render.map_image`."""

from __future__ import annotations

from snakemap.render.map_image import map_image as picture_of

__all__ = ["picture_of"]
