"""The README is short, and every link and picture of the documentation leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINES_MAX = 120
LINK = re.compile(r"(?<!!)\[[^]]+\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^]]*\]\(([^)]+)\)")
EVERY_PAGE = pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix()
)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= LINES_MAX


@pytest.mark.parametrize("command", ["make demo", "make test", "pip install .", "snakemap demo", "snakemap serve"])
def test_the_readme_has_the_commands_to_begin_with(command: str) -> None:
    blocks = re.findall(r"^```console\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert command in [line.partition("  ")[0] for block in blocks for line in block.splitlines()]


def test_the_readme_shows_the_page() -> None:
    assert PICTURE.search(README)


@pytest.mark.parametrize("page", [page.name for page in PAGES if page.parent.name == "docs"])
def test_the_readme_links_every_page(page: str) -> None:
    assert f"](docs/{page})" in README


@EVERY_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@EVERY_PAGE
def test_every_picture_is_there(page: Path) -> None:
    for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / picture).is_file(), picture
