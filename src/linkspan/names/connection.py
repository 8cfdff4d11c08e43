"""The control socket as the daemon sees it: requests, and their replies in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque

import msgspec

from linkspan.names import control

log = logging.getLogger("linkspan.names")


class Lost(Exception):
    """The connection to the names process ended."""


class Connection:
    """Requests and their replies, in order, over the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: deque[asyncio.Future[control.Reply]] = deque()
        self._reading = asyncio.create_task(self._read(reader))

    @classmethod
    async def open(cls, path: str) -> Connection:
        """Connect. Raises OSError."""
        # A socket's address has room for 107 bytes; a folder's descriptor makes any path short.
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            short = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
            reader, writer = await asyncio.open_unix_connection(short)
        finally:
            os.close(folder)
        return cls(reader, writer)

    @property
    def lost(self) -> bool:
        """Whether it has ended."""
        return self._reading.done()

    async def request(self, request: control.Request) -> control.Reply:
        """Send a request and wait for its reply. Raises Lost."""
        if self.lost:
            raise Lost
        future: asyncio.Future[control.Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._writer.write(control.pack(request))
        return await future

    async def _read(self, reader: asyncio.StreamReader) -> None:
        received = bytearray()
        try:
            while data := await reader.read(1 << 16):
                received += data
                for reply in control.take_replies(received):
                    future = self._waiting.popleft()
                    if not future.done():
                        future.set_result(reply)
        except (OSError, msgspec.DecodeError, IndexError) as error:
            log.warning("the connection to the names process: %s", error)
        finally:
            while self._waiting:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(Lost("the names process ended"))
            self._writer.close()

    async def wait_lost(self) -> None:
        """Wait until it has ended."""
        await asyncio.wait([self._reading])

    async def close(self) -> None:
        """End it."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
