"""A client's TCP connection: framed questions in, framed answers out (RFC 7766)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from linkspan.names.loop import BROKEN, READ, WRITE, Loop

IDLE = 10.0
"""Seconds of silence after which a connection is closed."""
MOST_PIPELINED = 16
"""Questions of one connection that are answered at a time."""
MOST_UNSENT = 1 << 18
"""Bytes that a client may leave unread."""

Handle = Callable[[bytes, Callable[[bytes], None]], None]
"""Takes a question, and where its answer goes."""


class Connection:
    """One connection; `closed` is called with it when it has ended."""

    def __init__(
        self,
        loop: Loop,
        connected: socket.socket,
        handle: Handle,
        closed: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._socket = connected
        self._handle = handle
        self._closed = closed
        self._received = bytearray()
        self._unsent = bytearray()
        self._open_questions = 0
        self._ended = False
        self._watched = 0
        self._last = time.monotonic()
        self._timer = loop.call_later(IDLE, self._close_if_idle)
        self._watch()

    def close(self) -> None:
        """End it now; twice is fine."""
        if self._socket.fileno() < 0:
            return
        self._timer.cancel()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._closed(self)

    def _watch(self) -> None:
        reads = not self._ended and self._open_questions < MOST_PIPELINED
        events = (READ if reads else 0) | (WRITE if self._unsent else 0)
        if events != self._watched:
            self._watched = events
            self._loop.watch(self._socket.fileno(), self._go_on, events)

    def _close_if_idle(self) -> None:
        left = self._last + IDLE - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._close_if_idle)
        else:
            self.close()

    def _go_on(self, events: int) -> None:
        if events & BROKEN and (self._ended or not events & READ):
            self.close()
            return
        try:
            if events & WRITE:
                self._flush()
            if events & READ and not self._ended:
                data = self._socket.recv(65536)
                self._ended = not data
                self._received += data
                self._last = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._take_questions()

    def _take_questions(self) -> None:
        while self._open_questions < MOST_PIPELINED and len(self._received) >= 2:
            size = int.from_bytes(self._received[:2], "big")
            if len(self._received) < size + 2:
                break
            query = bytes(self._received[2 : size + 2])
            del self._received[: size + 2]
            if size < 12 or query[2] & 0x80:
                self.close()  # no question: there is nothing to talk about
                return
            self._open_questions += 1
            self._handle(query, self._send)
        if self._socket.fileno() < 0:
            return
        if self._ended and not self._open_questions and not self._unsent:
            self.close()
        else:
            self._watch()

    def _send(self, answer: bytes) -> None:
        self._open_questions -= 1
        if self._socket.fileno() < 0:
            return
        self._unsent += len(answer).to_bytes(2, "big") + answer
        try:
            self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > MOST_UNSENT:
            self.close()
            return
        if self._open_questions == MOST_PIPELINED - 1 and self._received:
            self._loop.call_later(0, self._resume)
        self._watch()

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._take_questions()

    def _flush(self) -> None:
        while self._unsent:
            del self._unsent[: self._socket.send(self._unsent)]
