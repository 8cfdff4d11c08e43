"""A fake engine behind the real server, on a socket of its own, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.fake_engine import FakeEngine
from linkspan.api.daemon import answer_requests
from linkspan.api.listening import open_listener
from linkspan.api.operation import Service


class Served:
    """What a test may touch: the socket's path, the engine, and the end."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.engine: FakeEngine
        self.loop: asyncio.AbstractEventLoop
        self.service: Service

    def end(self) -> None:
        """End the server as a signal would."""
        self.loop.call_soon_threadsafe(self.service.closing.set)


@contextmanager
def serve(path: Path) -> Iterator[Served]:
    """A server that answers until the block ends."""
    served = Served(path)
    ready = threading.Event()
    facts = {
        "version": "9.9", "pid": 7, "namespace": 1, "socket": str(path), "state_dir": "/a",
        "run_dir": "/b", "default_network": "bridge", "started": 0.0,
    }  # fmt: skip

    async def run() -> None:
        served.engine = await FakeEngine.open()
        served.loop = asyncio.get_running_loop()
        served.service = Service(
            engine=served.engine,  # type: ignore[arg-type]
            closing=asyncio.Event(),
            facts=facts,
        )
        listener = open_listener(str(path))
        ready.set()
        with listener:
            await answer_requests(served.service, listener)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="served")
    thread.start()
    try:
        assert ready.wait(10)
        yield served
    finally:
        served.end()
        thread.join(10)
        assert not thread.is_alive()
