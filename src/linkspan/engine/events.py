"""What happened, in order: stored with the change itself, resumable, and bounded.

An event's id is one higher than that of the event before, also across restarts, so a reader
who says which id it saw last misses nothing and sees nothing twice. The last KEPT events are
in the store; each new one deletes the one that falls off the end, in the same transaction.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

from linkspan.drivers.records import Actor
from linkspan.engine.actors import acting
from linkspan.engine.store import Store
from linkspan.errors import StorageFailed

log = logging.getLogger(__name__)

KEPT = 10_000
"""Events that are kept for readers who come later."""
LONGEST_QUEUE = 1_000
"""Events that a reader may be behind before it is dropped; the engine never waits for it."""
PREFIX = "events/"
_PAGE = 500

EventType: TypeAlias = Literal[
    "network", "sandbox", "container", "port", "policy", "firewall", "daemon"
]


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, before it has its number.

    `name` and `object_id` are those of the network, sandbox or container it happened to.
    """

    type: EventType
    action: str
    name: str = ""
    object_id: str = ""
    attributes: dict[str, str] = {}
    by: Actor | None = msgspec.field(default_factory=acting)
    """The client who asked for it, None for what the daemon does by itself."""


class Event(Happening, frozen=True, kw_only=True):
    """Something that happened. `time` is in seconds since 1970."""

    id: int
    time: float
    by: Actor | None = None


def event_key(id: int) -> str:
    """The store's key of an event; keys are in the order of ids."""
    return f"{PREFIX}{id:016d}"


class EventLog:
    """Writes events and hands them to readers. `store` must have no other writer of events."""

    def __init__(self, store: Store, last: int, *, kept: int = KEPT) -> None:
        self._store = store
        self._kept = kept
        self._readers: set[Subscription] = set()
        self._lock = asyncio.Lock()
        self._pending: list[Happening] = []
        self._writing: asyncio.Task[None] | None = None
        self.last = last
        """The id of the newest event, 0 before the first."""

    @classmethod
    async def open(cls, store: Store, *, kept: int = KEPT) -> EventLog:
        """The log of a store, going on where it ended; StorageFailed if it cannot be read.

        With a smaller `kept` than before, the surplus is deleted here.
        """
        newest = await store.list(PREFIX, reverse=True, limit=1)
        log = cls(store, int(newest[0].key.removeprefix(PREFIX)) if newest else 0, kept=kept)
        bound = event_key(max(0, log.last - kept))
        while surplus := [e.key for e in await store.list(PREFIX, limit=_PAGE) if e.key <= bound]:
            await store.transaction(deletes=surplus)
        return log

    async def commit(
        self,
        happenings: Iterable[Happening],
        *,
        puts: Mapping[str, bytes] | None = None,
        deletes: Iterable[str] = (),
        expect: Mapping[str, int | None] | None = None,
    ) -> int:
        """Change the store and say what happened, both or neither; gives the revision.

        Readers are told afterwards. The arguments but the first are those of
        Store.transaction, and so are the errors.
        """
        async with self._lock:
            now = time.time()
            events = [
                Event(**msgspec.structs.asdict(happening), id=self.last + number, time=now)
                for number, happening in enumerate(happenings, 1)
            ]
            new = {event_key(event.id): msgspec.json.encode(event) for event in events}
            old = [event_key(e.id - self._kept) for e in events if e.id > self._kept]
            revision = await self._store.transaction(
                {**(puts or {}), **new}, [*deletes, *old], expect
            )
            self.last += len(events)
            # Before anyone else can commit: readers see events in the order of their ids.
            for reader in tuple(self._readers):
                reader.feed(events)
        return revision

    async def append(
        self, type: EventType, action: str, name: str = "", object_id: str = "", **attributes: str
    ) -> None:
        """Say that something happened that changed no state. Raises StorageFailed."""
        happening = Happening(
            type=type, action=action, name=name, object_id=object_id, attributes=attributes
        )
        await self.commit([happening])

    def record(
        self, type: EventType, action: str, name: str = "", object_id: str = "", **attributes: str
    ) -> None:
        """Say that something happened, without waiting until it is stored.

        What is said in one turn of the event loop goes into one transaction. A failure to
        store it is logged.
        """
        self._pending.append(
            Happening(
                type=type, action=action, name=name, object_id=object_id, attributes=attributes
            )
        )
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_pending())

    async def flush(self) -> None:
        """Wait until everything that was recorded is stored."""
        while self._writing is not None and not self._writing.done():
            await self._writing

    async def _write_pending(self) -> None:
        while self._pending:
            happenings, self._pending = self._pending, []
            try:
                await self.commit(happenings)
            except StorageFailed as error:
                log.error("%d events were not stored: %s", len(happenings), error)

    def subscribe(self, since: int | None = None) -> Subscription:
        """Events from now on, or all after the id `since`; close it when done.

        A reader who asks for more than is kept first gets daemon/forgotten, which tells the
        first id that still is there. One who reads too slowly gets daemon/dropped as its last
        event, which tells the id to go on with. Neither has a number of its own: `id` is that
        of the event before.
        """
        return Subscription(self._store, self._readers, self.last, since)


class Subscription:
    """One reader's events, once each and in order: `async for event in subscription`."""

    def __init__(
        self, store: Store, readers: set[Subscription], last: int, since: int | None
    ) -> None:
        self._store = store
        self._readers = readers
        self._queue: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._dropped = False
        self._start = last
        """All events up to this one are read from the store, later ones are fed."""
        self._since = last if since is None else since
        self._events = self._read()
        readers.add(self)

    def feed(self, events: Iterable[Event]) -> None:
        """Take new events; drop this reader when it is too far behind."""
        if self._dropped:
            return
        self._queue.extend(events)
        if len(self._queue) > LONGEST_QUEUE:
            self._dropped = True
            self._queue.clear()
        self._arrived.set()

    def close(self) -> None:
        """No more events; an iteration that waits ends."""
        self._closed = True
        self._readers.discard(self)
        self._arrived.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def _read(self) -> AsyncIterator[Event]:
        seen = self._since
        async for event in self._replay():
            yield event
            seen = event.id
        while not self._closed:
            if self._dropped:
                self.close()
                yield _note(
                    seen, "dropped", f"too slow to read; resume after event {seen}", resume=seen
                )
                return
            while self._queue:
                event = self._queue.popleft()
                if event.id > seen:
                    yield event
                    seen = event.id
            if not self._closed and not self._dropped:
                self._arrived.clear()
                await self._arrived.wait()

    async def _replay(self) -> AsyncIterator[Event]:
        seen = max(self._since, 0)
        while seen < self._start and not self._dropped:
            page = await self._store.list(PREFIX, after=event_key(seen), limit=_PAGE)
            events = [msgspec.json.decode(entry.value, type=Event) for entry in page]
            if not events:
                return
            if events[0].id > seen + 1:
                yield _note(
                    events[0].id - 1,
                    "forgotten",
                    f"events {seen + 1} to {events[0].id - 1} are no longer kept",
                    first=events[0].id,
                )
            for event in events:
                if event.id > self._start:
                    return
                yield event
                seen = event.id


def _note(id: int, action: str, reason: str, **numbers: int) -> Event:
    attributes = {"reason": reason, **{name: str(value) for name, value in numbers.items()}}
    return Event(type="daemon", action=action, id=id, time=time.time(), attributes=attributes)
