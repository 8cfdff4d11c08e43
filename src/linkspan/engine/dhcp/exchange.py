"""One client at work: its state machine, a packet socket while it talks, and the clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from linkspan.drivers.records import DhcpLease
from linkspan.engine.dhcp.client import Client, Command, Leased, Lost, Send
from linkspan.engine.dhcp.frames import CLIENT_PORT, Datagram, pack_frame, unpack_frame
from linkspan.engine.dhcp.messages import pack_message, unpack_message
from linkspan.errors import LinkspanError

log = logging.getLogger("linkspan.engine")
TALKING = ("selecting", "requesting", "renewing", "rebinding")
LONGEST_SLEEP = 3600.0
"""Seconds until the clock is looked at again: somebody may set it."""


class Frames(Protocol):
    """See kernel.packets.PacketSocket."""

    def fileno(self) -> int:
        """Readable when a frame came."""
        ...

    def send(self, frame: bytes) -> None:
        """Send one frame."""
        ...

    def receive(self) -> bytes | None:
        """The next frame that came."""
        ...

    def close(self) -> None:
        """End it. Blocks."""
        ...


Opener = Callable[[], Frames]
"""Opens a socket on the endpoint's interface. Blocks; raises LinkspanError."""
Outcome = Callable[[Leased | Lost], Awaitable[str | None]]
"""Told of every change; gives the MAC of who has a new address already, if anybody."""


class Exchange:
    """Keeps one lease. Belongs to the running loop."""

    def __init__(self, client: Client, opener: Opener, outcome: Outcome) -> None:
        self.client = client
        self._opener, self._outcome = opener, outcome
        self._frames: Frames | None = None
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.trouble = ""
        """Why the last message could not be sent, "" when it could."""

    def start(self) -> None:
        """Begin, and go on until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; the lease stays."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._close()

    async def release(self) -> DhcpLease | None:
        """Give the lease back and end; which one it was."""
        await self.stop()
        lease = self.client.lease
        for command in self.client.release(time.time()):
            if isinstance(command, Send):
                await self._send(command)
        await self._close()
        return lease

    async def _run(self) -> None:
        await self._carry_out(self.client.begin(time.time()))
        while True:
            try:
                await self._step()
            except LinkspanError as error:
                # The store or the kernel refused: what was granted is asked for again.
                log.warning("a DHCP lease could not be put to use: %s", error)
                await asyncio.sleep(1)

    async def _step(self) -> None:
        if self.client.phase not in TALKING:
            await self._close()
        left = min(self.client.wake_at - time.time(), LONGEST_SLEEP)
        # Not wait_for: in Python 3.11 it forgets a cancellation that comes with the bell.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(left, 0)):
                await self._bell.wait()
        self._bell.clear()
        await self._read()
        await self._carry_out(self.client.wake(time.time()))

    async def _read(self) -> None:
        while self._frames is not None:
            try:
                frame = self._frames.receive()
            except LinkspanError as error:
                self.trouble = str(error)
                await self._close()
                return
            if frame is None:
                return
            datagram = unpack_frame(frame)
            if datagram is None or datagram.destination_port != CLIENT_PORT:
                continue
            with contextlib.suppress(ValueError):
                message = unpack_message(datagram.payload)
                commands = self.client.receive(message, datagram.source_mac, time.time())
                await self._carry_out(commands)

    async def _carry_out(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                await self._send(command)
                continue
            holder = await self._outcome(command)
            if holder is not None:
                await self._carry_out(self.client.decline(time.time(), holder))

    async def _send(self, command: Send) -> None:
        """Send, or leave it to the next attempt: links come and go."""
        datagram = Datagram(
            payload=pack_message(command.message),
            source_mac=self.client.identity.mac,
            source=command.source,
            destination_mac=command.destination_mac,
            destination=command.destination,
        )
        try:
            if self._frames is None:
                self._frames = await asyncio.to_thread(self._opener)
                loop = asyncio.get_running_loop()
                loop.add_reader(self._frames.fileno(), self._bell.set)
            self._frames.send(pack_frame(datagram))
            self.trouble = ""
        except LinkspanError as error:
            self.trouble = str(error)
            await self._close()

    async def _close(self) -> None:
        frames, self._frames = self._frames, None
        if frames is not None:
            asyncio.get_running_loop().remove_reader(frames.fileno())
            await asyncio.shield(asyncio.to_thread(frames.close))
