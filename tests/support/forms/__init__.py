"""Every form that a run can have: what its documents say, and the map that they must come to in motor coordinates."""

from __future__ import annotations

from functools import cache

from tests.support.forms.chance import random_run
from tests.support.forms.form import Expected, Form, brightness
from tests.support.forms.plans import real_forms, real_names
from tests.support.forms.recorded import recorded_forms, recorded_names
from tests.support.forms.written import written_forms, written_names

__all__ = ["Expected", "Form", "all_forms", "brightness", "names", "random_run", "real_forms", "real_names"]


@cache
def all_forms() -> dict[str, Form]:
    """All forms by name, made once."""
    return {form.name: form for form in (*real_forms(), *written_forms(), *recorded_forms())}


def names() -> list[str]:
    """Names of all forms, without making them."""
    return [*real_names(), *written_names(), *recorded_names()]
