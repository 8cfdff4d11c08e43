"""Questions about names outside: asked of servers, one after the other, until one answers.

Many who ask the same at the same time are asked for once. A server that let us wait is
asked last for a while.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from linkspan.names import wire
from linkspan.names.cache import Cache
from linkspan.names.loop import Loop, Timer
from linkspan.names.upstream import Channel, Channels, Exchange
from linkspan.names.wire import Question

PATIENCE, LONGEST = 1.2, 4.5
"""Seconds until the next server is tried, and until all is given up: before a client's resolver
asks again by itself, which is after 5 s (resolv.conf(5), timeout)."""
MOST_TRIES = 4
DISTRUST = 10.0
"""Seconds for which a server that did not answer is asked last."""
MOST_OPEN = 4096
"""Questions that are asked outside at a time, for all sandboxes together."""
MOST_WAITING = 256
"""Clients that one question is asked for."""

Deliver = Callable[[bytes | None], None]
"""Takes the answer with the client's id, or None when there is none."""
Key = tuple[tuple[str, ...], bool, bytes]


class Waiter(NamedTuple):
    """A client that waits: its own question, and where its answer goes."""

    question: Question
    deliver: Deliver


class Forwarder:
    """Asks servers outside, and keeps what they said."""

    def __init__(self, loop: Loop) -> None:
        self.cache = Cache()
        self._loop = loop
        self._channels = Channels(loop)
        self._open: dict[Key, _Inquiry] = {}
        self._distrusted: dict[str, float] = {}
        self._tidying = False

    def recall(self, question: Question, servers: tuple[str, ...], stream: bool) -> bytes | None:
        """An answer that is known, without its id; None when somebody must be asked."""
        body = self.cache.get(_key(question, servers, stream), time.monotonic())
        return None if body is None else _spell_as(body, question)

    def ask(
        self, question: Question, servers: tuple[str, ...], stream: bool, deliver: Deliver
    ) -> None:
        """Ask servers, over connections where `stream`; `deliver` is called once, later or now."""
        key = _key(question, servers, stream)
        inquiry = self._open.get(key)
        waiter = Waiter(question, deliver)
        if inquiry is not None and len(inquiry.waiters) < MOST_WAITING:
            inquiry.waiters.append(waiter)
            return
        if inquiry is not None or len(self._open) >= MOST_OPEN or not servers:
            deliver(None)
            return
        inquiry = _Inquiry(self, key, waiter, self._order(servers))
        self._open[key] = inquiry
        self._tidy_later()
        inquiry.try_next()

    def forget(self) -> None:
        """Forget answers and distrust: the servers are others now."""
        self.cache.clear()
        self._distrusted.clear()

    def close(self) -> None:
        """Stop asking; nobody is told."""
        for inquiry in list(self._open.values()):
            inquiry.stop()
        self._open.clear()
        self._channels.close()

    def _order(self, servers: tuple[str, ...]) -> list[str]:
        now = time.monotonic()
        return sorted(servers, key=lambda server: self._distrusted.get(server, 0.0) > now)

    def _tidy_later(self) -> None:
        if not self._tidying:
            self._tidying = True
            self._loop.call_later(5.0, self._tidy)

    def _tidy(self) -> None:
        self._tidying = False
        self._channels.tidy()
        now = time.monotonic()
        self._distrusted = {s: until for s, until in self._distrusted.items() if until > now}
        if self._channels.open:
            self._tidy_later()

    # For inquiries

    def send(self, server: str, inquiry: _Inquiry) -> Callable[[], None]:
        """Ask one server; gives what ends the waiting for it. Raises OSError."""
        question = inquiry.waiters[0].question

        def answered(answer: bytes | None) -> None:
            inquiry.take(server, answer)

        tail = question.wire[2:]
        repeated = question.wire[wire.HEADER : question.end].lower()
        if inquiry.stream:
            return Exchange(self._loop, server, tail, repeated, answered).close
        channel: Channel = self._channels.take(server)
        number = channel.ask(tail, repeated, answered)
        return lambda: channel.give_up(number)

    def wait(self, seconds: float, action: Callable[[], None]) -> Timer:
        """A timer of the loop."""
        return self._loop.call_later(seconds, action)

    def distrust(self, server: str) -> None:
        """It did not answer."""
        self._distrusted[server] = time.monotonic() + DISTRUST

    def trust(self, server: str) -> None:
        """It answered."""
        self._distrusted.pop(server, None)

    def finish(self, inquiry: _Inquiry, answer: bytes | None) -> None:
        """Tell everybody who waits."""
        self._open.pop(inquiry.key, None)
        inquiry.stop()
        if answer is not None:
            self._keep(inquiry, answer)
        for question, deliver in inquiry.waiters:
            body = None if answer is None else _spell_as(answer[2:], question)
            deliver(None if body is None else question.wire[:2] + body)

    def _keep(self, inquiry: _Inquiry, answer: bytes) -> None:
        edns = inquiry.waiters[0].question.edns
        # Options may make an answer one client's own (cookies, client subnets).
        if edns is None or not edns.has_options:
            self.cache.put(inquiry.key, answer, time.monotonic())


class _Inquiry:
    """One question on its way through the servers."""

    def __init__(self, forwarder: Forwarder, key: Key, waiter: Waiter, servers: list[str]) -> None:
        self.key = key
        self.stream = key[1]
        self.waiters = [waiter]
        self._forwarder = forwarder
        self._to_try = [*servers, *servers][:MOST_TRIES]
        self._tried = 0
        self._deadline = time.monotonic() + LONGEST
        self._asked: list[Callable[[], None]] = []
        self._silent: str | None = None
        self._timer: Timer | None = None
        self._refusal: bytes | None = None

    def try_next(self) -> None:
        """Ask the next server; older questions stay open, their answers are as good."""
        if self._timer is not None:
            self._timer.cancel()
        while self._tried < len(self._to_try):
            server = self._to_try[self._tried]
            self._tried += 1
            try:
                self._asked.append(self._forwarder.send(server, self))
            except OSError:
                self._distrust(server)
                continue
            self._silent = server
            left = self._deadline - time.monotonic()
            last = self._tried == len(self._to_try)
            self._timer = self._forwarder.wait(left if last else PATIENCE, self._lose_patience)
            return
        self._forwarder.finish(self, self._refusal)

    def _lose_patience(self) -> None:
        if self._silent is not None:
            self._distrust(self._silent)
        self.try_next()

    def _distrust(self, server: str) -> None:
        if not self.stream:  # many servers answer datagrams only
            self._forwarder.distrust(server)

    def take(self, server: str, answer: bytes | None) -> None:
        """A server answered, or (None) cannot be asked."""
        if answer is None:
            self._distrust(server)
        else:
            self._forwarder.trust(server)
            if answer[3] & 15 in (wire.NOERROR, wire.NXDOMAIN):
                self._forwarder.finish(self, answer)
                return
            self._refusal = answer
        # It will say the same again: another may know better.
        done, rest = self._to_try[: self._tried], self._to_try[self._tried :]
        self._to_try = done + [other for other in rest if other != server]
        if server == self._silent:
            self._silent = None
            self.try_next()

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        for end in self._asked:
            with contextlib.suppress(OSError):
                end()
        self._asked.clear()


def _key(question: Question, servers: tuple[str, ...], stream: bool) -> Key:
    """Everything that an answer depends on: the whole query but for id and case of letters."""
    query = question.wire
    return servers, stream, query[2:12] + question.name + query[question.end - 4 :]


def _spell_as(body: bytes, question: Question) -> bytes:
    """The answer with the question in the client's own letters (upper or lower case)."""
    asked = question.wire[wire.HEADER : question.end]
    end = question.end - 2
    if len(body) < end or body[2:4] != b"\0\1":
        return body
    return body[:10] + asked + body[end:]
