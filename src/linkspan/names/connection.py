"""The control socket as the daemon sees it: requests, and their replies in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
from collections import deque

import msgspec

from linkspan.names import control

log = logging.getLogger("linkspan.names")
PATIENCE = 10.0
"""Seconds that the process may take to do what it is told."""
_DYING = 2.0
"""Seconds that a killed process may take to be gone."""
_UCRED = struct.Struct("iII")  # struct ucred: process, user, group (unix(7), SO_PEERCRED)


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

    async def request(self, request: control.Request, patience: float = PATIENCE) -> control.Reply:
        """Send a request and wait for its reply. Raises Lost.

        A process that does not reply within `patience` seconds, because it is stopped or hangs,
        would hold up every change: it is killed, and the connection is lost.
        """
        if self.lost:
            raise Lost
        future: asyncio.Future[control.Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._writer.write(control.pack(request))
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            await self._give_up(patience)
            raise Lost(f"the names process did not reply within {patience:g} s") from None

    async def _give_up(self, patience: float) -> None:
        if not self.lost:
            process = self._process()
            log.error(
                "the names process (process %d) did not reply within %g s; it is killed",
                process, patience,
            )  # fmt: skip
            if process:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            # Its socket is there until it is gone, and would take the next connection.
            await asyncio.wait([self._reading], timeout=_DYING)
        await self.close()

    def _process(self) -> int:
        """Who listens at the other end; 0 when that is not the names process."""
        channel = self._writer.get_extra_info("socket")
        found = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        process: int = _UCRED.unpack(found)[0]
        try:
            with open(f"/proc/{process}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            return 0
        return process if process > 1 and control.MODULE.encode() in words else 0

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
