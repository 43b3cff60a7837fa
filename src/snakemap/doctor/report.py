"""Output of findings: columns on a terminal, a line each elsewhere, JSON for programs."""

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
    """Yield lines for a terminal: a heading for each group; mark, name and wrapped text of each finding.

    Args:
        findings: in order of their groups.
        name_width: width of the column of names, in characters.
        width: of the terminal, in characters; None for the current one.
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

    >>> summary([Finding(Mark.OK, "Python", "3.12"), Finding(Mark.WRONG, "Redis", "cannot be reached")])
    '1 to be fixed'
    """
    wrong = sum(finding.mark is Mark.WRONG for finding in findings)
    return f"{wrong} to be fixed" if wrong else "all is well"


def as_json(findings: Iterable[Finding]) -> str:
    """Return a JSON object: whether all is well, and every finding."""
    done = list(findings)
    rows = [
        {
            "mark": finding.mark.lower(),
            "group": finding.group,
            "name": finding.name,
            "settings": [variable(name) for name in finding.settings],
            "text": finding.text,
        }
        for finding in done
    ]
    well = not any(finding.mark is Mark.WRONG for finding in done)
    return orjson.dumps({"well": well, "findings": rows}, option=orjson.OPT_INDENT_2).decode()


def _text(finding: Finding) -> str:
    """Return the printable text of a finding, with its settings unless it is ok."""
    text = "".join(letter if letter.isprintable() else "?" for letter in finding.text)
    settings = ", ".join(map(variable, finding.settings))
    return text if finding.mark is Mark.OK or not settings or settings in text else f"{text} ({settings})"
