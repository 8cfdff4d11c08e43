"""Hearing which rules one flow meets in a namespace (the nf_tables trace of `nft monitor`).

A table of our own in front of all others switches tracing on for the packets of the flow.
It belongs to a netlink socket and does not outlive it (table flag owner without persist): the
kernel removes it when the process ends, whatever ends it. It reads nothing of connection
tracking, which would switch that on where it is off.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from linkspan.dataplane.rules import Chain, Table
from linkspan.dataplane.sightings import ERROR, Headers, Ruling
from linkspan.errors import KernelRefused
from linkspan.kernel.livepackets import Marks, read_packet
from linkspan.kernel.netfilter import batch, encode, observed
from linkspan.kernel.netfilter.batch import FAMILIES, FAMILY_NAMES, Message, send_batch
from linkspan.kernel.netfilter.tables import TABLE_FLAGS, create_table, delete_table
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket, Overrun
from linkspan.kernel.netlink.wire import (
    attribute_text,
    nested,
    parse_attributes,
    parse_messages,
    read_text,
)

TABLE_NAME = "linkspan-live"
"""How the names of our tables begin; the process id follows."""
_GROUP = 9
"""NFNLGRP_NFTRACE"""
_TRACE = batch.SUBSYSTEM << 8 | 17
_FIRST = -(1 << 31)
_META_NFTRACE, _META_L4PROTO = 12, 16
_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58}
# enum nft_trace_attributes
_A_TABLE, _A_CHAIN, _A_HANDLE, _A_TYPE, _A_VERDICT, _A_ID = 1, 2, 3, 4, 5, 6
_A_NETWORK, _A_TRANSPORT, _A_IN, _A_OUT, _A_POLICY = 8, 9, 10, 12, 16
_KINDS = {1: "policy", 2: "return", 3: "rule"}
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -5: "return"}
_JUMPS = {-3: "jump", -4: "goto"}


class _Known(NamedTuple):
    """What the first event of a packet in a chain says of it."""

    part: str
    headers: Headers | None
    in_link: str | None
    out_link: str | None


class RuleTrace:
    """The rules that one flow meets in a namespace, from now until it is closed.

    `namespace` is an open descriptor, `name` what rulings call it, `links` the names of its
    links by index. `tables` tells of families that have tables of somebody: without any there
    is nothing to hear, and nothing is made. Raises KernelRefused; `supported` is False where
    the kernel has no tables that vanish with their owner (before Linux 5.12).
    """

    def __init__(
        self, namespace: int, name: str, version: int, protocol: str, marks: Marks,
        links: Mapping[int, str],
    ) -> None:  # fmt: skip
        self.name = name
        self.supported = True
        self.tables: tuple[tuple[str, str], ...] = ()
        self._marks = marks
        self._links = links
        self._known: dict[int, _Known] = {}
        self._made: tuple[Table, ...] = ()
        self._owner = NetlinkSocket(NETFILTER, namespace)
        self._news: NetlinkSocket | None = None
        try:
            self.tables = tuple(
                key for key in observed.list_tables(self._owner) if not is_own(key[1])
            )
            wanted = self._plan()
            if not wanted:
                return
            self._news = NetlinkSocket(NETFILTER, namespace, timeout=None)
            self._news.join(_GROUP)
            os.set_blocking(self._news.fileno(), False)
            self._make(wanted, version, protocol)
        except BaseException:
            self.close()
            raise

    @property
    def active(self) -> bool:
        """Whether rules are heard of."""
        return bool(self._made)

    def fileno(self) -> int:
        """Readable when there is news; -1 where nothing is listened to."""
        return -1 if self._news is None else self._news.fileno()

    def close(self) -> None:
        """Remove our tables and end it; twice is fine."""
        try:
            if self._made:
                made, self._made = self._made, ()
                messages = [m for table in made for m in delete_table(table, missing_ok=False)]
                send_batch(self._owner, messages)
        finally:
            self._owner.close()
            if self._news is not None:
                self._news.close()

    # Making -----------------------------------------------------------------------------

    def _plan(self) -> list[Table]:
        """Our tables: a family each in which somebody has rules, in front of all of them."""
        families = {family for family, _ in self.tables}
        name = f"{TABLE_NAME}-{os.getpid()}"
        wanted: list[Table] = []
        if families & {"inet", "ip", "ip6"}:
            wanted.append(_table("inet", name, [("prerouting", None), ("output", None)]))
        if "bridge" in families:
            wanted.append(_table("bridge", name, [("prerouting", None), ("output", None)]))
        hooks = sorted(set(self._device_hooks()))
        if hooks:
            wanted.append(_table("netdev", name, hooks))
        return wanted

    def _device_hooks(self) -> list[tuple[str, str]]:
        """The links at which somebody's chains hang, with their hooks."""
        found: list[tuple[str, str]] = []
        for family, table in self.tables:
            if family not in ("netdev", "inet"):
                continue
            for state in observed.read_chains(self._owner, family, table):
                chain = state.chain
                if chain.hook in ("ingress", "egress"):
                    # A chain of several links is read without their names.
                    devices = [chain.device] if chain.device else list(self._links.values())
                    found += [(chain.hook, device) for device in devices]
        return [(hook, device) for hook, device in found if device in self._links.values()]

    def _make(self, wanted: list[Table], version: int, protocol: str) -> None:
        messages: list[Message] = []
        for table in wanted:
            messages += create_table(table, TABLE_FLAGS["owner"])
            for chain in table.chains:
                for body in _marking(version, protocol, self._marks):
                    messages.append(_rule(table, chain.name, body))
        failures = send_batch(self._owner, messages)
        if not failures:
            self._made = tuple(wanted)
            return
        first = failures[0]
        if first.place == 0 and first.errno in (95, 22):
            self.supported = False
            return
        what = "making a table that traces"
        if first.place >= 0:
            what = messages[first.place].describe(first.offset)
        raise KernelRefused(f"{what} in {self.name}", first.errno, first.detail)

    # Hearing ----------------------------------------------------------------------------

    def read(self) -> list[Ruling]:
        """What was heard since the last call, without waiting."""
        found: list[Ruling] = []
        while self._news is not None:
            try:
                data = self._news.receive()
            except TimeoutError:
                break
            except Overrun:
                continue
            for type, _, _, payload in parse_messages(data):
                if type == _TRACE:
                    ruling = self._read(payload)
                    if ruling is not None:
                        found.append(ruling)
        return found

    def _read(self, payload: bytes) -> Ruling | None:
        found = parse_attributes(payload, 4)
        table = read_text(found.get(_A_TABLE, b""))
        number = _big(found.get(_A_ID, b""))
        if _A_NETWORK in found:
            self._learn(number, found)
        if is_own(table):
            return None
        known = self._known.get(number)
        if known is None:
            return None
        kind = _KINDS.get(_big(found.get(_A_TYPE, b"")), "rule")
        handle = _big(found[_A_HANDLE]) if kind != "policy" and _A_HANDLE in found else None
        if kind != "policy" and handle is None:
            return None  # the end of a chain
        return Ruling(
            namespace=self.name,
            part=known.part,
            family=FAMILY_NAMES.get(payload[0], str(payload[0])),
            table=table,
            chain=read_text(found.get(_A_CHAIN, b"")),
            handle=handle,
            kind=kind,
            verdict=_read_verdict(found, kind),
            in_link=known.in_link,
            out_link=known.out_link,
            headers=known.headers,
            at=time.time(),
        )

    def _learn(self, number: int, found: dict[int, bytes]) -> None:
        data = found[_A_NETWORK] + found.get(_A_TRANSPORT, b"")
        read = read_packet(data, self._marks)
        ends = [
            self._links.get(_big(found[key])) if key in found else None for key in (_A_IN, _A_OUT)
        ]
        if read is None:
            self._known.pop(number, None)
            return
        headers = None if read.part == ERROR else read.headers
        self._known[number] = _Known(read.part, headers, ends[0], ends[1])


def is_own(table: str) -> bool:
    """Whether a table is one of those that `linkspan path --live` makes."""
    return table.startswith(f"{TABLE_NAME}-")


def _table(family: str, name: str, hooks: list[tuple[str, None]] | list[tuple[str, str]]) -> Table:
    chains = tuple(
        Chain(name=f"{hook}{place}", hook=hook, priority=_FIRST, device=device)
        for place, (hook, device) in enumerate(hooks)
    )
    return Table(family=family, name=name, chains=chains)


def _marking(version: int, protocol: str, marks: Marks) -> list[bytes]:
    """Rules, as expressions, that switch tracing on for the flow and errors about it."""
    echo = protocol in ("icmp", "ipv6-icmp")
    number = _NUMBERS[protocol]
    error = 1 if version == 4 else 58
    quoted = 8 + (20 if version == 4 else 40)
    offsets = [4] if echo else [0, 2]
    rows = [[(_TRANSPORT, offset, port)] for offset in offsets for port in _packed(marks.ports)]
    errors = [
        [(_TRANSPORT, quoted + offset, port)] for offset in offsets for port in _packed(marks.ports)
    ]
    rows += _pair_rows(version, echo, marks)
    return [_switch(number, row) for row in rows] + [_switch(error, row) for row in errors]


_TRANSPORT, _NETWORK = encode.TRANSPORT_HEADER, encode.NETWORK_HEADER
_Test = tuple[int, int, bytes]
"""A header, an offset in it, and the bytes that are there."""


def _packed(ports: Iterable[int]) -> list[bytes]:
    return [struct.pack("!H", port) for port in sorted(ports)]


def _pair_rows(version: int, echo: bool, marks: Marks) -> list[list[_Test]]:
    """Packets between two addresses, with the port of one of them."""
    from_offset, to_offset = (12, 16) if version == 4 else (8, 24)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    rows: list[list[_Test]] = []
    for source, destination, port in sorted(marks.pairs):
        ends = [socket.inet_pton(family, one) for one in (source, destination)]
        for (one, other), port_offset in ((ends, 2), (reversed(ends), 0)):
            row = [(_NETWORK, from_offset, one), (_NETWORK, to_offset, other)]
            rows.append(row if echo else [*row, (_TRANSPORT, port_offset, struct.pack("!H", port))])
    return rows


def _switch(protocol: int, tests: Iterable[_Test]) -> bytes:
    """Switches tracing on for a protocol's packets that pass all tests."""
    parts = [
        encode.load_meta(_META_L4PROTO, 0),
        encode.compare(0, encode.EQUAL, bytes((protocol,))),
    ]
    for header, offset, data in tests:
        parts.append(encode.load_payload(header, offset, len(data), 0))
        parts.append(encode.compare(0, encode.EQUAL, data))
    parts += [encode.constant(0, b"\1"), encode.store_meta(_META_NFTRACE, 0)]
    return b"".join(parts)


def _rule(table: Table, chain: str, expressions: bytes) -> Message:
    body = attribute_text(1, table.name) + attribute_text(2, chain) + nested(4, expressions)
    flags = wire.CREATE | wire.APPEND
    what = f"rule of chain {table.family} {table.name} {chain}"
    return Message(batch.NEW_RULE, flags, FAMILIES[table.family], body, lambda _: what)


def _read_verdict(found: dict[int, bytes], kind: str) -> str:
    if kind == "policy":
        return _VERDICTS.get(_big(found.get(_A_POLICY, b"")), "accept")
    verdict = parse_attributes(found.get(_A_VERDICT, b""))
    code = int.from_bytes(verdict.get(1, b""), "big", signed=True)
    if code in _JUMPS:
        return f"{_JUMPS[code]} {read_text(verdict.get(2, b''))}"
    return _VERDICTS.get(code if code < 0 else code & 0xFF, str(code))


def _big(payload: bytes) -> int:
    return int.from_bytes(payload, "big")
