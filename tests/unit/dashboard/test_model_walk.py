"""Models of a document are walked after a change of structure, and only then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from bokeh.core.serialization import Serializer
from bokeh.document import Document
from bokeh.document.events import ModelChangedEvent
from bokeh.document.models import DocumentModelManager
from bokeh.model import Model
from bokeh.models import Column, Div, Range1d, Row
from bokeh.protocol import Protocol
from hypothesis import given
from hypothesis import strategies as st

from snakemap.dashboard.model_walk import walk_after_changes, walked_once


@pytest.fixture
def walks() -> Iterator[list[object]]:
    """One entry for each walk of Bokeh's own."""
    seen: list[object] = []
    walk = DocumentModelManager.recompute

    def counted(self: DocumentModelManager) -> None:
        seen.append(self)
        walk(self)

    with patch.object(DocumentModelManager, "recompute", counted):
        yield seen


def ids(models: Iterable[Model]) -> set[str]:
    return {model.id for model in models}


def a_document() -> tuple[Document, Column, Div]:
    document, said = Document(), Div(text="first")
    walk_after_changes(document)
    page = Column(children=[said])
    document.add_root(page)
    return document, page, said


def test_values_that_change_in_a_block_are_not_walked(walks: list[object]) -> None:
    document, _, said = a_document()
    walks.clear()
    with document.models.freeze():
        said.text = "second"
    assert walks == []


def test_models_that_come_and_go_in_a_block_are_walked_once(walks: list[object]) -> None:
    document, page, said = a_document()
    axis, other = Range1d(), Div(text="other")
    walks.clear()
    with document.models.freeze():
        page.children = [Row(children=[other])]
        said.tags = [axis]
        page.children = [other]
    assert len(walks) == 1
    assert ids(document.models) == ids([page, other])
    assert said.document is None
    assert other.document is document


def test_a_model_in_a_property_of_any_value_is_found(walks: list[object]) -> None:
    document, page, said = a_document()
    axis = Range1d()
    with document.models.freeze():
        said.tags = [{"deep": [axis]}]
    assert axis.document is document
    assert ids(document.models) == ids([page, said, axis])


def test_each_change_out_of_a_block_is_walked_at_once(walks: list[object]) -> None:
    document, page, _ = a_document()
    page.children = []
    assert ids(document.models) == ids([page])


def test_roots_that_come_and_go_are_found(walks: list[object]) -> None:
    document, page, said = a_document()
    other = Div(text="other root")
    with document.models.freeze():
        document.add_root(other)
        document.remove_root(page)
    assert ids(document.models) == ids([other])
    assert said.document is None


def test_nested_blocks_are_walked_at_the_end_of_the_outer_one(walks: list[object]) -> None:
    document, page, _ = a_document()
    walks.clear()
    with document.models.freeze():
        with document.models.freeze():
            page.children = []
        assert walks == []
    assert len(walks) == 1


def test_an_error_in_a_block_does_not_end_the_walks(walks: list[object]) -> None:
    document, page, said = a_document()

    def fail() -> None:
        page.children = []
        raise RuntimeError("in the block")

    with pytest.raises(RuntimeError), document.models.freeze():
        fail()
    assert ids(document.models) == ids([page])
    page.children = [said]
    assert ids(document.models) == ids([page, said])


def test_a_cleared_document_holds_no_models(walks: list[object]) -> None:
    document, _, said = a_document()
    document.clear()
    assert len(document.models) == 0
    assert said.document is None


def test_a_block_in_a_document_of_ours_is_walked_once_and_one_in_that_of_others_only_for_its_changes(
    walks: list[object],
) -> None:
    mine, page, said = a_document()
    others, theirs = Document(), Column(children=[Div()])
    others.add_root(theirs)
    walks.clear()
    with walked_once(mine), walked_once(others):
        said.text = "second"
    assert walks == []
    with walked_once(mine):
        page.children, page.children = [], [said]
    assert len(walks) == 1
    with walked_once(others):
        theirs.children = []
    assert ids(others.models) == ids([theirs])


def test_a_document_with_models_is_refused() -> None:
    document = Document()
    document.add_root(Div())
    with pytest.raises(ValueError, match="holds models already"):
        walk_after_changes(document)


def message(document: Document, *events: ModelChangedEvent) -> tuple[Any, Any]:
    """The content of a message of changes, and what Bokeh's own serializer makes of the same changes."""
    models = document.models
    synced = set(models) - models._new_models
    own = Serializer(references=synced).encode(list(events))
    return Protocol().create("PATCH-DOC", list(events)).content["events"], own


@given(st.lists(st.sampled_from(["text", "add", "add again", "take away", "point to", "other text"]), max_size=12))
def test_messages_are_those_of_bokeh_itself(steps: list[str]) -> None:
    document, page, said = a_document()
    document.models.flush_synced()
    kept = Div(text="kept")
    for number, step in enumerate(steps):
        match step:
            case "text" | "other text":
                model: Model = said if step == "text" else page.children[-1]
                changed = ModelChangedEvent(document, model, "name", f"{number}")
                model.name = f"{number}"
            case "add" | "add again" | "take away":
                added = {"add": [Row(children=[Div(text=f"{number}")])], "add again": [kept], "take away": []}[step]
                page.children = [said, *added]
                changed = ModelChangedEvent(document, page, "children", page.children)
            case _:
                said.tags = [page.children[-1], Range1d()]
                changed = ModelChangedEvent(document, said, "tags", said.tags)
        sent, own = message(document, changed)
        assert sent == own, step


def test_the_references_of_a_document_are_made_once_for_many_messages() -> None:
    document, _, said = a_document()
    document.models.flush_synced()
    before = document.models.synced_references
    for text in ("second", "third"):
        assert message(document, ModelChangedEvent(document, said, "text", text))[0][0]["model"] == {"id": said.id}
    assert document.models.synced_references is before


def test_documents_of_others_are_serialized_as_before() -> None:
    _, (other, said) = a_document(), (Document(), Div(text="first"))
    other.add_root(said)
    other.models.flush_synced()
    sent, own = message(other, ModelChangedEvent(other, said, "text", "second"))
    assert sent == own
    assert other.models.synced_references is not other.models.synced_references
