"""Hear of changes that others make to the ruleset (multicast group NFNLGRP_NFTABLES).

Every transaction ends with a message that names its generation and the process behind it
(nf_tables_gen_notify), so what is reported is one event a table and transaction. Changes of
our own sockets are told apart by their port ids and left out.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Collection

import msgspec

from linkspan.dataplane.rules import Chain
from linkspan.kernel.netfilter import batch
from linkspan.kernel.netfilter.batch import FAMILY_NAMES
from linkspan.kernel.netfilter.observed import read_chain
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket, Overrun
from linkspan.kernel.netlink.wire import HEADER_SIZE, parse_attributes, read_text

_GROUP = 7
_header = struct.Struct("=IHHII")
_PROCESS_NAME = 3
_WHAT = {
    batch.NEW_TABLE: "table added or changed", batch.DELETE_TABLE: "table removed",
    batch.NEW_CHAIN: "chain added or changed", batch.DELETE_CHAIN: "chain removed",
    batch.NEW_RULE: "rule added", batch.DELETE_RULE: "rule removed",
    batch.NEW_SET: "set added", batch.DELETE_SET: "set removed",
    batch.NEW_ELEMENT: "element added", batch.DELETE_ELEMENT: "element removed",
}  # fmt: skip

TableKey = tuple[str, str]
"""Family and name."""


class TableChanged(msgspec.Struct, frozen=True, tag="table_changed"):
    """Somebody else changed a table of ours. `what` has each kind of change once."""

    family: str
    table: str
    what: tuple[str, ...]
    process: str
    """Name of the process that did it, "" when unknown."""


class ForeignChain(msgspec.Struct, frozen=True, tag="foreign_chain"):
    """Somebody added a base chain, or changed one: it sees packets before or after ours."""

    family: str
    table: str
    chain: Chain
    process: str


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """Notifications were lost: whatever is known of the ruleset must be read again."""


Event = TableChanged | ForeignChain | Lost


class RulesetMonitor:
    """A subscription to changes of the ruleset of one namespace.

    `tables` are ours; `own_ports` the port ids of our sockets: the collection is looked at
    when a notification comes, so it may grow. Use `read` when `fileno` is readable, or
    iterate over `events`.
    """

    def __init__(
        self,
        tables: Collection[TableKey],
        own_ports: Collection[int],
        namespace: int | None = None,
    ) -> None:
        self._tables = tables
        self._own_ports = own_ports
        self._socket = NetlinkSocket(NETFILTER, namespace, timeout=None)
        self._socket.join(_GROUP)
        os.set_blocking(self._socket.fileno(), False)
        self._changes: dict[TableKey, dict[str, None]] = {}
        self._chains: list[tuple[str, str, Chain]] = []

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor that is readable when there is news."""
        return self._socket.fileno()

    def read(self) -> list[Event]:
        """What has happened since the last call, without waiting."""
        found: list[Event] = []
        while True:
            try:
                data = self._socket.receive()
            except TimeoutError:
                return found
            except Overrun:
                self._changes.clear()
                self._chains.clear()
                if Lost() not in found:
                    found.append(Lost())
                continue
            found += self._digest(data)

    async def events(self) -> AsyncIterator[Event]:
        """What happens, as it happens, for ever; leave the loop to stop listening."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        descriptor = self.fileno()
        loop.add_reader(descriptor, news.set)
        try:
            while True:
                await news.wait()
                news.clear()
                for event in self.read():
                    yield event
        finally:
            loop.remove_reader(descriptor)

    def _digest(self, data: bytes) -> list[Event]:
        found: list[Event] = []
        start = 0
        while len(data) - start >= HEADER_SIZE:
            size, type, _, _, port = _header.unpack_from(data, start)
            if size < HEADER_SIZE:
                break
            if type >> 8 == batch.SUBSYSTEM:
                payload = data[start + HEADER_SIZE : start + size]
                if type & 0xFF == batch.NEW_GENERATION:
                    found += self._finish(payload)
                elif port not in self._own_ports:
                    self._note(type & 0xFF, payload)
            start += size + 3 & ~3
        return found

    def _note(self, type: int, payload: bytes) -> None:
        family = FAMILY_NAMES.get(payload[0], str(payload[0]))
        attributes = parse_attributes(payload, 4)
        name = read_text(attributes.get(1, b""))
        if (family, name) in self._tables:
            what = _WHAT.get(type, "changed")
            self._changes.setdefault((family, name), {})[what] = None
        elif type == batch.NEW_CHAIN and 4 in attributes:
            self._chains.append((family, name, read_chain(attributes, family)))

    def _finish(self, payload: bytes) -> list[Event]:
        """The events of the transaction that a generation message closes."""
        process = read_text(parse_attributes(payload, 4).get(_PROCESS_NAME, b""))
        found: list[Event] = [
            TableChanged(family, name, tuple(what), process)
            for (family, name), what in self._changes.items()
        ]
        found += [ForeignChain(*row, process) for row in self._chains]
        self._changes.clear()
        self._chains.clear()
        return found
