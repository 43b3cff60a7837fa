"""Requests to the API, whose every trouble becomes an error of ours that says what to do."""

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
    """Return the class of every error that is told by its code and a message alone."""
    classes = (one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, SnakemapError))
    return {one.code: one for one in classes if one.__init__ is SnakemapError.__init__}


ERRORS = _by_code()
NO_ROUTE = "not_found"
"""What the API says of a path that it does not have, as a page of another program would."""


class Http:
    """One API.

    Args:
        url: like ``"http://host:8080"``; with user and password, and a prefix behind a proxy, where these are needed.
        timeout_s: until a request that nobody answers is given up.
        token: for blueapi, where it asks for one.
        proxies: whether to go through those that the environment names.

    Attributes:
        address: of the API, without user and password, for messages.

    Raises:
        SettingsError: the URL is none of the web.
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
        """Return what the API answers to a GET; 304 is an answer, too.

        Raises:
            SnakemapError: what it refuses, as the class that the API itself raised.
            ApiUnavailable: when it does not answer.
        """
        with self._translated():
            told = {name: value for name, value in parameters.items() if value}
            return self._checked(self._client.get(self.url + path, params=told, headers=headers))

    def post(self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str]) -> Any:
        """Return what the API answers to a POST."""
        with self._translated():
            return self.json(self._checked(self._client.post(self.url + path, json=body, headers=headers)))

    def lines(self, path: str) -> Iterator[str]:
        """Yield the lines of an answer, as they come."""
        with self._translated(), self._client.stream("GET", self.url + path) as answer:
            if answer.status_code >= 400:
                answer.read()
            self._checked(answer)
            yield from answer.iter_lines()

    def json(self, answer: httpx.Response) -> Any:
        """Return the JSON of an answer.

        Raises:
            ApiFailed: when it has none.
        """
        try:
            return answer.json()
        except ValueError as error:
            raise self._stranger(answer) from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 304 or answer.is_success:
            return answer
        try:
            told = answer.json()["error"]
            code, message = str(told["code"]), str(told["message"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._stranger(answer) from error
        if code == NO_ROUTE:
            raise self._stranger(answer)
        raise ERRORS.get(code, SnakemapError)(message)

    def _stranger(self, answer: httpx.Response) -> ApiFailed:
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
