"""The simulated beamline as a program; it publishes to the document source if one is set, else into the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snakemap.files.private import make_private
from snakemap.settings import Settings
from snakemap.simulator.beamline import SimulatedBeamline, simulate
from snakemap.simulator.blueapi_messages import Sink
from snakemap.simulator.blueapi_rest import serve
from snakemap.store.embedded_redis import EmbeddedRedis
from snakemap.store.sink import StoreSink
from snakemap.synthetic.request import ScanRequest
from snakemap.transport.sources import open_publisher

__all__ = ["run"]


def run(
    settings: Settings, request: ScanRequest, *, repeat: bool, disk_limit_bytes: int, rest: int | None = None
) -> int:
    """Scan once, or repeatedly until a signal comes, or on requests to its REST API.

    Args:
        settings: of the process.
        request: the scan.
        repeat: scan until a signal comes.
        disk_limit_bytes: maximum size of all simulated files.
        rest: port of blueapi's REST API, instead of scanning.

    Returns:
        The exit code: 0, or 1 if a scan did not end as requested, or 128 plus the signal's number.
    """
    if settings.data_root is None:
        make_private(settings.state_dir.expanduser())
        make_private(settings.root)
    else:
        settings.root.mkdir(parents=True, exist_ok=True)
    with _sink_of(settings) as sink:
        if rest is not None:
            return serve(
                sink,
                lambda sink: SimulatedBeamline(settings.root, sink, disk_limit_bytes=disk_limit_bytes),
                host="127.0.0.1",
                port=rest,
            )
        return simulate(
            request,
            data_dir=settings.root,
            sink=sink,
            repeat=repeat,
            disk_limit_bytes=disk_limit_bytes,
            instrument_session=settings.instrument_session or "cm12345-1",
        )


@contextmanager
def _sink_of(settings: Settings) -> Iterator[Sink]:
    """Open the document source if one is set, else the store, which is a private Redis if none is set."""
    if (publisher := open_publisher(settings)) is not None:
        with publisher as source:
            yield source
    elif settings.redis_url:
        with StoreSink(settings.redis_url) as store:
            yield store
    else:
        with EmbeddedRedis(settings.state_dir) as url, StoreSink(url) as store:
            yield store
