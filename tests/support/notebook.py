"""A real kernel, whose outputs are shown in a real browser: the little that lies between them in a notebook.

JupyterLab would bring the same two things: it puts outputs into the page, and carries comm messages to and fro.
"""

from __future__ import annotations

import base64
import queue
import time
from types import TracebackType
from typing import Any, Self

from jupyter_client.manager import KernelManager
from playwright.sync_api import Page
from tests.support.patience import PATIENCE

__all__ = ["Notebook"]

TIMEOUT_S = 60.0 * PATIENCE
SCRIPTS = (
    "js/bokeh.min.js",
    "js/bokeh-gl.min.js",
    "js/bokeh-widgets.min.js",
    "js/bokeh-tables.min.js",
    "extensions/panel/panel.min.js",
    "extensions/panel/bundled/reactiveesm/es-module-shims@^1.10.0/dist/es-module-shims.min.js",
)

COMMS = """
window.PyViz = {plot_index: {}, comm_manager: {
  targets: {}, comms: {}, waiting: [],
  register_target(plot_id, comm_id, heard) { this.targets[comm_id] = heard },
  get_client_comm(plot_id, comm_id, acknowledged) {
    this.comms[comm_id] = acknowledged
    this.waiting.push({type: "comm_open", comm_id, data: {}})
    return {active: true, send: (data) => this.waiting.push({type: "comm_msg", comm_id, data})}
  },
  taken() { const told = this.waiting; this.waiting = []; return JSON.stringify(told) },
  bytes(text) { return new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer) },
  hear(target, content, metadata, buffers) {
    const message = {content, metadata, buffers: buffers.map(this.bytes)}
    if (target in this.targets) this.targets[target](message)
    else this.comms[target]?.(message)
  },
}}
"""


class Notebook:
    """A kernel and a page.

    Args:
        page: where outputs go; empty.
        assets: URL of a server that has the scripts of Bokeh and Panel.
    """

    def __init__(self, page: Page, *, assets: str) -> None:
        self.page = page
        self._assets = assets
        self._manager = KernelManager(kernel_name="python3")
        self._targets: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._manager.start_kernel()
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT_S)
        self.page.evaluate(COMMS)
        for path in SCRIPTS:
            self.page.add_script_tag(url=f"{self._assets}/static/{path}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.context.destroy()

    def run(self, code: str) -> list[str]:
        """Runs a cell; what it shows is put into the page.

        Returns:
            What it prints.
        """
        asked, printed = self._client.execute(code), []
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            message = self._client.get_iopub_msg(timeout=TIMEOUT_S)
            self._pass(message)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "error":
                    raise AssertionError("\n".join(content["traceback"]))
                case "stream":
                    printed.append(content["text"])
                case "execute_result" | "display_data":
                    self._show(content["data"])
                case "status" if content["execution_state"] == "idle":
                    return printed
        raise TimeoutError(code)

    def carry(self) -> None:
        """Carries what either side has said to the other one."""
        channel, session = self._client.shell_channel, self._client.session
        for told in self.page.evaluate("() => JSON.parse(PyViz.comm_manager.taken())"):
            content = {"comm_id": told["comm_id"], "data": told["data"], "target_name": told["comm_id"]}
            channel.send(session.msg(told["type"], content))
        while True:
            try:
                self._pass(self._client.get_iopub_msg(timeout=0.02))
            except queue.Empty:
                return

    def _pass(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self._targets[content["comm_id"]] = content["target_name"]
        elif message["msg_type"] == "comm_msg":
            target = self._targets.get(content["comm_id"], content["comm_id"])
            buffers = [base64.b64encode(buffer).decode() for buffer in message["buffers"]]
            told = [target, {"data": content["data"]}, message["metadata"], buffers]
            self.page.evaluate("(told) => PyViz.comm_manager.hear(...told)", told)

    def _show(self, data: dict[str, str]) -> None:
        if "text/html" not in data:
            return  # scripts that load what the page has already
        self.page.evaluate(
            """(html) => {
              const place = document.body.appendChild(document.createElement("div"))
              place.innerHTML = html
              for (const script of place.querySelectorAll("script")) {
                if (script.type && !script.type.endsWith("javascript")) continue
                const alive = document.createElement("script")
                alive.textContent = script.textContent
                script.replaceWith(alive)
              }
            }""",
            data["text/html"],
        )
