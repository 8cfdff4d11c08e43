"""An event loop for many sockets that are mostly silent: epoll, timers, and nothing else.

asyncio's datagram transports cost three times what answering a name does.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import select
import time
from collections.abc import Callable

log = logging.getLogger("linkspan.names")
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
BROKEN = select.EPOLLHUP | select.EPOLLERR
Ready = Callable[[int], None]
"""Called with the events of a descriptor (EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR)."""


class Timer:
    """Something that happens once, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """It will not happen."""
        self.action = None


class Loop:
    """Calls back when descriptors are ready and when time has come. One thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._running = False

    def watch(self, descriptor: int, ready: Ready, events: int = READ) -> None:
        """Call `ready` whenever one of `events` can be done; watching again changes both."""
        if descriptor in self._ready:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._ready[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed; one not watched is fine."""
        if self._ready.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do something once, after some time."""
        timer = Timer(action)
        when = time.monotonic() + seconds
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def stop(self) -> None:
        """`run` returns when what is ready now has been dealt with."""
        self._running = False

    def run(self) -> None:
        """Call back until `stop`. An error in a callback is logged; the others go on."""
        self._running = True
        poll, ready = self._epoll.poll, self._ready
        while self._running:
            for descriptor, events in poll(self._wait()):
                call = ready.get(descriptor)
                if call is None:
                    continue  # forgotten by one that was called before it
                try:
                    call(events)
                except Exception:
                    log.exception("answering on descriptor %d failed", descriptor)
            self._call_timers()

    def _wait(self) -> float:
        """Seconds until the next timer; -1 for ever."""
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - time.monotonic(), 0.0) if self._timers else -1.0

    def _call_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            action, timer.action = timer.action, None
            if action is None:
                continue
            try:
                action()
            except Exception:
                log.exception("a timer failed")

    def close(self) -> None:
        """Forget everything."""
        self._epoll.close()
        self._ready.clear()
        self._timers.clear()
