"""The names process: `python -m linkspan.names.server --run-dir DIR`.

The daemon starts it and speaks to it on DIR/names.sock; it lives on when the daemon ends, so
names go on working. It ends when it is told to, or when for a while nobody has asked it to
answer anybody. Told to upgrade, it becomes the new program with its sockets open: questions
that come in between wait in them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time

import msgspec

from linkspan.errors import LinkspanError
from linkspan.names import control
from linkspan.names.control import Done, Hello, Inspect, Replace, State, Stop, Update, Upgrade
from linkspan.names.logs import start_log
from linkspan.names.loop import BROKEN, READ, WRITE, Loop
from linkspan.names.records import Names, Resolver
from linkspan.names.resolvconf import HOST_FILE
from linkspan.names.service import Service
from linkspan.names.sockets import Sockets

log = logging.getLogger("linkspan.names")
INHERITED = "LINKSPAN_NAMES_INHERITED"
"""Number of the descriptor that holds what an older program of this process left."""
IDLE = 30.0
"""Seconds without a sandbox and without a daemon after which the process ends."""


class Inheritance(msgspec.Struct, frozen=True):
    """What one program leaves to the next: descriptors, whose they are, and all names."""

    control: int
    lock: int
    listeners: list[tuple[Resolver, int, int]]
    names: Names


class Server:
    """The process: a service, and the control socket by which it is told what to know."""

    def __init__(self, run_dir: str, host_file: str) -> None:
        self._run_dir = run_dir
        self._loop = Loop()
        self._service = Service(self._loop, host_file)
        self._clients: set[_Client] = set()
        self._idle_since = time.monotonic()
        inherited = _take_inheritance()
        if inherited is None:
            self._lock = _lock(run_dir)
            self._control = _listen(control.socket_path(run_dir))
        else:
            self._lock = inherited.lock
            self._control = socket.socket(fileno=inherited.control)
            for resolver, udp, tcp in inherited.listeners:
                self._service.adopt(
                    Sockets(resolver, socket.socket(fileno=udp), socket.socket(fileno=tcp))
                )
            self._service.replace(inherited.names)
        self._loop.watch(self._control.fileno(), self._accept)
        self._loop.call_later(IDLE, self._end_if_idle)

    def run(self) -> None:
        """Answer until the end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._loop.stop())
        # A signal must wake the loop, which ends then: what is written there is not read.
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._loop.watch(reading, lambda _: None)
        self._loop.run()

    def close(self) -> None:
        """Take everything out of the sandboxes, and the control socket away."""
        self._service.close()
        for client in list(self._clients):
            client.close()
        try:
            os.unlink(control.socket_path(self._run_dir))
        except OSError:
            pass
        self._control.close()

    def _accept(self, _: int) -> None:
        try:
            accepted, _ = self._control.accept()
        except OSError:
            return
        accepted.setblocking(False)
        self._clients.add(_Client(self, self._loop, accepted))

    def forget(self, client: _Client) -> None:
        """A client of the control socket has left."""
        self._clients.discard(client)
        self._idle_since = time.monotonic()

    def _end_if_idle(self) -> None:
        busy = bool(self._service.listeners or self._clients)
        if busy:
            self._idle_since = time.monotonic()
        if time.monotonic() - self._idle_since >= IDLE:
            self._loop.stop()
        else:
            self._loop.call_later(IDLE / 4, self._end_if_idle)

    # Requests

    def carry_out(self, request: control.Request) -> control.Reply:
        """Do what the daemon says; the reply means that it is in force."""
        match request:
            case Hello():
                return control.Welcome(control.version(), control.PROTOCOL, os.getpid())
            case Replace(names):
                return Done(self._service.replace(names))
            case Update(change):
                return Done(self._service.update(change))
            case Inspect():
                service = self._service
                return State(
                    service.contents(),
                    service.host_servers,
                    len(service.forwarder.cache),
                    dict(service.problems),
                )
            case Stop():
                self._service.close()
                self._loop.stop()
                return Done()
            case Upgrade(command, environment):
                # After the reply has been sent.
                self._loop.call_later(0, lambda: self._become(command, environment))
                return Done()

    def _become(self, command: list[str], environment: dict[str, str]) -> None:
        for client in list(self._clients):
            client.close()
        listeners = [
            (listener.resolver, listener.sockets.udp.fileno(), listener.sockets.tcp.fileno())
            for listener in self._service.listeners.values()
        ]
        left = Inheritance(self._control.fileno(), self._lock, listeners, self._service.contents())
        memory = os.memfd_create("linkspan-names", 0)
        with open(memory, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(left))
        kept = [memory, left.control, left.lock, *(fd for _, *pair in listeners for fd in pair)]
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        try:
            os.execve(command[0], command, {**environment, INHERITED: str(memory)})
        except OSError:
            log.exception("cannot become %s; going on as before", command)
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            os.close(memory)


class _Client:
    """A connection on the control socket: a daemon's, or one of a person who looks."""

    def __init__(self, server: Server, loop: Loop, connected: socket.socket) -> None:
        self._server = server
        self._loop = loop
        self._socket = connected
        self._received = bytearray()
        self._unsent = bytearray()
        loop.watch(connected.fileno(), self._go_on)

    def close(self) -> None:
        """End the connection; twice is fine."""
        if self._socket.fileno() >= 0:
            self._flush_once()
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._server.forget(self)

    def _go_on(self, events: int) -> None:
        try:
            if events & READ:
                data = self._socket.recv(1 << 16)
                if not data:
                    self.close()
                    return
                self._received += data
            elif events & BROKEN:
                self.close()
                return
            for request in control.take_requests(self._received):
                self._unsent += control.pack(self._server.carry_out(request))
            self._flush()
        except BlockingIOError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("a control connection ended: %s", error)
            self.close()

    def _flush(self) -> None:
        self._flush_once()
        events = READ | (WRITE if self._unsent else 0)
        self._loop.watch(self._socket.fileno(), self._go_on, events)

    def _flush_once(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()


def _lock(run_dir: str) -> int:
    """Be the only one of this run folder; held until the process ends."""
    descriptor = os.open(os.path.join(run_dir, control.LOCK), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another names process serves {run_dir}") from None
    return descriptor


def _listen(path: str) -> socket.socket:
    """The control socket, for root alone."""
    try:
        os.unlink(path)  # left by one that was killed: the lock says that it is dead
    except FileNotFoundError:
        pass
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        # A socket's address has room for 107 bytes; a folder's descriptor makes any path short.
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            listening.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)
    finally:
        os.umask(before)
    listening.listen(16)
    return listening


def _take_inheritance() -> Inheritance | None:
    number = os.environ.pop(INHERITED, None)
    if number is None:
        return None
    with open(int(number), "rb") as file:
        file.seek(0)
        left = msgspec.json.decode(file.read(), type=Inheritance)
    for descriptor in (
        left.control,
        left.lock,
        *(fd for _, *pair in left.listeners for fd in pair),
    ):
        os.set_inheritable(descriptor, False)
    return left


def main() -> None:
    """Serve until told to stop. Writes a line to the descriptor --ready when it listens."""
    parser = argparse.ArgumentParser(prog="linkspan-names", description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--resolv-conf", default=HOST_FILE)
    parser.add_argument("--ready", type=int)
    arguments = parser.parse_args()
    start_log(arguments.run_dir)
    try:
        server = Server(arguments.run_dir, arguments.resolv_conf)
    except (LinkspanError, OSError) as error:
        log.error("cannot start: %s", error)
        sys.exit(f"linkspan names: {error}")
    if arguments.ready is not None:
        os.write(arguments.ready, b"ready\n")
        os.close(arguments.ready)
    log.info("serving %s", json.dumps(arguments.run_dir))
    try:
        server.run()
    finally:
        server.close()


if __name__ == "__main__":
    main()
