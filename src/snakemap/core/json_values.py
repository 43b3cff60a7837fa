"""Kinds of JSON values: as ``isinstance``, and their members are Any to a type checker instead of unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["is_array", "is_dict", "is_list", "is_mapping", "is_sequence"]


def is_dict(value: object) -> TypeIs[dict[str, Any]]:
    """Return whether a value is a JSON object that was read here."""
    return isinstance(value, dict)


def is_mapping(value: object) -> TypeIs[Mapping[str, Any]]:
    """Return whether a value is a JSON object, also one of another library."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeIs[list[Any]]:
    """Return whether a value is a JSON array that was read here."""
    return isinstance(value, list)


def is_array(value: object) -> TypeIs[list[Any] | tuple[Any, ...]]:
    """Return whether a value is a JSON array, or the tuple that it was before."""
    return isinstance(value, list | tuple)


def is_sequence(value: object) -> TypeIs[Sequence[Any]]:
    """Return whether a value is a JSON array, also one of another library; text is none."""
    return isinstance(value, Sequence) and not isinstance(value, str)
