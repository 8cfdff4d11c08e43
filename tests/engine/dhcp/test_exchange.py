"""A client at work ends when it is told to, whatever happens at that moment."""

from __future__ import annotations

import asyncio
import socket

from linkspan.engine.dhcp.client import Client, Identity, Leased, Lost
from linkspan.engine.dhcp.exchange import Exchange

ME = Identity(mac="02:00:00:00:00:01", client_id=b"\xff" + bytes(8), hostname="web", broadcast=True)


class Wire:
    """A packet socket whose only frame says nothing, and comes when the test wants it."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)

    def fileno(self) -> int:
        return self.here.fileno()

    def send(self, frame: bytes) -> None:
        pass

    def receive(self) -> bytes | None:
        try:
            return self.here.recv(100)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self.here.close()
        self.there.close()


async def no_news(_: Leased | Lost) -> str | None:
    return None


def test_it_ends_also_when_a_frame_comes_at_that_moment():
    async def scenario() -> bool:
        loop, wire, opened = asyncio.get_running_loop(), Wire(), asyncio.Event()

        def open_wire() -> Wire:
            loop.call_soon_threadsafe(opened.set)
            return wire

        exchange = Exchange(Client(ME, None), open_wire, no_news)
        exchange.start()
        await opened.wait()
        await asyncio.sleep(0.02)  # it has asked, and waits for the bell
        exchange._bell.set()
        await asyncio.sleep(0)  # the wait is over, and the client not yet awake
        ending = asyncio.ensure_future(exchange.stop())
        done, _ = await asyncio.wait({ending}, timeout=2)
        return bool(done)

    assert asyncio.run(scenario())
