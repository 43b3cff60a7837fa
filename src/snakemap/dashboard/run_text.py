"""What a page says about a run: its state in the top bar, notes under the maps, units beside their names."""

from __future__ import annotations

from typing import Any

from snakemap.core.raster import Raster
from snakemap.core.run import Run
from snakemap.dashboard.proportions import stretch
from snakemap.dashboard.quantities import unit_text
from snakemap.dashboard.session_context import SessionContext

__all__ = ["channel_titles", "drawn_raster", "run_notes", "run_remark", "run_title"]


def run_title(run: Run) -> str:
    """Return plan and scan number of a run."""
    name, scan_id = str(run.start.get("plan_name") or "run"), run.start.get("scan_id")
    return f"{name} · {scan_id}" if scan_id is not None else name


def drawn_raster(session: SessionContext) -> Raster:
    """Return the raster that is described: that of the run, or the typed one."""
    typed = session.choices.shape is not None
    return session.pipeline.picture.raster if typed else session.pipeline.maps.raster


def channel_titles(session: SessionContext, run: Run) -> dict[str, str]:
    """Return the text beside the name of each map: its unit, or a sum of the detector that differs."""
    pipeline = session.pipeline
    units = {channel: unit_text(unit) for channel, unit in pipeline.source.units.items()}
    marks = {one.channel: one.short for one in run.cross_checks(pipeline.base)}
    titles = {channel: f"({unit})" for channel, unit in units.items() if unit}
    titles |= dict.fromkeys(session.approximate, "≈")
    return titles | {channel: f"⚠ {mark}" for channel, mark in marks.items() if mark}


def run_remark(session: SessionContext) -> str:
    """Return the remark that is no warning: how a path was drawn, and what a log scale cannot show."""
    on_path = session.pipeline.maps.raster.path is not None
    path = drawn_raster(session).note.strip() if on_path else ""
    return " ".join(filter(None, (path, _stretch_remark(session), _log_remark(session))))


def run_notes(session: SessionContext, run: Run) -> str:
    """Return all notes on a run in one line."""
    pipeline = session.pipeline
    notes = [
        drawn_raster(session).note,
        _stretch_remark(session),
        _log_remark(session),
        _limits_note(session),
        run.reason if run.status != "complete" or run.filled else "",
    ]
    if outside := pipeline.base.maps.out_of_range:
        raster = pipeline.maps.raster
        notes.append(f"{outside:,} points lie outside the {raster.rows} x {raster.columns} shape.")
    if session.approximate:
        names = ", ".join(session.approximate)
        notes.append(f"{names}: approximate at the edges; exact values are being read from the file.")
    notes += [f"{mark}." for one in run.cross_checks(pipeline.base) if (mark := one.described)]
    summaries: list[dict[str, Any]] = session.live.summaries[:200]
    troubles = [str(one.get("trouble") or "") for one in summaries if one["uid"] == run.uid]
    notes += [remark for remark in run.remarks if not any(remark in trouble for trouble in troubles)]
    notes += troubles
    return " ".join(dict.fromkeys(note.strip() for note in notes if note.strip()))


def _stretch_remark(session: SessionContext) -> str:
    """Return which axis is stretched although distances could be true."""
    return stretch(session.choices.aspect, session.pipeline.picture.raster)


def _log_remark(session: SessionContext) -> str:
    """Return a remark on pixels that a log scale cannot show."""
    maps = session.pipeline.maps
    if session.choices.scale != "log" or not any(maps.summary(k).minimum <= 0 for k in range(len(maps.channels))):
        return ""
    return "Gray pixels are 0 or negative: they have no logarithm."


def _limits_note(session: SessionContext) -> str:
    """Return why limits that are set by hand are not used."""
    refusal = session.pipeline.refusal
    return f"The color limits set by hand are not used: {refusal}." if refusal else ""
