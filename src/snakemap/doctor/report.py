"""How findings are shown: in columns to people, a line each to what is no terminal, JSON to programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator

import orjson
import typer

from snakemap.doctor.finding import Finding, Mark, variable

__all__ = ["as_json", "columns", "summary"]

WIDTHS = (60, 120)
SIGNS = {Mark.OK: ("✓", "+", "green"), Mark.NOTE: ("•", "o", "yellow"), Mark.WRONG: ("✗", "x", "red")}


def columns(findings: Iterable[Finding], *, name_width: int, width: int | None = None) -> Iterator[str]:
    """Yield lines for a terminal: a heading a group, a mark, the name, and the text under itself where it is long.

    Args:
        findings: in order of their groups.
        name_width: of the names' column, in characters.
        width: of the terminal, in characters; None: as it is.
    """
    width = min(max(width or shutil.get_terminal_size().columns, WIDTHS[0]), WIDTHS[1])
    group = ""
    for finding in findings:
        if finding.group != group:
            yield typer.style(finding.group, bold=True) if not group else f"\n{typer.style(finding.group, bold=True)}"
            group = finding.group
        sign, plain, color = SIGNS[finding.mark]
        shown = sign if "utf" in (sys.stdout.encoding or "").lower() else plain
        first, *more = textwrap.wrap(
            _text(finding), width - name_width - 5, break_on_hyphens=False, break_long_words=False
        ) or [""]
        yield f"  {typer.style(shown, fg=color, bold=True)} {finding.name:<{name_width}} {first}".rstrip()
        yield from (f"{'':{name_width + 5}}{line}" for line in more)


def summary(findings: Iterable[Finding]) -> str:
    """Return the last line.

    >>> summary([Finding(Mark.OK, "Python", "3.12"), Finding(Mark.WRONG, "Redis", "is away")])
    '1 to be mended'
    """
    wrong = sum(finding.mark is Mark.WRONG for finding in findings)
    return f"{wrong} to be mended" if wrong else "all is well"


def as_json(findings: Iterable[Finding]) -> str:
    """Return one object: whether all is well, and every finding."""
    told = list(findings)
    rows = [
        {
            "mark": finding.mark.lower(),
            "group": finding.group,
            "name": finding.name,
            "settings": [variable(name) for name in finding.settings],
            "text": finding.text,
        }
        for finding in told
    ]
    well = not any(finding.mark is Mark.WRONG for finding in told)
    return orjson.dumps({"well": well, "findings": rows}, option=orjson.OPT_INDENT_2).decode()


def _text(finding: Finding) -> str:
    """Return the printable text of a finding, with its settings unless it is ok."""
    text = "".join(letter if letter.isprintable() else "?" for letter in finding.text)
    told = ", ".join(map(variable, finding.settings))
    return text if finding.mark is Mark.OK or not told or told in text else f"{text} ({told})"
