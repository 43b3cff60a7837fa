"""Walk the models of a page only after its structure changed.

Bokeh finds the models of a document by walking every property of every model from the roots down: 60 to 90 ms for the
dashboard. It does so after each `freeze()`, whether or not a reference to a model changed meanwhile, and Panel freezes
often. Without this module a tab that is brought up to date ten times a second takes most of a processor core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

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


def walked_once(document: Document) -> AbstractContextManager[None]:
    """Return the block in which several changes of structure are walked once.

    In a document of others, for example of an app that embeds a pane, it does nothing: there Bokeh walks after each
    such block, and a tick that only changes values must not cost a walk.
    """
    models = document.models
    return models.freeze() if isinstance(models, _LazyModels) else contextlib.nullcontext()


class _LazyModels(DocumentModelManager):
    """The models of a document. Bokeh calls :meth:`invalidate` for each change of a reference to a model."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self._stale = False
        self._walked: list[Model] = []

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
