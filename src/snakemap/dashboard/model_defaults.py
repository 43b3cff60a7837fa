"""Defaults of Bokeh's models, which are half of what it costs a server to open a page.

A page has about a thousand models. When it is made, Bokeh asks for tens of thousands of defaults, and for each of them
merges the defaults of all base classes, fails to find an attribute, and walks the type of the property. The answers
depend on the class alone, or are in the model, so they are kept; a default that is a number, a text or None is checked
once. All of this is Bokeh's own in other respects.
"""

from __future__ import annotations

import functools
from typing import Any

from bokeh.core.has_props import HasProps
from bokeh.core.property.bases import Property
from bokeh.core.property.descriptors import PropertyDescriptor

__all__ = ["keep_defaults"]

PLAIN = frozenset((type(None), bool, int, float, str))
"""Types of defaults that models may share."""

OTHER = object()
_plain: dict[tuple[int, type[HasProps], str], Any] = {}
_checked_default = Property.themed_default


@functools.cache
def keep_defaults() -> None:
    """Have Bokeh keep what it knows of defaults; a second call changes nothing."""
    HasProps._overridden_defaults = classmethod(functools.cache(HasProps._overridden_defaults.__func__))
    HasProps.themed_values = _themed_values
    PropertyDescriptor.has_unstable_default = _has_unstable_default
    Property.themed_default = _themed_default


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


def _themed_default(
    of: Property[Any],
    kind: type[HasProps],
    name: str,
    theme_overrides: dict[str, Any] | None,
    *,
    no_eval: bool = False,
) -> Any:
    """Return a default, changed by a theme; see :meth:`Property.themed_default`."""
    if theme_overrides is None or name not in theme_overrides:
        known = id(of), kind, name  # properties compare by value, and live as long as their classes
        if known not in _plain:
            _plain[known] = _plain_default(of, kind, name)
        if (plain := _plain[known]) is not OTHER:
            return plain
    return _checked_default(of, kind, name, theme_overrides, no_eval=no_eval)


def _plain_default(of: Property[Any], kind: type[HasProps], name: str) -> Any:
    """Return the default of a class, or ``OTHER`` when each model gets one of its own."""
    if type(kind._overridden_defaults().get(name, of._default)) not in PLAIN:
        return OTHER
    default = _checked_default(of, kind, name, None)
    return default if type(default) in PLAIN else OTHER
