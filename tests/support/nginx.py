"""A real nginx with the configuration that docs/operating.md shows, as a process of the test's own."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.support.documented import block
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import eventually, free_port
from tests.support.stack import Program, Stack, die_with_parent

__all__ = ["Proxy", "documented_nginx", "proxied", "trusting"]

NGINX = "/usr/sbin/nginx"
START_TIMEOUT_S = 20.0 * PATIENCE

AROUND = """{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {example}
}}
"""


SETTINGS = {"PROXIED": "true", "API_ROOT_PATH": "/snakemap-api"}
"""As the guide has them, with names of hosts as well."""


@dataclass(frozen=True)
class Proxy:
    """nginx before pages and API.

    Attributes:
        url: of nginx.
        stack: what is behind it.
        directory: with its certificate.
    """

    url: str
    stack: Stack
    directory: Path

    @property
    def api(self) -> str:
        return f"{self.url}/snakemap-api"

    def client(self) -> httpx.Client:
        return httpx.Client(verify=trusting(self.directory), trust_env=False, timeout=START_TIMEOUT_S)


@contextmanager
def proxied(directory: Path, redis_url: str) -> Iterator[Proxy]:
    """Run pages, API and nginx until the end of the ``with``."""
    port, api_port = free_port(), free_port()
    settings = {**SETTINGS, "ORIGINS": f"localhost:{port}", "API_PORT": str(api_port)}
    stack = Stack(directory, redis_url=redis_url, **settings).serve()
    api = Program(["api"], environment=stack.pages.environment, log=directory / "api.log").start()
    try:
        assert eventually(lambda: "the API is at" in (directory / "api.log").read_text(), timeout_s=START_TIMEOUT_S)
        with documented_nginx(directory, port=port, pages=stack.port, api=api_port) as url:
            yield Proxy(url, stack, directory)
    finally:
        api.end()
        stack.end()


@contextmanager
def documented_nginx(directory: Path, *, port: int, pages: int, api: int) -> Iterator[str]:
    """Run nginx until the end of the ``with``; gives its address, whose certificate is only good for ``localhost``.

    Args:
        directory: for its files, which must be there.
        port: on which it listens.
        pages: port of the pages.
        api: port of the API.
    """
    certificate, key = make_certificate(directory)
    example = block("operating.md", "nginx", "map $http_upgrade")
    for told, instead in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "server_name beamline.example;": "server_name localhost;",
        "/etc/nginx/beamline.crt": str(certificate),
        "/etc/nginx/beamline.key": str(key),
        "http://127.0.0.1:5006/": f"http://127.0.0.1:{pages}/",
        "http://127.0.0.1:8080/": f"http://127.0.0.1:{api}/",
    }.items():
        assert told in example
        example = example.replace(told, instead)
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(AROUND.format(directory=directory, example=example, user=user))
    with (directory / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [NGINX, "-p", str(directory), "-c", "nginx.conf", "-e", str(directory / "error.log")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent,
        )  # fmt: skip
    url = f"https://localhost:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/", verify=trusting(directory), trust_env=False, timeout=5).status_code == 404
        except httpx.TransportError:
            return process.poll() is not None

    try:
        assert eventually(answers, timeout_s=START_TIMEOUT_S), (directory / "error.log").read_text()
        assert process.poll() is None, (directory / "output.log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(20)


def trusting(directory: Path) -> ssl.SSLContext:
    """Return what trusts the certificate in a directory, and no other."""
    return ssl.create_default_context(cafile=str(directory / "beamline.crt"))


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for ``localhost`` that signs itself, and its key."""
    certificate, key = directory / "beamline.crt", directory / "beamline.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key
