"""Sending one real flow and seeing what becomes of it, without leaving anything behind.

Captures and rule traces are opened in every namespace that is to be watched, then one attempt
is made. What was opened is closed again whatever happens; what the kernel remembers of the
flow is forgotten.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from linkspan.dataplane.sightings import Headers, Observation, Outcome, Ruling, Sighting, Tracked
from linkspan.errors import KernelRefused, LinkspanError, NotFound
from linkspan.kernel import namespaces
from linkspan.kernel.livepackets import Capture, Marks
from linkspan.kernel.livesending import Attempt, Sender
from linkspan.kernel.netfilter.births import NewConnections
from linkspan.kernel.netfilter.conntrack import Conntrack
from linkspan.kernel.netfilter.flows import ConntrackEntry, ConntrackFilter, FlowTuple
from linkspan.kernel.netfilter.tracing import RuleTrace, is_own

_SETTLE, _QUIET = 0.5, 0.05
"""Seconds in which packets that are under way are waited for, and without one that are the end
of it; a chain of veth links takes microseconds."""
_STAMPING = 0.02
"""Seconds after which the kernel stamps packets (a work item, net_enable_timestamp)."""
_CLOSERS = 16


class _Closable(Protocol):
    def close(self) -> None: ...


class Ready(NamedTuple):
    """A sender that holds its port: what it will send can be predicted now."""

    sender: Sender
    attempt: Attempt
    namespace: str


@contextlib.contextmanager
def open_sender(path: str | None, namespace: str, attempt: Attempt) -> Iterator[Ready]:
    """Hold a port for an attempt from a namespace (a file; None for one's own) for a block.

    Raises NotFound for a namespace that is gone, and as `Sender` does.
    """
    with _opened(path) as descriptor:
        sender = Sender(descriptor, attempt)
    try:
        yield Ready(sender, attempt._replace(port=sender.port), namespace)
    finally:
        sender.close()


def send_and_watch(
    ready: Ready,
    places: Mapping[str, str | None],
    ports: Collection[int] = (),
    pairs: Collection[tuple[str, str, int]] = (),
    untraced: Collection[str] = (),
    timeout: float = 2.0,
) -> Observation:
    """Make the attempt, and watch it in `places` (namespaces by name -> file, None: own).

    `ports` are what translations are known to make of the sender's port, `pairs` source,
    destination and its port behind translations that may give any port. Rules are not traced in
    `untraced` namespaces. The attempt counts as unanswered after `timeout` seconds.
    Raises PermissionRefused, KernelRefused.
    """
    watch = _Watch(ready, Marks(frozenset((ready.sender.port, *ports)), frozenset(pairs)))
    try:
        for name, path in places.items():
            watch.add(name, path, name not in untraced)
            if name in untraced:
                watch.unseen.append(
                    f"the rules of {name}: it has tables of the old iptables, and a trace of those "
                    "is written to the kernel's log"
                )
        time.sleep(max(0.0, ready.sender.opened + _STAMPING - time.monotonic()))
        sent = ready.sender.begin()
        outcome = watch.wait(timeout)
        tracked = watch.read_tracked()
        own = _Own(watch.marks.ports, tracked)
    finally:
        watch.close()
    return Observation(
        sent=sent,
        outcome=outcome,
        sightings=tuple(
            sorted((s for s in watch.sightings if own.has(s.headers)), key=lambda one: one.at)
        ),
        rulings=tuple(r for r in watch.rulings if r.headers is None or own.has(r.headers)),
        tracked=tracked,
        watched=tuple(watch.captures),
        traced=tuple(name for name, trace in watch.traces.items() if trace.supported),
        unseen=tuple(watch.unseen),
        left_over=tuple(watch.left_over),
    )


class _Watch:
    """All that is open while one flow is watched."""

    def __init__(self, ready: Ready, marks: Marks) -> None:
        self._sender = ready.sender
        self._version = ready.attempt.version
        self._protocol = ready.attempt.protocol
        if self._protocol == "icmp" and self._version == 6:
            self._protocol = "ipv6-icmp"
        self.marks = marks
        self.captures: dict[str, Capture] = {}
        self.traces: dict[str, RuleTrace] = {}
        self._news: dict[str, NewConnections] = {}
        self._born: list[tuple[str, ConntrackEntry]] = []
        self._descriptors: dict[str, int] = {}
        self.sightings: list[Sighting] = []
        self.rulings: list[Ruling] = []
        self.unseen: list[str] = []
        self.left_over: list[str] = []

    def add(self, name: str, path: str | None, trace: bool) -> None:
        """Watch a namespace; one that is gone is said to be unseen."""
        try:
            descriptor = namespaces.open_own() if path is None else namespaces.open_path(path)
        except NotFound as error:
            self.unseen.append(f"{name}: {error.message}")
            return
        self._descriptors[name] = descriptor
        flow = (descriptor, name, self._version, self._protocol, self.marks)
        self.captures[name] = Capture(*flow)
        if self.marks.pairs:
            # A connection that is refused is forgotten at once, with what it was translated to.
            self._news[name] = NewConnections(descriptor)
        if not trace:
            return
        with namespaces.entered(descriptor):
            links = dict(socket.if_nameindex())
        self.traces[name] = made = RuleTrace(*flow, links)
        if not made.supported:
            self.unseen.append(
                f"the rules of {name}: this kernel has no tables that vanish with their owner"
            )

    def wait(self, timeout: float) -> Outcome:
        """Until the attempt has ended and what it stirred up has come to rest."""
        poller = select.poll()
        poller.register(self._sender.fileno(), select.POLLIN | select.POLLOUT | select.POLLERR)
        for capture in self.captures.values():
            poller.register(capture.fileno(), select.POLLIN)
        for trace in self.traces.values():
            if trace.active:
                poller.register(trace.fileno(), select.POLLIN)
        end = time.monotonic() + timeout
        outcome = self._sender.poll()
        waits_for_sender = True
        while outcome is None and (left := end - time.monotonic()) > 0:
            ready = {number for number, _ in poller.poll(min(left, 0.2) * 1000)}
            outcome = self._sender.poll()
            if waits_for_sender and self._sender.fileno() in ready and outcome is None:
                # A datagram socket can always be written to: only wait for what comes in.
                poller.modify(self._sender.fileno(), select.POLLIN | select.POLLERR)
                waits_for_sender = False
            self._read()
        self._settle(poller)
        return outcome or Outcome(kind="no-answer", detail=f"no answer within {timeout:g} s")

    def _settle(self, poller: select.poll) -> None:
        """Until nothing has come for a moment."""
        poller.unregister(self._sender.fileno())
        end = time.monotonic() + _SETTLE
        self._read()
        while (left := end - time.monotonic()) > 0 and poller.poll(min(left, _QUIET) * 1000):
            self._read()

    def _read(self) -> None:
        for capture in self.captures.values():
            self.sightings += capture.read()
        for trace in self.traces.values():
            self.rulings += trace.read()

    # Connection tracking ------------------------------------------------------------------

    def read_tracked(self) -> tuple[Tracked, ...]:
        """What connection tracking holds of the flow now, in all namespaces."""
        return tuple(_as_tracked(name, entry) for name, entry in self._entries())

    def _entries(self) -> list[tuple[str, ConntrackEntry]]:
        """The flow's entries: those with its sender's port, and those that follow from them."""
        family = "ip" if self._version == 4 else "ip6"
        protocol = "icmpv6" if self._protocol == "ipv6-icmp" else self._protocol
        wanted = ConntrackFilter(family=family, protocol=protocol)
        for name, news in self._news.items():
            self._born += [(name, entry) for entry in news.read() if wanted.matches(entry)]
        waiting = [row for row in self._born if row[0] in self._descriptors]
        for name, descriptor in self._descriptors.items():
            with contextlib.suppress(LinkspanError), Conntrack(descriptor) as table:
                if table.count():
                    waiting += [(name, entry) for entry in table.dump(wanted)]
        waiting = list({(name, one.original): (name, one) for name, one in waiting}.values())
        known = {one.headers.source for one in self.sightings}
        known |= {one.headers.destination for one in self.sightings}
        found: list[tuple[str, ConntrackEntry]] = []
        ports = set(self.marks.ports)
        while True:
            more = [row for row in waiting if _belongs(row[1], ports, known)]
            if not more:
                return found
            found += more
            waiting = [row for row in waiting if row not in more]
            ports |= {_port_of(entry.reply, False) for _, entry in more}
            known |= {end for _, one in more for end in (one.reply.source, one.reply.destination)}

    # The end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove and close everything; what cannot be removed is said to be left over."""
        self._sender.close()
        for name, trace in self.traces.items():
            with self._noting(f"the tables of ours in {name}"):
                trace.close()
        for name, entry in self._entries():
            what = f"what connection tracking has of the flow in {name}"
            with self._noting(what), Conntrack(self._descriptors[name]) as table:
                table.delete([entry])
        for news in self._news.values():
            news.close()
        with ThreadPoolExecutor(_CLOSERS) as pool:
            list(pool.map(_close, self.captures.values()))
        for name, descriptor in self._descriptors.items():
            if name in self.traces and self.traces[name].tables:
                with self._noting(f"whether tables of ours are left in {name}"):
                    self._check(name, descriptor)
            os.close(descriptor)
        self._descriptors.clear()

    def _check(self, name: str, descriptor: int) -> None:
        from linkspan.kernel.netfilter import observed
        from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket

        mine = f"-{os.getpid()}"
        with NetlinkSocket(NETFILTER, descriptor) as sock:
            for family, table in observed.list_tables(sock):
                if is_own(table) and table.endswith(mine):
                    self.left_over.append(f"table {family} {table} in {name}")

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except KernelRefused as error:
            self.left_over.append(f"{what}: {error.message}")


class _Own:
    """Which of the packets that were caught are the flow's, after all is known."""

    def __init__(self, ports: Collection[int], tracked: Collection[Tracked]) -> None:
        self._ports = ports
        self._ends = {_ends(one) for entry in tracked for one in (entry.original, entry.reply)}

    def has(self, headers: Headers) -> bool:
        """Whether such a packet is one of the flow's; errors about it are."""
        if headers.source_port in self._ports or headers.destination_port in self._ports:
            return True
        if not headers.source_port and not headers.destination_port:
            return True
        back = (headers.destination, headers.source)
        ends = _ends(headers)
        return bool({ends, (*back, ends[3], ends[2])} & self._ends)


def _ends(headers: Headers) -> tuple[str, str, int, int]:
    ports = headers.source_port, headers.destination_port
    return headers.source, headers.destination, *ports


def _port_of(ends: FlowTuple, source: bool) -> int:
    if ends.icmp is not None:
        return ends.icmp[0]
    return (ends.source_port if source else ends.destination_port) or 0


def _belongs(entry: ConntrackEntry, ports: Collection[int], known: Collection[str]) -> bool:
    ends = entry.original
    return _port_of(ends, True) in ports and (ends.source in known or ends.destination in known)


def _close(one: _Closable) -> None:
    one.close()


def _as_tracked(name: str, entry: ConntrackEntry) -> Tracked:
    return Tracked(
        namespace=name, original=_as_headers(entry.original), reply=_as_headers(entry.reply),
        status=entry.status,
    )  # fmt: skip


def _as_headers(ends: FlowTuple) -> Headers:
    protocol = "ipv6-icmp" if ends.protocol == "icmpv6" else ends.protocol
    if ends.icmp is not None:
        return Headers(
            source=ends.source, destination=ends.destination, protocol=protocol,
            source_port=ends.icmp[0], destination_port=ends.icmp[0],
        )  # fmt: skip
    return Headers(
        source=ends.source, destination=ends.destination, protocol=protocol,
        source_port=ends.source_port or 0, destination_port=ends.destination_port or 0,
    )  # fmt: skip


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[int]:
    descriptor = namespaces.open_own() if path is None else namespaces.open_path(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
