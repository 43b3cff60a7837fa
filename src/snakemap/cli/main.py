"""The command line, where settings are read and programs are started."""

from __future__ import annotations

import enum
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from snakemap import __version__, logs
from snakemap.errors import SettingsError, SnakemapError
from snakemap.settings import load

__all__ = ["app", "main"]

app = typer.Typer(
    name="snakemap",
    help="Live maps of a beamline scan. Settings are environment variables, SNAKEMAP_*; docs/deploying.md lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FAILED, USAGE = 1, 2


class LogLevel(enum.StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


QUIET = {"demo": LogLevel.WARNING, "listen": LogLevel.WARNING, "doctor": LogLevel.ERROR}
"""Log levels of commands with other output on the terminal."""


class Mode(enum.StrEnum):
    """Scans of the demo."""

    STEP = "step"
    FLY = "fly"
    BOTH = "both"


class ScanMode(enum.StrEnum):
    """Motion of one scan."""

    STEP = "step"
    FLY = "fly"


class Ending(enum.StrEnum):
    """End of a simulated scan."""

    COMPLETE = "complete"
    ABORT = "abort"
    FAIL = "fail"
    STOP = "stop"
    LOSE = "lose"


class PathKind(enum.StrEnum):
    """Path of a simulated scan."""

    GRID = "grid"
    SPIRAL = "spiral"
    ELLIPSE = "ellipse"


class GeometryFormat(enum.StrEnum):
    """Format of the geometry in the start document of a simulated scan."""

    SCANSPEC = "scanspec"
    SHAPE = "shape"
    GRID = "grid"
    REPR = "repr"
    NOTHING = "nothing"


class Speed(enum.StrEnum):
    """Named speeds of a replay."""

    REAL = "real"
    MAX = "max"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"snakemap {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="How much to log, to standard error. Default: info, or less for a terminal.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Set logging up for every command."""
    context.obj = log_level or QUIET.get(context.invoked_subcommand or "", LogLevel.INFO)
    level = logging.getLevelNamesMapping()[context.obj.upper()]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
    logs.install()
    for noisy in ("httpx", "httpcore", "numba", "asyncio", "bluesky"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, level))


Shape = Annotated[str, typer.Option(help="Points, slow by fast, like 60x60.")]
FrameShape = Annotated[str, typer.Option(help="Rows and columns of the camera, like 1216x1936.")]
Rate = Annotated[float, typer.Option(min=0, help="Points a second; 0 is as fast as possible.")]


@app.command()
def demo(
    context: typer.Context,
    shape: Shape = "60x60",
    rate: Rate = 20.0,
    mode: Annotated[Mode, typer.Option(help="Kind of scan; both take turns.")] = Mode.BOTH,
    frame_shape: FrameShape = "1216x1936",
    once: Annotated[bool, typer.Option("--once", help="One scan, and then leave it on the screen.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the page. Default: SNAKEMAP_PORT, or a free one.")
    ] = None,
) -> None:
    """Run everything on this machine: Redis, a simulated beamline, the worker, the API and the dashboard."""
    from snakemap.cli.demo import Demo, DemoOptions

    options = DemoOptions(
        shape=shape,
        rate_hz=rate,
        mode=mode.value,
        frame_shape=frame_shape,
        once=once,
        port=port,
        log_level=context.obj.value,
    )
    _exit(lambda: Demo(load(), options).run())


@app.command()
def serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="Default: SNAKEMAP_PORT.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: SNAKEMAP_HOST.")] = None,
    dev: Annotated[bool, typer.Option("--dev", help="Reload pages when their code changes.")] = False,
) -> None:
    """Serve the dashboard and its panes; `panel serve` with signed sessions."""
    from snakemap.cli.serve import serve as run

    _exit(lambda: run(load(port=port, host=host), dev=dev, log_level=context.obj.value))


@app.command()
def ingest() -> None:
    """Run the worker: listen to the broker, read frames, keep the maps in the store."""
    from snakemap.ingest import run

    _exit(lambda: run(load()))


@app.command()
def api(
    port: Annotated[int | None, typer.Option(help="Default: SNAKEMAP_API_PORT.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: SNAKEMAP_HOST.")] = None,
) -> None:
    """Serve the REST and WebSocket API."""
    from snakemap.api import run

    _exit(lambda: run(load(api_port=port, host=host)))


@app.command()
def simulate(
    shape: Shape = "60x60",
    rate: Rate = 20.0,
    mode: Annotated[ScanMode, typer.Option(help="Stop at every point, or never.")] = ScanMode.STEP,
    frame_shape: FrameShape = "1216x1936",
    dtype: Annotated[str, typer.Option(help="uint8, uint16, int32 or float32.")] = "uint8",
    gzip: Annotated[int, typer.Option(min=0, max=9, help="Compression of the file; 0 is none.")] = 1,
    snake: Annotated[bool, typer.Option(help="Whether every second row runs back.")] = True,
    path: Annotated[
        PathKind, typer.Option(help="Path of the scan; a spiral or ellipse fills the shape's rectangle.")
    ] = PathKind.GRID,
    tells: Annotated[
        GeometryFormat, typer.Option(help="Format of the geometry in the start document.")
    ] = GeometryFormat.SCANSPEC,
    readbacks: Annotated[bool, typer.Option(help="Whether events hold the stage's positions.")] = True,
    cameras: Annotated[int, typer.Option(min=1, max=2, help="The second sees the sample mirrored.")] = 1,
    color: Annotated[bool, typer.Option("--color", help="Color frames.")] = False,
    positions_file: Annotated[
        bool, typer.Option("--positions-file", help="Write the positions of a fly scan to a second file.")
    ] = False,
    baseline: Annotated[bool, typer.Option("--baseline", help="A baseline stream around the scan.")] = False,
    ending: Annotated[Ending, typer.Option(help="How the scan ends.")] = Ending.COMPLETE,
    after: Annotated[int | None, typer.Option(help="Points before it ends early. Default: half.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    repeat: Annotated[bool, typer.Option("--repeat", help="Scan after scan, until interrupted.")] = False,
    rest: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve blueapi's REST API on this port, and scan on request."),
    ] = None,
    disk_limit_gb: Annotated[float, typer.Option(help="Limit of simulated files; the oldest are removed.")] = 4.0,
) -> None:
    """Run a simulated beamline: a real RunEngine, a real growing HDF5 file, blueapi's messages."""
    from snakemap.simulator.command import run
    from snakemap.synthetic.request import ScanRequest, shape_from_text

    def work() -> int:
        request = ScanRequest(
            shape=shape_from_text(shape),
            rate_hz=rate,
            mode=mode.value,
            frame_shape=shape_from_text(frame_shape),
            dtype=dtype,  # pyright: ignore[reportArgumentType] - the request says what it may be
            gzip=gzip,
            snake=snake,
            ending=ending.value,
            ending_after=after,
            seed=seed,
            path=path.value,
            tells=tells.value,
            readbacks=readbacks,
            cameras=cameras,
            color=color,
            positions_file=positions_file,
            baseline=baseline,
        )
        return run(load(), request, repeat=repeat, disk_limit_bytes=int(disk_limit_gb * 1e9), rest=rest)

    _exit(work)


@app.command()
def replay(
    file: Annotated[
        list[Path],
        typer.Argument(help="Recordings, one received message a line. One part of an event log file stands for all."),
    ],
    speed: Annotated[str, typer.Option(help="real, max, or how many times faster, like 10.")] = Speed.REAL.value,
    new_uid: Annotated[
        bool,
        typer.Option("--new-uid", help="Replay as new runs, with new uids and times, and without a task."),
    ] = False,
) -> None:
    """Send a recording to the broker, or to the store where there is no broker."""
    from snakemap.cli.replay import replay as run

    _exit(lambda: run(load(), file, speed=_speed(speed), new_uid=new_uid))


@app.command()
def listen(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    after: Annotated[
        str | None,
        typer.Option(help="Cursor to begin after; 0 is everything. Default: now, or 0 with --run or --once."),
    ] = None,
    run: Annotated[str, typer.Option(metavar="UID|latest", help="Only this run.")] = "",
    name: Annotated[
        list[str] | None, typer.Option(help="Only these documents, like start; may be given several times.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after this number of entries.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the last stored entry.")] = False,
) -> None:
    """Print entries of the store as they arrive."""
    from snakemap.cli.listen import ListenRequest
    from snakemap.cli.listen import listen as work
    from snakemap.live.event_filter import EventFilter

    wanted = ListenRequest(EventFilter(run, frozenset(name or ())), after=after, count=count, once=once)
    _exit(lambda: work(load(), wanted, as_json=json))


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Check every setting and everything snakemap needs, and say how to correct it."""
    from snakemap.doctor import doctor as run

    _exit(lambda: run(as_program=json))


def _speed(text: str) -> float:
    """Return the speed of a replay, 1 for the original one; infinite for "max".

    Raises:
        SettingsError: when it is neither a name nor a number above 0.
    """
    if text == Speed.REAL.value:
        return 1.0
    if text == Speed.MAX.value:
        return float("inf")
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise SettingsError(f"--speed {text!r} is not real, max, or a number above 0")
    return speed


def _exit(work: Callable[[], Any]) -> None:
    """Exit with the code of a function; errors of snakemap are printed in one line."""
    try:
        code = work()
    except SettingsError as error:
        typer.echo(f"snakemap: {error}", err=True)
        raise typer.Exit(USAGE) from error
    except SnakemapError as error:
        typer.echo(f"snakemap: {error}", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(int(code or 0))


def main() -> None:
    """The entry point of the `snakemap` command."""
    app()


if __name__ == "__main__":
    main()
