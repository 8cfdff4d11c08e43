"""A stage for the lives of containers: a daemon's containers over an engine and a runtime that
only pretend, and over a real store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from engine.containers.fakes import FakeEngine, FakeRuntime
from linkspan.engine.containers import Containers
from linkspan.engine.events import EventLog
from linkspan.engine.requests import ContainerRequest
from linkspan.engine.store import SqliteStore


class World:
    """One daemon's containers over fakes; `reborn` is the next daemon's, over the same."""

    def __init__(self) -> None:
        self.store = SqliteStore(":memory:")
        self.engine, self.runtime = FakeEngine(), FakeRuntime()
        self.containers: Containers

    async def reborn(self) -> Containers:
        self.events = await EventLog.open(self.store)
        self.containers = Containers(self.engine, self.runtime, self.store, self.events)
        self.engine.owner = self.containers
        await self.containers.recover()
        return self.containers

    async def run(self, name: str = "shop", **fields: Any) -> str:
        """Create and start; gives the id."""
        sandbox = await self.containers.create(request(name, **fields))
        await self.containers.start(sandbox.id)
        return sandbox.id

    def status(self, id: str) -> tuple[str, int | None]:
        record = self.containers.record(id)
        assert record is not None
        return record.status, record.exit_code

    async def until_started(self, id: str, times: int) -> None:
        await self.until(lambda: self.runtime.starts == times and self.status(id)[0] == "running")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Go on when something has come true; every change of a record is in the store."""
        changes = self.store.watch("containers/")
        while not condition():
            await asyncio.wait_for(anext(changes), 10)
            await asyncio.sleep(0)  # what is in the store is in memory one turn later
        changes.close()

    async def actions(self) -> list[str]:
        reader = self.events.subscribe(since=0)
        found = [await anext(reader) for _ in range(self.events.last)]
        return [f"{event.name} {event.action}" for event in found]

    async def stored(self) -> int:
        return len(await self.store.list("containers/"))


def request(name: str = "shop", **fields: Any) -> ContainerRequest:
    return ContainerRequest(name=name, **{"command": ["sleep", "9"], **fields})


def play(scene: Callable[[World], Awaitable[None]]) -> None:
    async def staged() -> None:
        world = World()
        await world.reborn()
        try:
            await asyncio.wait_for(scene(world), 30)
        finally:
            await world.containers.close()
            await world.store.close()

    asyncio.run(staged())
