"""All errors that snakemap raises on purpose, with messages that a beamline scientist can act on.

Each class has the HTTP status and the error code of the API. Messages never say whether something outside the data
root exists, and never contain a password.
"""


class SnakemapError(Exception):
    """Base class; ``status`` is the HTTP status and ``code`` the machine-readable name."""

    status = 500
    code = "error"
    retry_after_s: int | None = None
    """Seconds after which a retry may succeed; None when unknown."""
    ready: int | None = None
    """Number of readable points before the first unreadable one; None when unknown."""


class SettingsError(SnakemapError):
    """A setting is invalid; the message names it and the remedy."""

    status = 500
    code = "settings"


class DocumentError(SnakemapError):
    """A message is not a valid document; it is logged, counted and ignored."""

    status = 422
    code = "document"


class CursorError(SnakemapError):
    """A value is not a cursor, which is the id of an entry of the stream."""

    status = 422
    code = "cursor"


class CursorGone(CursorError):
    """Documents after a cursor have left the store, so a reader cannot continue without a gap."""

    status = 410
    code = "cursor_gone"


class GeometryError(SnakemapError):
    """A scan's shape, snaking or extents contradict themselves or are out of bounds."""

    status = 422
    code = "geometry"


class RoiError(SnakemapError):
    """A region of interest is empty, not a rectangle, or lies outside the frame."""

    status = 422
    code = "roi"


class FrameError(SnakemapError):
    """A frame is not what its descriptor promised: another shape, or a dtype that cannot be summed."""

    status = 422
    code = "frame"


class FileRefused(SnakemapError):
    """The file, or something it points to, lies outside the data root or is not a plain file."""

    status = 403
    code = "file_refused"


class FileNotReady(SnakemapError):
    """A file is missing, locked, or shorter than announced; a retry may help for a bounded time."""

    status = 503
    code = "file_not_ready"


class FileMissing(FileNotReady):
    """The data root has no such file (yet)."""

    status = 404
    code = "file_missing"


class FileBroken(SnakemapError):
    """A file is not HDF5, truncated, shrunk, or crashed or blocked the reader; a retry does not help."""

    status = 422
    code = "file_broken"


class FileReplaced(FileBroken):
    """A file was replaced, rewritten, or truncated after it was read."""

    code = "file_replaced"


class NotThere(SnakemapError):
    """The data root, a file, or a drawing has nothing of that name."""

    status = 404
    code = "not_there"


class WrongKind(SnakemapError):
    """A node has another kind than requested, or its values do not fit the requested format."""

    status = 422
    code = "wrong_kind"


class SelectionError(SnakemapError):
    """A selection is malformed, or does not fit its dataset."""

    status = 422
    code = "selection"


class TooLarge(SnakemapError):
    """A request exceeds the maximum of one answer; a part can be requested."""

    status = 413
    code = "too_large"


class TooBusy(SnakemapError):
    """Too many requests are being served."""

    status = 503
    code = "too_busy"


class StoreUnavailable(SnakemapError):
    """Redis cannot be reached, or refuses the connection."""

    status = 503
    code = "store_unavailable"


class StoreRefuses(StoreUnavailable):
    """Redis can be read, but refuses writes; for example because it is full, or a replica.

    Args:
        message: for users.
        word: Redis' error code, like ``"OOM"``.
    """

    status = 503
    code = "store_refuses"

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word


class StoreRewound(StoreUnavailable):
    """Documents that were read are no longer in Redis: it was emptied, or restored from an earlier state."""

    status = 503
    code = "store_rewound"


class NotTheWorker(StoreUnavailable):
    """Another worker holds the lease of this store, so this one may not write."""

    status = 503
    code = "not_the_worker"


class BrokerUnavailable(SnakemapError):
    """The message broker cannot be reached, or refuses the connection."""

    status = 503
    code = "broker_unavailable"


class SessionRefused(SnakemapError):
    """A browser sent a session id that this server has not issued."""

    status = 403
    code = "session_refused"


class OriginRefused(SnakemapError):
    """A web page of another site tries to read or change data."""

    status = 403
    code = "origin_refused"


class HostRefused(SnakemapError):
    """A request names a host that is not a name of this server."""

    status = 421
    code = "host_refused"


class RunNotFound(SnakemapError):
    """The store has no run of this uid; it may have expired."""

    status = 404
    code = "run_not_found"


class BlueapiUnavailable(SnakemapError):
    """blueapi cannot be reached, does not answer in time, or is not set."""

    status = 503
    code = "blueapi_unavailable"


class NoSimulatedBeamline(SnakemapError):
    """A demonstration was requested at a real beamline."""

    status = 503
    code = "no_simulated_beamline"


class BlueapiFailed(SnakemapError):
    """blueapi answered with an error of its own, or with an invalid answer."""

    status = 502
    code = "blueapi_failed"


class BlueapiForbids(SnakemapError):
    """blueapi requires a token, or the token does not allow this."""

    status = 403
    code = "blueapi_forbids"


class WorkerBusy(SnakemapError):
    """blueapi's worker is not idle, or another start is in progress."""

    status = 409
    code = "worker_busy"


class TransitionRefused(SnakemapError):
    """blueapi's worker cannot change to the requested state."""

    status = 409
    code = "transition_refused"


class PlanNotFound(SnakemapError):
    """blueapi has no such plan, or no such task (any more)."""

    status = 404
    code = "plan_not_found"


class NothingToRepeat(SnakemapError):
    """The plan and parameters of a run are unknown."""

    status = 409
    code = "nothing_to_repeat"


class ParamsRefused(SnakemapError):
    """Parameters of a plan are invalid.

    Args:
        faults: errors by parameter; the empty name stands for all.
    """

    status = 422
    code = "params_refused"

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {fault}" if name else fault for name, fault in faults.items()))
        self.faults = faults


class ReadOnly(SnakemapError):
    """Changes are not allowed (``SNAKEMAP_READ_ONLY``)."""

    status = 403
    code = "read_only"


class ControlHeld(SnakemapError):
    """Another tab holds control."""

    status = 409
    code = "control_held"


class TooOften(SnakemapError):
    """More requests in a minute than allowed."""

    status = 429
    code = "too_often"
    retry_after_s = 60


class ApiUnavailable(SnakemapError):
    """snakemap's API cannot be reached, or does not answer in time."""

    status = 503
    code = "api_unavailable"


class ApiFailed(SnakemapError):
    """The server is not snakemap's API, or another version of it."""

    status = 502
    code = "api_failed"


class StillRunning(SnakemapError, TimeoutError):
    """A run has not ended within a time limit."""

    status = 504
    code = "still_running"


class BeamlineClosed(SnakemapError):
    """A beamline was closed, or its runs are followed in another event loop."""

    status = 409
    code = "beamline_closed"


class RequestRefused(SnakemapError):
    """A request to the API is invalid."""

    status = 422
    code = "invalid_request"


class BodyTooLarge(SnakemapError):
    """A request body is too large."""

    status = 413
    code = "body_too_large"


class BodyTooSlow(SnakemapError):
    """A request body did not arrive in time."""

    status = 408
    code = "body_too_slow"


class TooManyClients(SnakemapError):
    """One address has too many open connections."""

    status = 429
    code = "too_many_clients"
    retry_after_s = 5


class TooManySessions(SnakemapError):
    """One address has too many sessions of the API."""

    status = 429
    code = "too_many_sessions"
    retry_after_s = 60


class Busy(SnakemapError):
    """A limit of the server is reached; a later request may succeed."""

    status = 503
    code = "busy"
    retry_after_s = 5


class SessionNotFound(SnakemapError):
    """The API has no session of this id (any more)."""

    status = 404
    code = "session_not_found"


class FrameNotFound(SnakemapError):
    """A run has no preview frame (any more)."""

    status = 404
    code = "frame_not_found"


def kinds(of: type[SnakemapError] = SnakemapError) -> list[type[SnakemapError]]:
    """Return a class of errors and all its subclasses."""
    return [of, *(kind for direct in of.__subclasses__() for kind in kinds(direct))]
