"""Defaults of Bokeh's models, which are half of what it costs a server to open a page.

A page has about a thousand models. When it is made, Bokeh asks for tens of thousands of defaults, and for each of them
merges the defaults of all base classes, fails to find an attribute, and walks the type of the property. The answers
depend on the class alone, or are in the model, so they are kept. All of this is Bokeh's own in other respects.
"""

from __future__ import annotations

import functools
from typing import Any

from bokeh.core.has_props import HasProps
from bokeh.core.property.descriptors import PropertyDescriptor

__all__ = ["keep_defaults"]


@functools.cache
def keep_defaults() -> None:
    """Have Bokeh keep what it knows of defaults; a second call changes nothing."""
    HasProps._overridden_defaults = classmethod(functools.cache(HasProps._overridden_defaults.__func__))
    HasProps.themed_values = _themed_values
    PropertyDescriptor.has_unstable_default = _has_unstable_default


def _themed_values(model: HasProps) -> dict[str, Any] | None:
    """Return the values that a theme gives to a model, or None."""
    return model.__dict__.get("__themed_values__")


def _has_unstable_default(descriptor: PropertyDescriptor[Any], model: HasProps) -> bool:
    """Return whether each model gets a default of its own, like a list."""
    return _unstable(descriptor, type(model))


@functools.cache
def _unstable(descriptor: PropertyDescriptor[Any], kind: type[HasProps]) -> bool:
    overridden = kind.__overridden_defaults__.get(descriptor.name)
    return descriptor.property._may_have_unstable_default() or descriptor.is_unstable(overridden)
