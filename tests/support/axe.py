"""What axe-core finds serious or critical on a page, shadow roots included."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from tests.support.browser import Shown

__all__ = ["CONTRAST_ONLY", "serious"]

CONTRAST_ONLY = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": ["color-contrast"]}}
"""What another theme can change."""

ALL = {"resultTypes": ["violations"], "rules": {"region": {"enabled": False}}}
"""That all content is in landmarks is a moderate demand, and takes longest."""

KNOWN = ("noUi-handle", "bk-spin-btn")
"""Parts of Bokeh that cannot get a name: the handle of a slider, and the arrows of a number field, which has one."""

AXE = Axe()


def serious(shown: Shown, *, theme: str = "dark") -> list[str]:
    """Return what is serious or critical, each with the places where it is.

    Args:
        shown: the page.
        theme: in dark all rules are checked, in light those that depend on colors.
    """
    found = AXE.run(shown.page, options=ALL if theme == "dark" else CONTRAST_ONLY).response["violations"]
    faults = []
    for one in found:
        nodes = [str(node["html"])[:120] for node in one["nodes"]]
        unknown = [node for node in nodes if not any(part in node for part in KNOWN)]
        if unknown and one["impact"] in ("serious", "critical"):
            faults.append(f"{one['impact']}: {one['help']}: {unknown[:5]}")
    return faults
