"""Joining this process's standard streams, or any other descriptors, to a container's.

Speaks with conmon directly, without the daemon: through the socket `attach` (SOCK_SEQPACKET; to
us each packet is a stream number and what was written there, from us plain input) and the pipe
`ctl` (window sizes). Leaving never kills; without a terminal it ends the container's input.

Synchronous, and light to import: it is the command line that attaches.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import signal
import socket
import struct
import termios
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

from linkspan.errors import NotFound

STDOUT, STDERR = 2, 3
"""First byte of a packet (conmon, src/utils.h: stdpipe_t)."""

LARGEST_PACKET = 8192 + 1
"""conmon reads a container's output into buffers of 8192 bytes (src/config.h)."""

INPUT_AT_ONCE = 8192
"""conmon cuts off what is longer than 32768 bytes."""

RESIZE = 1
"""Number of the window size message on the control pipe."""

DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q."""


class AttachEnd(enum.Enum):
    """Why `AttachClient.join` returned."""

    ENDED = "ended"
    DETACHED = "detached"
    OUTPUT_CLOSED = "output closed"


class AttachClient:
    """A connection to one container or exec session; a context manager.

    Connect before the program is started, and none of its output is missed.
    """

    def __init__(self, directory: Path) -> None:
        """Connect to what has its attach socket in `directory`.

        Raises:
            NotFound: nothing runs there (any more).
        """
        self.directory = directory
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connect_below(self.socket, directory, "attach")
        except OSError as error:
            self.socket.close()
            raise NotFound(f"nothing runs in {directory}: {error.strerror}") from error

    def __enter__(self) -> AttachClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave. A container without a terminal sees the end of its input."""
        self.socket.close()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal its size. Without effect when the container has ended."""
        try:
            control = os.open(self.directory / "ctl", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.write(control, f"{RESIZE} {rows} {columns}\n".encode())
        except BlockingIOError:
            pass  # conmon has not read for a while; the next size is as good
        finally:
            os.close(control)

    def join(
        self,
        *,
        stdin: int | None = 0,
        stdout: int = 1,
        stderr: int = 2,
        terminal: bool = False,
        detach_keys: bytes = DETACH_KEYS,
    ) -> AttachEnd:
        """Pass bytes both ways until the container ends or the user leaves.

        `stdin` None means that the container gets no input from here; its end is passed on.
        `terminal` means that the container has a terminal: if `stdin` is one too, it is put in
        raw mode meanwhile, its size is passed on, and `detach_keys` leave.
        """
        if not terminal or stdin is None or not os.isatty(stdin):
            return Pump(self.socket, stdin, stdout, stderr, b"").run()
        with raw_terminal(stdin), followed_size(stdin, self):
            return Pump(self.socket, stdin, stdout, stderr, detach_keys).run()


class Pump:
    """Moves bytes between a connection and three descriptors."""

    def __init__(
        self,
        connection: socket.socket,
        stdin: int | None,
        stdout: int,
        stderr: int,
        detach_keys: bytes,
    ) -> None:
        self.connection = connection
        self.stdin = stdin
        self.outputs = {STDOUT: stdout, STDERR: stderr}
        self.keys = DetachKeys(detach_keys)
        self.pending = b""
        self.input_ended = False

    def run(self) -> AttachEnd:
        """Move bytes until one side is done."""
        while True:
            readable, writable = self._wait()
            if writable:
                self._send()
            if self.connection.fileno() in readable:
                end = self._receive()
                if end is not None:
                    return end
            if self.stdin is not None and self.stdin in readable and self._read_input():
                return AttachEnd.DETACHED

    def _wait(self) -> tuple[set[int], bool]:
        """Which descriptors can be read, and whether pending input can be sent."""
        poll = select.poll()
        number = self.connection.fileno()
        # New input is read only when the last was sent: the container sets the pace.
        poll.register(number, select.POLLIN | (select.POLLOUT if self.pending else 0))
        if self.stdin is not None and not self.pending:
            poll.register(self.stdin, select.POLLIN)
        events = dict(poll.poll())
        readable = {place for place, event in events.items() if event & ~select.POLLOUT}
        return readable, bool(events.get(number, 0) & select.POLLOUT)

    def _read_input(self) -> bool:
        """Take input; True if the user wants to leave."""
        assert self.stdin is not None
        try:
            data = os.read(self.stdin, INPUT_AT_ONCE)
        except OSError:  # a terminal that was hung up
            data = b""
        if not data:
            self.stdin = None
            self.input_ended = True
            self._end_input()
            return False
        passed, leave = self.keys.take(data)
        self.pending = passed
        self._send()
        return leave

    def _send(self) -> None:
        if self.pending:
            try:
                self.connection.send(self.pending, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:  # the container is gone; what it wrote is still to be read
                self.stdin = None
            self.pending = b""
        if self.input_ended:
            self._end_input()

    def _end_input(self) -> None:
        if not self.pending:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)

    def _receive(self) -> AttachEnd | None:
        """Pass one packet on; says so if it was the last."""
        try:
            packet = self.connection.recv(LARGEST_PACKET)
        except ConnectionResetError:
            # It ended without reading our input. The error comes before what is queued.
            return None
        if not packet:
            return AttachEnd.ENDED
        target = self.outputs.get(packet[0])
        if target is None:
            return None
        try:
            write_all(target, packet[1:])
        except BrokenPipeError:
            return AttachEnd.OUTPUT_CLOSED
        return None


class DetachKeys:
    """Finds a sequence of keys in input that comes in pieces."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = b""

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on of this input, and whether the sequence is complete.

        A beginning of the sequence is held back until it is clear what it is.
        """
        if not self.keys:
            return data, False
        data, self.held = self.held + data, b""
        found = data.find(self.keys)
        if found >= 0:
            return data[:found], True
        for length in range(min(len(self.keys) - 1, len(data)), 0, -1):
            if data.endswith(self.keys[:length]):
                self.held = data[-length:]
                return data[:-length], False
        return data, False


def connect_below(connection: socket.socket, directory: Path, name: str) -> None:
    """Connect to a socket in a directory, however long its path is.

    A socket's address has room for 107 bytes; /proc/self/fd makes any directory short.
    """
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{place}/{name}")
    finally:
        os.close(place)


def write_all(target: int, data: bytes) -> None:
    """Write everything, also to a descriptor that somebody made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            select.select([], [target], [])


def read_size(terminal: int) -> tuple[int, int]:
    """Rows and columns of a terminal; zeros if it does not know."""
    try:
        rows, columns = termios.tcgetwinsize(terminal)
    except (OSError, struct.error, termios.error):
        return 0, 0
    return rows, columns


@contextlib.contextmanager
def raw_terminal(terminal: int) -> Iterator[None]:
    """Pass every key on as it is; afterwards the terminal is as before."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSANOW)  # the default would drop what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def followed_size(terminal: int, client: AttachClient) -> Iterator[None]:
    """Give the container's terminal the size of this one, now and whenever it changes."""

    def pass_on(*_: object) -> None:
        rows, columns = read_size(terminal)
        if rows and columns:
            client.resize(rows, columns)

    pass_on()
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread only
        return
    before = signal.signal(signal.SIGWINCH, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
