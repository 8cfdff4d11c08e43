"""The lab itself: makes namespaces, wires, programs and daemons, and takes them away again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from lab import places
from lab.daemon import Daemon
from lab.places import Namespace, Place, path_of
from lab.processes import SLOWER, Process, end_process, wait_until
from lab.traffic import (
    Answer,
    Conversation,
    Listener,
    exchange_tcp,
    exchange_udp,
    family_of,
)

RUN = os.environ.setdefault("LINKSPAN_TEST_RUN", secrets.token_hex(3))
"""Marks what belongs to this run of the tests, in names, paths and environments."""


class Lab:
    """Namespaces, wires, traffic and daemons that vanish together. A context manager.

    A place is a Namespace, the path of a namespace (such as a sandbox's `netns`), or a process
    id. Commands are strings, split as a shell would, or sequences.
    """

    def __init__(self) -> None:
        self.mark = f"lst-{RUN}-{secrets.token_hex(2)}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.mark}-"))
        self.daemons: list[Daemon] = []
        self._namespaces: list[Namespace] = []
        self._processes: list[Process] = []
        self._listeners: list[Listener] = []
        self._conversations: list[Conversation] = []

    # Places and wires

    def namespace(self, word: str) -> Namespace:
        """Make a namespace with loopback up; `word` says what it stands for."""
        made = Namespace(word, f"{self.mark}-{word}")
        self._namespaces.append(made)
        places.add_namespace(made.name)
        return made

    def veth(
        self,
        left: Namespace,
        left_name: str,
        left_addresses: str | Sequence[str],
        right: Namespace,
        right_name: str,
        right_addresses: str | Sequence[str],
        mtu: int = 1500,
    ) -> None:
        """Wire two namespaces together; addresses are "192.0.2.10/24" or several of them."""
        peer = ("peer", "name", right_name, "mtu", str(mtu), "netns", right.name)
        places.run_ip(
            *("-n", left.name, "link", "add", left_name, "mtu", str(mtu), "type", "veth", *peer)
        )
        for end, name, addresses in (
            (left, left_name, left_addresses),
            (right, right_name, right_addresses),
        ):
            for address in [addresses] if isinstance(addresses, str) else addresses:
                if address:
                    self.address(end, name, address)
            # A wire works at once: nobody waits until its link-local address is found unique.
            self.run(end, ["sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=0"])
            places.run_ip("-n", end.name, "link", "set", name, "up")

    def address(self, place: Namespace, link: str, address: str) -> None:
        """Add an address; IPv6 without duplicate detection, so that it works at once."""
        extra = ("nodad",) if ":" in address else ()
        places.run_ip("-n", place.name, "address", "add", address, "dev", link, *extra)

    def route(self, place: Namespace, *words: str) -> None:
        """Add a route, in iproute2's words: `lab.route(host, "default", "via", "192.0.2.1")`."""
        family = ("-6",) if any(":" in word for word in words) else ()
        places.run_ip("-n", place.name, *family, "route", "add", *words)

    # Programs

    def run(
        self,
        place: Place,
        command: str | Sequence[str],
        check: bool = True,
        stdin: str = "",
        timeout: float = 20.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a place and return when it has ended; a failure shows its output."""
        done = subprocess.run(
            _entered(place, command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout * SLOWER,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{command!r} in {place}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def spawn(
        self,
        place: Place,
        command: str | Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a program in a place, in the background; it is ended when the lab closes."""
        log = self.directory / f"process-{len(self._processes)}.log"
        process = Process(_entered(place, command), log, environment)
        self._processes.append(process)
        return process

    # Traffic

    def socket(
        self,
        place: Place,
        family: int = socket.AF_INET,
        kind: int = socket.SOCK_STREAM,
        protocol: int = 0,
    ) -> socket.socket:
        """A socket in a place (raw and packet sockets too); the caller closes it."""
        return places.open_socket(place, family, kind, protocol)

    def listener_tcp(self, place: Place, address: str, port: int, reply: str = "") -> Listener:
        """Listen; each connection gets a line that `fetch` decodes, then an echo of its lines."""
        return self._listen(place, address, port, reply, socket.SOCK_STREAM)

    def listener_udp(self, place: Place, address: str, port: int, reply: str = "") -> Listener:
        """Answer each datagram with a line that `fetch` decodes."""
        return self._listen(place, address, port, reply, socket.SOCK_DGRAM)

    def _listen(self, place: Place, address: str, port: int, reply: str, kind: int) -> Listener:
        listener = Listener(place, address, port, reply, kind)
        self._listeners.append(listener)
        return listener

    def fetch(
        self,
        place: Place,
        address: str,
        port: int,
        protocol: str = "tcp",
        timeout: float = 4.0,
        request: bytes = b"",
        source: str = "",
    ) -> Answer:
        """Ask a server from a place: (ok, the client's address that it saw, its reply, ...).

        Without a `request` it reads one line, as lab listeners send; with one it sends that and
        reads to the end. `source` binds the client's address. Failure is an Answer too.
        A question or a SYN that is lost is sent again after a second, so that shorter timeouts
        are for those who expect silence.
        """
        exchange = {"tcp": exchange_tcp, "udp": exchange_udp}[protocol]
        return exchange(place, address, port, timeout, request, source)

    def connect(self, place: Place, address: str, port: int, timeout: float = 5.0) -> Conversation:
        """Open a connection to a TCP listener and keep it, to see later whether it still works."""
        client = places.open_socket(place, family_of(address), socket.SOCK_STREAM)
        client.settimeout(timeout)
        client.connect((address, port))
        conversation = Conversation(client)
        self._conversations.append(conversation)
        return conversation

    # Daemons

    def daemon(
        self,
        place: Place,
        *arguments: str,
        start: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Daemon:
        """A linkspan daemon in a place, answering when this returns (unless `start` is false)."""
        directory = self.directory / f"d{len(self.daemons)}"
        directory.mkdir()
        daemon = Daemon(place, directory, arguments, environment)
        self.daemons.append(daemon)
        if start:
            daemon.start()
        return daemon

    # Back to an earlier moment

    def bookmark(self) -> tuple[int, ...]:
        """This moment, for `return_to`."""
        return (
            len(self._conversations), len(self._listeners), len(self._processes),
            len(self._namespaces), len(self.daemons),
        )  # fmt: skip

    def return_to(self, moment: tuple[int, ...]) -> None:
        """End the traffic, programs and namespaces that came after a bookmark; not what was
        changed in namespaces that stay. Fails when a daemon came after it.
        """
        conversations, listeners, processes, kept, daemons = moment
        assert len(self.daemons) == daemons, "a lab with another daemon has no way back"
        for conversation in self._conversations[conversations:]:
            conversation.close()
        for process in self._processes[processes:]:
            process.end()
        for listener in self._listeners[listeners:]:
            listener.close()
        gone = self._namespaces[kept:]
        if gone:
            identities = {places.identity_of(one) for one in gone if Path(one.path).exists()}
            wait_until(lambda: not self._kill_inside(identities), "processes in the lab to end")
        for namespace in gone:
            places.delete_namespace(namespace.name)
        del self._conversations[conversations:], self._processes[processes:]
        del self._listeners[listeners:], self._namespaces[kept:]

    # The end

    def close(self) -> None:
        """Take everything away; fails when a purge claimed success and left something."""
        for conversation in self._conversations:
            conversation.close()
        left = [line for daemon in self.daemons for line in self._close_daemon(daemon)]
        for process in self._processes:
            process.end()
        for listener in self._listeners:
            listener.close()
        self._sweep()
        if left:
            raise AssertionError("purge left behind:\n" + "\n".join(left))

    def _close_daemon(self, daemon: Daemon) -> list[str]:
        """Purge and stop one daemon; returns what a purge that succeeded left behind."""
        purged = False
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if daemon.process:
                purged = daemon.purge().returncode == 0
        if daemon.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.stop()
            if daemon.running:
                daemon.kill()
        if not purged:
            return []
        return [f"mount {point}" for point in places.mounts_under(daemon.directory)]

    def _sweep(self) -> None:
        """End what still lives in our namespaces, then remove mounts, namespaces and files."""
        points = places.mounts_under(self.directory)
        identities: set[tuple[int, int]] = set()
        held: list[Place] = [*self._namespaces, *map(Path, points)]
        for place in held:
            with contextlib.suppress(OSError):
                identities.add(places.identity_of(place))
        wait_until(lambda: not self._kill_inside(identities), "processes in the lab to end")
        for point in points:
            subprocess.run(["umount", "--lazy", point], capture_output=True)
        for namespace in self._namespaces:
            places.delete_namespace(namespace.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill_inside(self, identities: set[tuple[int, int]]) -> list[int]:
        inside = list(places.processes_in(identities))
        for pid in inside:
            end_process(pid)
        return inside

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _entered(place: Place, command: str | Sequence[str]) -> list[str]:
    words = shlex.split(command) if isinstance(command, str) else list(command)
    return ["nsenter", f"--net={path_of(place)}", *words]
