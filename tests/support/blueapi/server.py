"""A real blueapi with the beamline of :mod:`bluelab`, in an environment of its own; it can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
from tests.support.http_requests import get
from tests.support.patience import eventually
from tests.support.rabbitmq import free_port
from tests.support.stack import die_with_parent

__all__ = ["PROGRAM", "BlueapiServer"]

HERE = Path(__file__).parent
PROGRAM = Path(os.environ.get("BLUEAPI_VENV", HERE.parents[2] / ".venv-blueapi")) / "bin" / "blueapi"
START_TIMEOUT_S = 60.0

CONFIGURATION = """\
api: {{url: "http://127.0.0.1:{port}/"}}
env:
  sources:
    - {{kind: deviceManager, module: bluelab}}
    - {{kind: planFunctions, module: bluelab}}
stomp: {stomp}
logging: {{level: INFO}}
"""


class BlueapiServer:
    """The server.

    Args:
        directory: for its configuration and log.
        data: where its camera writes.
        stomp_url: of the broker; empty for none.
    """

    def __init__(self, directory: Path, *, data: Path, stomp_url: str = "") -> None:
        self.directory = directory
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        stomp = "{enabled: false}"
        if stomp_url:
            told = urlsplit(stomp_url)
            auth = f"{{username: {told.username}, password: {told.password}}}"
            stomp = f'{{enabled: true, url: "tcp://127.0.0.1:{told.port}", auth: {auth}}}'
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "blueapi.yaml").write_text(CONFIGURATION.format(port=self.port, stomp=stomp))

    def start(self) -> Self:
        """Starts it and returns when it answers."""
        assert PROGRAM.exists(), f"{PROGRAM} is missing: make .venv-blueapi/.ready"
        data, path = str(self.data), f"{HERE}"
        with (self.directory / "blueapi.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", self.directory / "blueapi.yaml", "serve"],
                env={**os.environ, "BLUELAB_DATA": data, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        if not eventually(self._answers, timeout_s=START_TIMEOUT_S, every_s=0.1):
            raise TimeoutError((self.directory / "blueapi.log").read_text()[-3000:])
        return self

    def kill(self) -> None:
        """Kills it and its worker process, as a power failure does."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        try:
            answer = get(f"{self.url}/api/v1/environment", timeout_s=5)
            return answer.status_code == 200 and answer.json()["initialized"]
        except httpx.TransportError:
            return False
