"""Checks of everything snakemap needs, each with what to do when it fails; every setting has one."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator

import typer

from snakemap.doctor import blueapi_checks, broker_checks, file_checks, machine_checks, network_checks, redis_checks
from snakemap.doctor.finding import Check, CheckContext, Finding, Mark
from snakemap.doctor.report import as_json, columns, summary
from snakemap.errors import SettingsError
from snakemap.settings import Settings, load

__all__ = ["CHECKS", "Finding", "Mark", "doctor", "findings"]

PREFIX = "SNAKEMAP_"
MACHINE, SETTINGS, STORE, BROKER = "This machine", "Settings", "Redis and the worker", "Broker"
FILES, BEAMLINE, SERVING = "Files", "blueapi and maps", "Pages and API"
PROBLEM = re.compile(r"; (?=SNAKEMAP_[A-Z_]+: )")

CHECKS = (
    Check(MACHINE, "Python", (), machine_checks.python),
    Check(MACHINE, "packages", (), machine_checks.packages),
    Check(MACHINE, "pages", (), machine_checks.pages),
    Check(MACHINE, "state", ("state_dir",), machine_checks.state_dir),
    Check(MACHINE, "open files", ("max_sessions",), machine_checks.open_files),
    Check(MACHINE, "clock", (), machine_checks.clock),
    Check(MACHINE, "leftovers", (), machine_checks.leftovers),
    Check(STORE, "Redis", ("redis_url",), redis_checks.redis),
    Check(STORE, "room", ("documents_max",), redis_checks.room),
    Check(STORE, "keeping", ("keep_days",), redis_checks.keep_days),
    Check(STORE, "silence", ("silence_s",), redis_checks.silence),
    Check(STORE, "worker", (), redis_checks.worker),
    Check(BROKER, "broker", ("stomp_url",), broker_checks.broker),
    Check(BROKER, "destination", ("stomp_destination",), broker_checks.destination),
    Check(BROKER, "queue", ("stomp_subscription",), broker_checks.subscription),
    Check(FILES, "data root", ("data_root",), file_checks.data_root),
    Check(FILES, "path map", ("path_map",), file_checks.path_map),
    Check(FILES, "locks", ("file_locking",), file_checks.file_locking),
    Check(FILES, "patience", ("file_timeout_s",), file_checks.file_timeout),
    Check(FILES, "log", ("log_dir", "log_max_gb"), file_checks.log_dir),
    Check(FILES, "log page", ("log_rows",), file_checks.log_rows),
    Check(FILES, "downloads", ("download_max_mb",), file_checks.downloads),
    Check(FILES, "Dask", ("dask",), file_checks.dask),
    Check(BEAMLINE, "blueapi", ("blueapi_url",), blueapi_checks.blueapi),
    Check(BEAMLINE, "token", ("blueapi_token", "blueapi_token_header"), blueapi_checks.token),
    Check(BEAMLINE, "visit", ("instrument_session",), blueapi_checks.visit),
    Check(BEAMLINE, "control", ("read_only", "baton", "pausing", "actions_per_minute"), blueapi_checks.acting),
    Check(BEAMLINE, "grid", ("grid", "snake"), blueapi_checks.geometry),
    Check(BEAMLINE, "ROIs", ("rois",), blueapi_checks.rois),
    Check(SERVING, "address", ("host",), network_checks.host),
    Check(SERVING, "origins", ("origins",), network_checks.origins),
    Check(SERVING, "port", ("port",), network_checks.port),
    Check(SERVING, "API port", ("api_port",), network_checks.api_port),
    Check(SERVING, "proxy", ("api_root_path", "proxied"), network_checks.proxy),
    Check(SERVING, "API requests", ("api_requests_per_minute",), network_checks.api_requests),
    Check(SERVING, "key", ("secret_key",), network_checks.secret_key),
)
"""Everything that is looked at, in the order in which it is told."""

NAME_WIDTH = max(len(check.name) for check in CHECKS)


def doctor(*, as_program: bool = False) -> int:
    """Tells every finding: in columns on a terminal, as they come, else a line each.

    Args:
        as_program: whether it is told as JSON.

    Returns:
        The exit code: 0, or 1 when something is wrong.
    """
    told: list[Finding] = []
    noted = _noting(findings(), told)
    if as_program:
        lines: Iterable[str] = [as_json(noted)]
    elif sys.stdout.isatty():
        lines = columns(noted, name_width=NAME_WIDTH)
    else:
        lines = map(str, noted)
    for line in lines:
        typer.echo(line)
    if not as_program:
        typer.echo(summary(told))
    return 1 if any(finding.mark is Mark.WRONG for finding in told) else 0


def findings() -> Iterator[Finding]:
    """Yield all checks, one after the other; each that fails leaves the others as they are."""
    yield from strangers(name for name in os.environ if name.startswith(PREFIX))
    try:
        scene = CheckContext(load())
    except SettingsError as error:
        yield from map(_unusable, PROBLEM.split(str(error)))
        return
    for check in CHECKS:
        yield from check.findings(scene)


def strangers(names: Iterable[str]) -> Iterator[Finding]:
    """Yield variables that look like settings and are none, perhaps for a slip of the pen."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in sorted(set(names) - set(known)):
        alike = difflib.get_close_matches(name, known, n=1)
        text = f"is no setting{f'; is {alike[0]} meant?' if alike else '; unset it'}"
        yield Finding(Mark.WRONG, name, text, group=SETTINGS)


def _unusable(problem: str) -> Finding:
    """Return a setting that cannot be read, with what it is to be."""
    variable, _, text = problem.partition(": ")
    name = variable.removeprefix(PREFIX).lower()
    field = Settings.model_fields.get(name)
    meaning = f". It is: {field.description}" if field is not None else ""
    return Finding(Mark.WRONG, variable, f"{text}{meaning}", group=SETTINGS)


def _noting(findings: Iterable[Finding], told: list[Finding]) -> Iterator[Finding]:
    """Pass findings on and keeps them."""
    for finding in findings:
        told.append(finding)
        yield finding
