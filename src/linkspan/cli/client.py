"""A small HTTP client for the daemon's unix socket.

The standard library's would take as long to import as everything else a command does.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from linkspan.errors import DaemonUnreachable, LinkspanError

LONGEST_HEAD = 65536
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Refused(LinkspanError):
    """The daemon said no; `code` and `status` are the ones it gave."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SocketForbidden(DaemonUnreachable):
    """The socket is there, and closed to this user."""


class Client:
    """Requests to one daemon, a connection each."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, *parts: str, **query: Any) -> Any:
        """GET /v1/PARTS and decode the answer. All of these raise as `request` does."""
        return self.request("GET", parts, query=query)

    def post(self, *parts: str, body: Any = None, **query: Any) -> Any:
        """POST to /v1/PARTS and decode the answer."""
        return self.request("POST", parts, body=body, query=query)

    def put(self, *parts: str, body: Any = None, **query: Any) -> Any:
        """PUT to /v1/PARTS and decode the answer."""
        return self.request("PUT", parts, body=body, query=query)

    def delete(self, *parts: str, **query: Any) -> Any:
        """DELETE /v1/PARTS and decode the answer."""
        return self.request("DELETE", parts, query=query)

    def request(
        self,
        method: str,
        parts: tuple[str, ...],
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """One request; the decoded answer, None if it has no body.

        Raises:
            DaemonUnreachable: nobody answers on the socket, or it may not be opened.
            Refused: the daemon answered 4xx or 5xx.
        """
        with self._send(method, parts, body, query or {}) as answer:
            data = b"".join(answer.pieces())
        return json.loads(data) if data.strip() else None

    def stream(self, *parts: str, **query: Any) -> Iterator[bytes]:
        """The lines of an answer, as they come, without their ends. Raises as `request` does."""
        with self._send("GET", parts, None, query) as answer:
            rest = b""
            for piece in answer.pieces():
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
            if rest:
                yield rest

    def _send(
        self, method: str, parts: tuple[str, ...], body: Any, query: Mapping[str, Any]
    ) -> _Answer:
        target = "/v1/" + "/".join(quote(part) for part in parts)
        pairs = [
            f"{name}={quote('true' if value is True else str(value))}"
            for name, value in query.items()
            if value is not None and value is not False
        ]
        if pairs:
            target += "?" + "&".join(pairs)
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        if body is not None:
            head += "Content-Type: application/json\r\n"
        if method != "GET":
            head += f"Content-Length: {len(data)}\r\n"
        connection = self._connect()
        try:
            connection.sendall(head.encode() + b"\r\n" + data)
            return _Answer(connection, self.path)
        except OSError as error:
            connection.close()
            raise self._broken(error) from None
        except BaseException:
            connection.close()
            raise

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self.path)
        except PermissionError:
            connection.close()
            raise SocketForbidden(
                f"no permission to use {self.path}; use sudo, or join the group `linkspan` "
                "(whoever is in it has root's power over this host)"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            connection.close()
            raise DaemonUnreachable(
                f"no daemon answers on {self.path}; start one with `sudo linkspan daemon`, "
                "or name its socket with --socket or LINKSPAN_SOCKET"
            ) from None
        except OSError as error:
            connection.close()
            raise DaemonUnreachable(f"socket {self.path}: {error.strerror or error}") from None
        return connection

    def _broken(self, error: OSError) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"the daemon on {self.path} broke off ({error.strerror or error}); its log may say why"
        )


class _Answer:
    """An answer whose head was read; a context manager that closes the connection."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self.connection = connection
        self.path = path
        self.buffer = b""
        self.status, self.headers = self._read_head()
        if self.status >= 400:
            raise self._refusal()

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def pieces(self) -> Iterator[bytes]:
        """The body, as it comes."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self._read_line().split(b";")[0], 16):
                yield self._read_exactly(size)
                self._read_line()
        elif self.status != 204:
            yield self._read_exactly(int(self.headers.get("content-length", "0")))

    def _read_head(self) -> tuple[int, dict[str, str]]:
        status = int(self._read_line().split(b" ")[1])
        headers: dict[str, str] = {}
        while line := self._read_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return status, headers

    def _refusal(self) -> Refused:
        data = b"".join(self.pieces())
        self.connection.close()
        try:
            error = json.loads(data)["error"]
            return Refused(self.status, error["code"], error["message"])
        except (ValueError, KeyError, TypeError):
            return Refused(self.status, "failed", f"the daemon answered with status {self.status}")

    def _read_line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > LONGEST_HEAD:
                raise DaemonUnreachable(f"what answers on {self.path} is no linkspan daemon")
            self._receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._receive()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def _receive(self) -> None:
        try:
            data = self.connection.recv(65536)
        except OSError as error:
            raise DaemonUnreachable(f"the daemon on {self.path} broke off: {error}") from None
        if not data:
            raise DaemonUnreachable(f"the daemon on {self.path} ended before it had answered")
        self.buffer += data


def quote(text: str) -> str:
    """Text as one part of a path or query (RFC 3986, section 2.1)."""
    return "".join(
        chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in os.fsencode(text)
    )
