"""Walk the models of a page only after its structure changed, for its document and for each message.

Bokeh finds the models of a document by walking every property of every model from the roots down: 60 to 90 ms for the
dashboard. It does so after each `freeze()`, whether or not a reference to a model changed meanwhile, and Panel freezes
often. Without this module a tab that is brought up to date ten times a second takes most of a processor core.

For each message, Bokeh makes a table of the references of all models that the browser has: a third of an update of a
tab, whose message refers to one or two. The table of a document of ours is kept until its models change.
"""

from __future__ import annotations

import contextlib
import importlib
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from bokeh.core.serialization import Ref, Serializer
from bokeh.core.types import ID
from bokeh.document import Document
from bokeh.document.models import DocumentModelManager
from bokeh.model import Model

__all__ = ["walk_after_changes", "walked_once"]


def walk_after_changes(document: Document) -> None:
    """Have the models of a new document found again only when a root, or a reference to a model, changed.

    Args:
        document: that holds no models yet.

    Raises:
        ValueError: when it holds some.
    """
    if document.roots:
        raise ValueError("the document holds models already")
    document.models = _LazyModels(document)
    # the package has a class of the name of the module
    vars(importlib.import_module("bokeh.protocol.messages.patch_doc"))["Serializer"] = _PatchSerializer


def walked_once(document: Document) -> AbstractContextManager[None]:
    """Return the block in which several changes of structure are walked once.

    In a document of others, for example of an app that embeds a pane, it does nothing: there Bokeh walks after each
    such block, and a tick that only changes values must not cost a walk.
    """
    models = document.models
    return models.freeze() if isinstance(models, _LazyModels) else contextlib.nullcontext()


class _SyncedModels(set[Model]):
    """Models that the browser has, with a reference to each by the identity of the model."""

    references: dict[Any, Ref]


class _PatchSerializer(Serializer):
    """The serializer of messages; it copies no references of a document of ours."""

    def __init__(self, *, references: set[Model] | None = None, **options: Any) -> None:
        kept = isinstance(references, _SyncedModels)
        super().__init__(references=set() if kept or references is None else references, **options)
        if kept:
            self._references = ChainMap({}, references.references)  # type: ignore[assignment]


class _LazyModels(DocumentModelManager):
    """The models of a document. Bokeh calls :meth:`invalidate` for each change of a reference to a model."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self._stale = False
        self._walked: list[Model] = []
        self._synced: _SyncedModels | None = None

    @property
    def synced_references(self) -> set[Model]:
        """The models that the browser has; made again after they changed."""
        if self._synced is None:
            self._synced = _SyncedModels(super().synced_references)
            self._synced.references = {id(model): model.ref for model in self._synced}  # type: ignore[misc]
        return self._synced

    def __setitem__(self, id: ID, model: Model) -> None:
        """Add a model that the browser has made."""
        self._synced = None
        super().__setitem__(id, model)

    def flush_synced(self, is_still_new: Callable[[Model], bool] | None = None) -> None:
        """Take new models as known to the browser."""
        if self._new_models:
            self._synced = None
        super().flush_synced(is_still_new)

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Put the walk off until the end of the block; an error in the block does not leave it off."""
        self._push_freeze()
        try:
            yield
        finally:
            self._pop_freeze()

    def invalidate(self) -> None:
        """Walk the models, at once or when the last block has ended."""
        self._stale = True
        super().invalidate()

    def recompute(self) -> None:
        """Walk the models from the roots down."""
        self._stale = False
        self._synced = None
        document = self._document()
        self._walked = document.roots if document is not None else []
        super().recompute()

    def _pop_freeze(self) -> None:
        self._freeze_count -= 1
        if self._freeze_count == 0 and (self._stale or self._roots_changed()):
            self.recompute()

    def _roots_changed(self) -> bool:
        document = self._document()
        roots = document.roots if document is not None else []
        return roots != self._walked  # models are equal only to themselves
