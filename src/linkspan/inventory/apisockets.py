"""Asking a daemon on its unix socket: one GET, one JSON answer, a limit on time and size.

HTTP/1.0 (RFC 1945) is asked for, so that the end of the answer is the end of the stream.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

LARGEST_ANSWER = 64 << 20
PATIENCE = 2.0
"""Seconds that a daemon has for all that it is asked."""


class NoAnswer(Exception):
    """A daemon did not say what it was asked; the text says why, as the end of a sentence."""


class ApiSocket:
    """A daemon's socket; the seconds of `patience` are for all questions together."""

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        self.path = path
        self._deadline = time.monotonic() + patience
        self._patience = patience

    def get(self, target: str) -> Any:
        """The JSON answer to GET `target`. Raises NoAnswer."""
        request = f"GET {target} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                self._limit(connection)
                connection.connect(self.path)
                connection.sendall(request.encode())
                answer = self._read_all(connection)
        except TimeoutError:
            raise NoAnswer(f"does not answer within {self._patience:g} s") from None
        except PermissionError:
            raise NoAnswer("may not be asked by this user: run as root") from None
        except OSError as error:
            raise NoAnswer(f"cannot be asked: {error.strerror or error}") from None
        return _decode(answer)

    def _limit(self, connection: socket.socket) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)

    def _read_all(self, connection: socket.socket) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            self._limit(connection)
            piece = connection.recv(1 << 18)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST_ANSWER:
                raise NoAnswer("answers without end")


def _decode(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2:
        raise NoAnswer("answers something that is not HTTP")
    if words[1] != b"200":
        raise NoAnswer(f"refuses with status {words[1].decode('latin-1')}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise NoAnswer("answers something that is not JSON") from None


def find_sockets(variable: str, usual: tuple[str, ...]) -> list[str]:
    """The sockets to ask: those that an environment variable lists, separated by colons, else
    those of the usual ones that are there. An empty variable means none.
    """
    named = os.environ.get(variable)
    if named is not None:
        return [path for path in named.split(":") if path]
    found: dict[tuple[int, int], str] = {}
    for path in usual:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.setdefault((status.st_dev, status.st_ino), path)
    return list(found.values())
