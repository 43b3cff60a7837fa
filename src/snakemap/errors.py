"""Every error that snakemap raises on purpose: what went wrong, in words a beamline scientist can act on.

Each class carries the HTTP status and the short code that the API answers with. Messages never say
whether something outside the data root exists, and never hold a password.
"""


class SnakemapError(Exception):
    """The base of them all; ``status`` is the HTTP status and ``code`` the machine-readable name."""

    status = 500
    code = "error"
    retry_after_s: int | None = None
    """After how many seconds another try may have another answer; None where nobody knows."""
    ready: int | None = None
    """Of points that were to be read: how many come before the first that cannot be; None where that is not known."""


class SettingsError(SnakemapError):
    """A setting cannot be used as it is; the message names it and says how to mend it."""

    status = 500
    code = "settings"


class DocumentError(SnakemapError):
    """What arrived is not a usable document; it is logged, counted and left out, and nothing else is lost."""

    status = 422
    code = "document"


class CursorError(SnakemapError):
    """What was given as a cursor is none; a cursor is the id of an entry of the store's stream."""

    status = 422
    code = "cursor"


class CursorGone(CursorError):
    """Documents after a cursor have left the store, so that nobody can go on from there without a gap."""

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
    """Not there yet, locked, or shorter than announced: worth another try for a bounded time."""

    status = 503
    code = "file_not_ready"


class FileMissing(FileNotReady):
    """Nothing of that name is in the data root, yet or any more."""

    status = 404
    code = "file_missing"


class FileBroken(SnakemapError):
    """Not HDF5, truncated, shrunk, or it crashed or hung the reader: trying again will not help."""

    status = 422
    code = "file_broken"


class FileReplaced(FileBroken):
    """A file is not the one any more that was read before: replaced, rewritten, or cut below what was read."""

    code = "file_replaced"


class NotThere(SnakemapError):
    """Nothing of that name is where it was looked for: in the data root, in a file, or among what is drawn."""

    status = 404
    code = "not_there"


class WrongKind(SnakemapError):
    """A node is of another kind than was asked for, or its values cannot be put into the form that was asked for."""

    status = 422
    code = "wrong_kind"


class SelectionError(SnakemapError):
    """A selection is not written as one, or does not fit its dataset."""

    status = 422
    code = "selection"


class TooLarge(SnakemapError):
    """More was asked for than is answered at one time; a part of it may be had."""

    status = 413
    code = "too_large"


class TooBusy(SnakemapError):
    """As many are being served as there is room for."""

    status = 503
    code = "too_busy"


class StoreUnavailable(SnakemapError):
    """Redis cannot be reached, or refuses us."""

    status = 503
    code = "store_unavailable"


class StoreRefuses(StoreUnavailable):
    """Redis answers, and can be read, but refuses to store anything: it is full, say, or a replica.

    Args:
        message: the sentence for people.
        word: the code word that Redis answered with, like ``"OOM"``.
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
    """Another worker has the lease of this store, so that nothing of this one is stored."""

    status = 503
    code = "not_the_worker"


class BrokerUnavailable(SnakemapError):
    """The message broker cannot be reached, or refuses us."""

    status = 503
    code = "broker_unavailable"


class SessionRefused(SnakemapError):
    """A browser came with a session id that this server has not given it."""

    status = 403
    code = "session_refused"


class OriginRefused(SnakemapError):
    """A web page that is not ours wants to read along."""

    status = 403
    code = "origin_refused"


class HostRefused(SnakemapError):
    """A request names a host that is no name of this server."""

    status = 421
    code = "host_refused"


class RunNotFound(SnakemapError):
    """No run of that uid is in the store; it may have expired."""

    status = 404
    code = "run_not_found"


class BlueapiUnavailable(SnakemapError):
    """blueapi cannot be reached, does not answer in time, or no address of it is set."""

    status = 503
    code = "blueapi_unavailable"


class NoSimulatedBeamline(SnakemapError):
    """A demonstration was asked for where the beamline is a real one."""

    status = 503
    code = "no_simulated_beamline"


class BlueapiFailed(SnakemapError):
    """blueapi answered with an error of its own, or with something that is no answer."""

    status = 502
    code = "blueapi_failed"


class BlueapiForbids(SnakemapError):
    """blueapi wants a token, or the one it was given does not allow this."""

    status = 403
    code = "blueapi_forbids"


class WorkerBusy(SnakemapError):
    """blueapi's worker is not idle, or another request to start something is on its way."""

    status = 409
    code = "worker_busy"


class TransitionRefused(SnakemapError):
    """blueapi's worker cannot go from the state it is in to the one that was asked for."""

    status = 409
    code = "transition_refused"


class PlanNotFound(SnakemapError):
    """blueapi knows no such plan, or no such task (any more)."""

    status = 404
    code = "plan_not_found"


class NothingToRepeat(SnakemapError):
    """Nobody knows what a run was started with: neither blueapi, nor the run, nor what was kept at the time."""

    status = 409
    code = "nothing_to_repeat"


class ParamsRefused(SnakemapError):
    """Parameters of a plan that cannot be used.

    Args:
        faults: what is wrong, by the name of the parameter; the empty name is the whole.
    """

    status = 422
    code = "params_refused"

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {fault}" if name else fault for name, fault in faults.items()))
        self.faults = faults


class ReadOnly(SnakemapError):
    """This snakemap is set to look, not to touch."""

    status = 403
    code = "read_only"


class ControlHeld(SnakemapError):
    """Another tab holds control."""

    status = 409
    code = "control_held"


class TooOften(SnakemapError):
    """More requests than one may make in a minute."""

    status = 429
    code = "too_often"
    retry_after_s = 60


class ApiUnavailable(SnakemapError):
    """snakemap's API cannot be reached, or does not answer in time."""

    status = 503
    code = "api_unavailable"


class ApiFailed(SnakemapError):
    """What answers is not snakemap's API, or not one of this version."""

    status = 502
    code = "api_failed"


class StillRunning(SnakemapError, TimeoutError):
    """A run has not ended within the time that was waited for it."""

    status = 504
    code = "still_running"


class BeamlineClosed(SnakemapError):
    """A beamline that was closed shows nothing any more, or its runs are followed by another event loop."""

    status = 409
    code = "beamline_closed"


class RequestRefused(SnakemapError):
    """A request to the API that cannot be used as it is."""

    status = 422
    code = "invalid_request"


class BodyTooLarge(SnakemapError):
    """A request whose body has more bytes than are read."""

    status = 413
    code = "body_too_large"


class BodyTooSlow(SnakemapError):
    """A request whose body does not come."""

    status = 408
    code = "body_too_slow"


class TooManyClients(SnakemapError):
    """One address has more connections open than it may."""

    status = 429
    code = "too_many_clients"
    retry_after_s = 5


class TooManySessions(SnakemapError):
    """One address has more sessions of the API than it may."""

    status = 429
    code = "too_many_sessions"
    retry_after_s = 60


class Busy(SnakemapError):
    """All that there is to give has been given; later there may be some again."""

    status = 503
    code = "busy"
    retry_after_s = 5


class SessionNotFound(SnakemapError):
    """The API has no session of that id (any more)."""

    status = 404
    code = "session_not_found"


class FrameNotFound(SnakemapError):
    """A run has no frame that could be shown (any more)."""

    status = 404
    code = "frame_not_found"


def kinds(of: type[SnakemapError] = SnakemapError) -> list[type[SnakemapError]]:
    """Return every class of errors, itself among them."""
    return [of, *(kind for direct in of.__subclasses__() for kind in kinds(direct))]
