"""Watching a store from the process that writes to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from linkspan.engine.store.interface import Change
from linkspan.errors import Outdated

LONGEST_QUEUE = 10_000
"""Changes that a watch may be behind; a writer never waits for a reader."""


class LocalWatch:
    """A watch that the writer feeds. Reading it belongs to the writer's event loop."""

    def __init__(self, prefix: str, watchers: set[LocalWatch]) -> None:
        self.prefix = prefix
        self._watchers = watchers
        self._queue: deque[Change] = deque()
        self._lost = False
        self._closed = False
        self._arrived = asyncio.Event()
        watchers.add(self)

    def feed(self, changes: Iterable[Change]) -> None:
        """Take the changes of one transaction that concern this watch."""
        if self._lost:
            return
        self._queue.extend(change for change in changes if change.key.startswith(self.prefix))
        if len(self._queue) > LONGEST_QUEUE:
            self._lost = True
            self._queue.clear()
        if self._queue or self._lost:
            self._arrived.set()

    def close(self) -> None:
        """Stop watching; an iteration that waits ends."""
        self._closed = True
        self._watchers.discard(self)
        self._arrived.set()

    def __aiter__(self) -> LocalWatch:
        return self

    async def __anext__(self) -> Change:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._lost:
                self.close()
                raise Outdated(
                    f"the watch on {self.prefix!r} fell more than {LONGEST_QUEUE} changes behind; "
                    "list the keys again"
                )
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()
