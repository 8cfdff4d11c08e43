"""A client for HTTP on a unix socket that costs next to nothing: one connection, kept open."""

from __future__ import annotations

import json
import select
import socket
from pathlib import Path
from typing import Any


class Failed(Exception):
    """The server answered with an error; the message holds its body."""


class Client:
    """Requests on one connection; one thread at a time. A context manager."""

    def __init__(self, path: Path, timeout: float = 60.0) -> None:
        self._path = str(path)
        self._timeout = timeout
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(self._timeout)
        connected.connect(self._path)
        return connected

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """Send a prepared request, return the body of the answer; raises Failed."""
        if select.select([self._socket], [], [], 0)[0]:
            # The server has closed the idle connection; nothing else comes unasked.
            self._socket.close()
            self._socket = self._connect()
        self._socket.sendall(request)
        data = bytearray()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
        head = bytes(data[:end]).lower()
        status = int(head.split(b" ", 2)[1])
        body = data[end + 4 :]
        if b"\r\ntransfer-encoding: chunked" in head:
            body = self._read_chunks(body)
        elif (found := head.find(b"\r\ncontent-length:")) >= 0:
            length = int(head[found + 17 :].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += self._receive()
        if status >= 400:
            raise Failed(f"{status}: {body.decode(errors='replace').strip()}")
        return bytes(body)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request; the decoded answer, None when it is empty."""
        answer = self.ask(prepare(method, path, body))
        return json.loads(answer) if answer.strip() else None

    def _read_chunks(self, data: bytearray) -> bytearray:
        body = bytearray()
        while True:
            while (end := data.find(b"\r\n")) < 0:
                data += self._receive()
            size = int(data[:end], 16)
            while len(data) < end + 2 + size + 2:
                data += self._receive()
            body += data[end + 2 : end + 2 + size]
            data = data[end + 2 + size + 2 :]
            if size == 0:
                return body

    def _receive(self) -> bytes:
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise Failed(f"{self._path}: the connection was closed")
        return chunk


def prepare(method: str, path: str, body: Any = None) -> bytes:
    """The bytes of a request, for `Client.ask`."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content
