"""Who may change things at once: requests beside each other, a reconciliation alone.

A request changes the records first and the kernel a moment later. A reconciliation that
compared the two in between would undo or repeat half of it, so it waits until none is
under way, and requests wait until it is done. Requests on one sandbox follow each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Gate:
    """A lock with two sides: many at once, or one alone. The one alone goes first."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = False
        self._waiting_alone: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Enter beside others."""
        while self._alone or self._waiting_alone:
            await self._wait(self._waiting)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._wake()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Enter when everybody else has left."""
        while self._alone or self._inside:
            await self._wait(self._waiting_alone)
        self._alone = True
        try:
            yield
        finally:
            self._alone = False
            self._wake()

    @contextlib.asynccontextmanager
    async def on(self, identity: str) -> AsyncIterator[None]:
        """Enter beside others, and one after another for one sandbox."""
        async with self.shared(), self.turn(identity):
            yield

    @contextlib.asynccontextmanager
    async def turn(self, identity: str) -> AsyncIterator[None]:
        """One after another for one sandbox, for those who have entered already."""
        lock, users = self._locks.get(identity) or (asyncio.Lock(), 0)
        self._locks[identity] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[identity]
            if users == 1:
                del self._locks[identity]
            else:
                self._locks[identity] = lock, users - 1

    async def _wait(self, row: deque[asyncio.Future[None]]) -> None:
        future = asyncio.get_running_loop().create_future()
        row.append(future)
        try:
            await future
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                row.remove(future)
            self._wake()  # whoever would have come after the one that gave up
            raise

    def _wake(self) -> None:
        if self._alone:
            return
        row = self._waiting_alone if self._waiting_alone else self._waiting
        if self._waiting_alone and self._inside:
            return
        while row:
            future = row.popleft()
            if not future.done():
                future.set_result(None)
                if row is self._waiting_alone:
                    return
