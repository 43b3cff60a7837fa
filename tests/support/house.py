"""Print what stands out in the code: long modules, classes and functions, class names used twice, and words to avoid.

It fails nothing: what stays has a reason. Run it with ``make house``.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "snakemap"

MODULE_LINES, CLASS_LINES, FUNCTION_LINES = 400, 300, 40

WORDS = (
    "told",
    "tell",
    "tells",
    "who",
    "whoever",
    "nobody",
    "somebody",
    "hear",
    "heard",
    "wear",
    "look round",
    "let go",
    "anew",
    "come by",
)
"""Metaphors and vague words; the glossary has the terms of the field."""

KEPT = {
    "tell": "`tell()` of file objects",
    "tells": "option and field of `snakemap simulate`, which start documents hold",
    "who": "key of the audit log, and users in sentences",
}
"""Why words of the list stay."""


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield name below the package, text and syntax tree of every module."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield str(path.relative_to(SOURCE)), text, ast.parse(text)


def long_parts() -> list[str]:
    """Return modules, classes and functions that are longer than one reads in one sitting, the longest first."""
    found: list[tuple[int, str]] = []
    for name, text, tree in modules():
        lines = text.count("\n")
        if lines > MODULE_LINES:
            found.append((lines, name))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > (CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES):
                    found.append((length, f"{name}: {node.name}"))
    return [f"{lines:5} {name}" for lines, name in sorted(found, reverse=True)]


def classes_twice() -> list[str]:
    """Return class names that more than one module defines."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for name, _, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    return [f"{name}: {', '.join(where)}" for name, where in sorted(homes.items()) if len(where) > 1]


def words_left() -> list[str]:
    """Return how often each word to avoid is left in code, scripts and documentation, and where most."""
    files = [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.js"), ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found: dict[str, Counter[str]] = {word: Counter() for word in WORDS}
    for path in files:
        text = path.read_text(encoding="utf-8").lower()
        for word in WORDS:
            if count := len(re.findall(rf"\b{word}\b", text)):
                found[word][str(path.relative_to(ROOT))] += count
    return [
        f"{sum(places.values()):5} {word}: {', '.join(name for name, _ in places.most_common(3))}"
        + (f" (kept: {KEPT[word]})" if word in KEPT else "")
        for word, places in found.items()
        if places
    ]


def main() -> None:
    """Print all three lists."""
    for title, lines in (
        (
            f"Longer than {MODULE_LINES} (module), {CLASS_LINES} (class) or {FUNCTION_LINES} (function) lines",
            long_parts(),
        ),
        ("Class names that occur twice", classes_twice()),
        ("Words to avoid", words_left()),
    ):
        print(f"{title}: {len(lines)}", *lines, "", sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
