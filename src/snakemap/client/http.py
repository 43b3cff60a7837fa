"""HTTP requests to the API; every failure becomes an error of snakemap with a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from snakemap import errors
from snakemap.errors import ApiFailed, ApiUnavailable, SettingsError, SnakemapError

__all__ = ["Http"]


def _by_code() -> dict[str, type[SnakemapError]]:
    """Return the error classes that take only a message, by code."""
    classes = (one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, SnakemapError))
    return {one.code: one for one in classes if one.__init__ is SnakemapError.__init__}


ERRORS = _by_code()
NO_ROUTE = "not_found"
"""Code of the API for unknown paths; pages of another program also answer with 404."""


class Http:
    """HTTP connection to one API.

    Args:
        url: like ``"http://host:8080"``; with user and password, and a prefix behind a proxy, if needed.
        timeout_s: time limit of a request.
        token: for blueapi, if it requires one.
        proxies: whether to use the proxies of the environment.

    Attributes:
        address: of the API, without user and password, for messages.

    Raises:
        SettingsError: when the URL is not an HTTP address.
    """

    def __init__(self, url: str, *, timeout_s: float, token: str = "", proxies: bool = False) -> None:
        self.url = _checked(url)
        parts = urlsplit(self.url)
        self.address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.timeout_s = timeout_s
        self.proxies = proxies
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=timeout_s, headers=self.headers, trust_env=proxies)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, **parameters: str) -> httpx.Response:
        """Return the response to a GET request, which may be 304.

        Raises:
            SnakemapError: the error of the API, with its class.
            ApiUnavailable: when the API does not answer.
        """
        with self._translated():
            given = {name: value for name, value in parameters.items() if value}
            return self._checked(self._client.get(self.url + path, params=given, headers=headers))

    def post(self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str]) -> Any:
        """Return the JSON response to a POST request."""
        with self._translated():
            return self.json(self._checked(self._client.post(self.url + path, json=body, headers=headers)))

    def lines(self, path: str) -> Iterator[str]:
        """Yield the lines of a streamed response."""
        with self._translated(), self._client.stream("GET", self.url + path) as answer:
            if answer.status_code >= 400:
                answer.read()
            self._checked(answer)
            yield from answer.iter_lines()

    def json(self, answer: httpx.Response) -> Any:
        """Return the JSON of a response.

        Raises:
            ApiFailed: when it is not JSON.
        """
        try:
            return answer.json()
        except ValueError as error:
            raise self._not_the_api(answer) from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 304 or answer.is_success:
            return answer
        try:
            detail = answer.json()["error"]
            code, message = str(detail["code"]), str(detail["message"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_the_api(answer) from error
        if code == NO_ROUTE:
            raise self._not_the_api(answer)
        raise ERRORS.get(code, SnakemapError)(message)

    def _not_the_api(self, answer: httpx.Response) -> ApiFailed:
        return ApiFailed(
            f"what answers at {self.address} (with {answer.status_code}) is not the API of this snakemap; is it the "
            "pages' port, or another program's, or another version? The API has a port of its own, 8080 unless set"
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise ApiUnavailable(
                f"no answer from {self.address}: does `snakemap api` run there, does it listen on the network "
                "(SNAKEMAP_HOST=0.0.0.0), and is the port right (8080 unless SNAKEMAP_API_PORT says otherwise)?"
            ) from error
        except httpx.TimeoutException as error:
            raise ApiUnavailable(
                f"{self.address} has not answered within {self.timeout_s:g} s; try again, or connect(..., timeout_s=60)"
            ) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ApiUnavailable(f"the connection to {self.address} broke: {error}; try again") from error


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{_without_password(url)!r} is not the address of an API, like http://host:8080")
    return url.strip().rstrip("/")


def _without_password(url: str) -> str:
    return url.rpartition("@")[2][:100]
