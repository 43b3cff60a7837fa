"""Routes that list the directories of the data root."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.requests import HTTPConnection
from pydantic import BaseModel, Field

from snakemap.api.error_responses import refusals
from snakemap.api.models import Tag
from snakemap.errors import FileMissing, FileNotReady, FileRefused
from snakemap.files.directory_listing import DirectoryCache

__all__ = ["EntryModel", "FilesModel", "files"]

COUNT_MAX = 500

files = APIRouter(
    prefix="/api",
    tags=[Tag.FILES],
    responses=refusals(
        {
            FileRefused: "The path is outside the data root, or not a directory.",
            FileMissing: "The path does not exist.",
            FileNotReady: "The directory cannot be listed now.",
        }
    ),
)


class EntryModel(BaseModel):
    """One entry of a directory."""

    name: str = Field(description="Bytes that are not UTF-8 are replaced.", examples=["scan-1.nxs"])
    kind: Literal["directory", "hdf5", "file", "other", "refused"] = Field(
        description="By content, not by name; refused: a link out of the data root, or unreadable.",
        examples=["hdf5"],
    )
    size: int = Field(description="Bytes.", examples=[23_540_992])
    modified: float = Field(description="Seconds since 1970.", examples=[1795461238.1])
    live: bool = Field(description="It is being written.", examples=[False])


class FilesModel(BaseModel):
    """A part of a directory."""

    path: str = Field(description="In the data root; empty is the root.", examples=["processed"])
    total: int = Field(description="Entries of the directory.", examples=[1])
    found: int = Field(description="Entries that match the search.", examples=[1])
    offset: int = Field(description="Entries before these.", examples=[0])
    more: bool = Field(description="Whether the directory has more entries than can be listed.", examples=[False])
    entries: list[EntryModel]


def directories_of(connection: HTTPConnection) -> DirectoryCache:
    """Return the directories of the application."""
    return connection.app.state.service.directories


@files.get("/files", summary="List a directory", response_model=FilesModel)
async def list_files(
    directories: Annotated[DirectoryCache, Depends(directories_of)],
    path: Annotated[str, Query(description="Directory in the data root; empty is the root.", max_length=4096)] = "",
    order: Annotated[Literal["newest", "name", "size"], Query(description="Directories come first.")] = "newest",
    search: Annotated[str, Query(description="Part of a name, or a pattern with * and ?.", max_length=200)] = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    count: Annotated[int, Query(ge=1, le=COUNT_MAX)] = 200,
) -> FilesModel:
    """A part of a directory of the data root, as it is now."""
    page = await directories.page(path, order=order, search=search, offset=offset, count=count)
    entries = [
        EntryModel(
            name=entry.name.encode("utf-8", "replace").decode(),
            kind=entry.kind,  # pyright: ignore[reportArgumentType]
            size=entry.size,
            modified=entry.modified,
            live=entry.live,
        )
        for entry in page.entries
    ]
    return FilesModel(
        path=page.path, total=page.total, found=page.found, offset=page.offset, more=page.more, entries=entries
    )
