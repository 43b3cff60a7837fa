"""Checks of the machine, the settings and the services, each with a remedy; every setting has a check."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import typer

from snakemap.doctor import blueapi_checks, broker_checks, file_checks, machine_checks, network_checks, redis_checks
from snakemap.doctor.finding import Check, CheckContext, Finding, Found, Mark
from snakemap.doctor.report import as_json, columns, summary
from snakemap.errors import SettingsError
from snakemap.settings import Settings, load

__all__ = ["CHECKS", "OWN_CHECKS", "Finding", "Mark", "doctor", "findings", "with_all_settings"]

PREFIX = "SNAKEMAP_"
MACHINE, SETTINGS, STORE, BROKER = "This machine", "Settings", "Redis and the worker", "Broker"
FILES, BEAMLINE, SERVING = "Files", "blueapi and maps", "Pages and API"
PROBLEM = re.compile(r"; (?=SNAKEMAP_[A-Z_]+: )")

OWN_CHECKS = (
    Check(MACHINE, "Python", (), machine_checks.python),
    Check(MACHINE, "packages", (), machine_checks.packages),
    Check(MACHINE, "pages", (), machine_checks.pages),
    Check(MACHINE, "state", ("state_dir",), machine_checks.state_dir),
    Check(MACHINE, "open files", ("max_sessions",), machine_checks.open_files),
    Check(MACHINE, "clock", (), machine_checks.clock),
    Check(MACHINE, "leftovers", (), machine_checks.leftovers),
    Check(STORE, "Redis", ("redis_url",), redis_checks.redis),
    Check(STORE, "capacity", ("documents_max",), redis_checks.capacity),
    Check(STORE, "retention", ("keep_days",), redis_checks.keep_days),
    Check(STORE, "silence", ("silence_s",), redis_checks.silence),
    Check(STORE, "worker", (), redis_checks.worker),
    Check(BROKER, "source", ("source_url",), broker_checks.source),
    Check(BROKER, "broker", ("stomp_url",), broker_checks.broker),
    Check(BROKER, "destination", ("stomp_destination",), broker_checks.destination),
    Check(BROKER, "queue", ("stomp_subscription",), broker_checks.subscription),
    Check(FILES, "data root", ("data_root",), file_checks.data_root),
    Check(FILES, "path map", ("path_map",), file_checks.path_map),
    Check(FILES, "locks", ("file_locking",), file_checks.file_locking),
    Check(FILES, "timeout", ("file_timeout_s",), file_checks.file_timeout),
    Check(FILES, "log", ("log_dir", "log_max_gb"), file_checks.log_dir),
    Check(FILES, "blocks", ("blocks_dir", "blocks_max_gb"), file_checks.blocks),
    Check(FILES, "log page", ("log_rows",), file_checks.log_rows),
    Check(FILES, "downloads", ("download_max_mb",), file_checks.downloads),
    Check(FILES, "Dask", ("dask",), file_checks.dask),
    Check(BEAMLINE, "blueapi", ("blueapi_url",), blueapi_checks.blueapi),
    Check(BEAMLINE, "token", ("blueapi_token", "blueapi_token_header"), blueapi_checks.token),
    Check(BEAMLINE, "session", ("instrument_session",), blueapi_checks.instrument_session),
    Check(BEAMLINE, "control", ("read_only", "baton", "pausing", "actions_per_minute"), blueapi_checks.control),
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
"""Checks of what a value refers to."""


def _as_set(name: str) -> Callable[[CheckContext], Iterator[Found]]:
    """Return a check that shows the value of a setting; of a secret, whether it is set."""

    def look(context: CheckContext) -> Iterator[Found]:
        value = getattr(context.settings, name)
        shown = str(value) if Settings.model_fields[name].repr else "set"
        yield shown if value not in (None, "", ()) else "not set"

    return look


def with_all_settings(checks: Sequence[Check], names: Iterable[str]) -> tuple[Check, ...]:
    """Return checks, and one for each setting that none of them covers: it has been read, and is shown."""
    covered = {name for check in checks for name in check.settings}
    rest = [Check(SETTINGS, name.replace("_", " "), (name,), _as_set(name)) for name in names if name not in covered]
    return (*checks, *rest)


CHECKS = with_all_settings(OWN_CHECKS, Settings.model_fields)
"""All checks, in the order of the report; each setting has one."""

NAME_WIDTH = max(len(check.name) for check in CHECKS)


def doctor(*, as_program: bool = False) -> int:
    """Print every finding: in columns on a terminal, else a line each.

    Args:
        as_program: whether to print JSON.

    Returns:
        The exit code: 0, or 1 when something is wrong.
    """
    done: list[Finding] = []
    noted = _noting(findings(), done)
    if as_program:
        lines: Iterable[str] = [as_json(noted)]
    elif sys.stdout.isatty():
        lines = columns(noted, name_width=NAME_WIDTH)
    else:
        lines = map(str, noted)
    for line in lines:
        typer.echo(line)
    if not as_program:
        typer.echo(summary(done))
    return 1 if any(finding.mark is Mark.WRONG for finding in done) else 0


def findings() -> Iterator[Finding]:
    """Yield the findings of all checks in order; a check that fails does not affect the others."""
    yield from unknown_settings(name for name in os.environ if name.startswith(PREFIX))
    try:
        context = CheckContext(load())
    except SettingsError as error:
        yield from map(_unusable, PROBLEM.split(str(error)))
        return
    for check in CHECKS:
        yield from check.findings(context)


def unknown_settings(names: Iterable[str]) -> Iterator[Finding]:
    """Yield findings about variables with the prefix that are not settings, with the closest setting."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in sorted(set(names) - set(known)):
        alike = difflib.get_close_matches(name, known, n=1)
        text = f"is no setting{f'; is {alike[0]} meant?' if alike else '; unset it'}"
        yield Finding(Mark.WRONG, name, text, group=SETTINGS)


def _unusable(problem: str) -> Finding:
    """Return the finding about a setting that cannot be read, with its description."""
    variable, _, text = problem.partition(": ")
    name = variable.removeprefix(PREFIX).lower()
    field = Settings.model_fields.get(name)
    meaning = f". It is: {field.description}" if field is not None else ""
    return Finding(Mark.WRONG, variable, f"{text}{meaning}", group=SETTINGS)


def _noting(findings: Iterable[Finding], done: list[Finding]) -> Iterator[Finding]:
    """Yield findings, and append them to a list."""
    for finding in findings:
        done.append(finding)
        yield finding
