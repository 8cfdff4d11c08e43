"""What is answered to a question about own names, as bytes.

Own names are those of the networks that the asking sandbox is on. They are never asked of
anybody else: a type that a name does not have gets an empty answer, an address of ours that
is nobody's a "no such name".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from linkspan.names import wire
from linkspan.names.directory import Directory
from linkspan.names.records import Host, Resolver, Service
from linkspan.names.wire import Question

TTL = 1
"""Seconds for which an own name may be kept: a container that was replaced is found at once,
and a client that keeps answers does not ask for each connection."""
MOST_ORDERS = 16
"""Orders in which several addresses are given in turn."""
_LOCALHOST = {
    b"\x09localhost\x00": {wire.A: "127.0.0.1", wire.AAAA: "::1"},
}
_MINIMAL = b"\x07RFC8482\x00"
"""HINFO for who asks for ANY (RFC 8482, section 4.2)."""

PortOf = Callable[[str, str], int | None]
"""The port that a service's name stands for on this machine, by name and protocol."""


def answer_own(
    directory: Directory, resolver: Resolver, question: Question, limit: int, port_of: PortOf
) -> list[bytes] | None:
    """All answers to a question about own names, to be given in turn; None: it is not one.

    They lack the id. Several differ only in the order of their records.
    """
    if question.klass != wire.INTERNET:
        return [wire.compose(question, wire.REFUSED, [], [], limit, authoritative=False)]
    if question.type in (wire.AXFR, wire.IXFR):
        return [wire.compose(question, wire.REFUSED, [], [], limit, authoritative=False)]
    if question.edns is not None and question.edns.version:
        return [wire.compose(question, wire.BADVERS, [], [], limit, authoritative=False)]
    hosts = directory.find(resolver.networks, question.name)
    if hosts:
        return _rotate(question, limit, _records(hosts, question.type), [])
    if question.name in _LOCALHOST:
        address = _LOCALHOST[question.name].get(question.type)
        records = [_address(question.type, address)] if address else []
        return [wire.compose(question, wire.NOERROR, records, [], limit)]
    return _answer_service(directory, resolver, question, limit, port_of) or _answer_reverse(
        directory, resolver, question, limit
    )


def refuse_outside(question: Question, limit: int) -> bytes:
    """The answer to a sandbox without a way out that asks for a name outside.

    "No such name" and not "refused": a resolver believes it at once and tries nobody else.
    """
    return wire.compose(
        question, wire.NXDOMAIN, [], [], limit, authoritative=False, error=wire.PROHIBITED
    )


def fail(question: Question, limit: int) -> bytes:
    """The answer when nobody outside could be asked."""
    return wire.compose(
        question, wire.SERVFAIL, [], [], limit, authoritative=False, error=wire.NETWORK_ERROR
    )


def _records(hosts: Sequence[Host], type: int) -> list[bytes]:
    if type == wire.ANY:
        return [wire.record(wire.HINFO, TTL, _MINIMAL)]
    found = (_address_of(host, type) for host in hosts)
    # A name may be given to one host twice over, and one address is enough.
    return [_address(type, text) for text in dict.fromkeys(t for t in found if t is not None)]


def _address_of(host: Host, type: int) -> str | None:
    return host.ipv4 if type == wire.A else host.ipv6 if type == wire.AAAA else None


def _address(type: int, text: str, owner: bytes | None = None) -> bytes:
    data = wire.encode_address(text)
    return wire.record(type, TTL, data) if owner is None else wire.record(type, TTL, data, owner)


def _answer_service(
    directory: Directory, resolver: Resolver, question: Question, limit: int, port_of: PortOf
) -> list[bytes] | None:
    """Names like _http._tcp.web."""
    labels = wire.labels_of(question.name)
    if len(labels) < 3 or labels[0][:1] != b"_" or labels[1][:1] != b"_":
        return None
    name = question.name[len(labels[0]) + len(labels[1]) + 2 :]
    hosts = directory.find(resolver.networks, name)
    if not hosts:
        return None
    service, protocol = (label[1:].decode("utf-8", "replace") for label in labels[:2])
    wanted = {service}
    if not service.isdecimal() and (number := port_of(service, protocol)) is not None:
        wanted.add(str(number))
    records: list[bytes] = []
    targets: list[bytes] = []
    for host in hosts:
        target = directory.full_name(host)
        ports = _ports(host.services, wanted, protocol)
        if target is None or not ports:
            continue
        if question.type == wire.SRV:
            # Priority and weight 0: all are equal (RFC 2782).
            records += [
                wire.record(wire.SRV, TTL, bytes(4) + port.to_bytes(2, "big") + target)
                for port in ports
            ]
            targets += _target_addresses(host, target)
        else:
            return [wire.compose(question, wire.NOERROR, [], [], limit)]
    if not records:
        return [wire.compose(question, wire.NXDOMAIN, [], [], limit)]
    return _rotate(question, limit, records, targets)


def _ports(services: Sequence[Service], wanted: set[str], protocol: str) -> list[int]:
    """The port of every service that is meant; a declared name alone decides, if there is one."""
    named = [s for s in services if s.name in wanted and s.protocol == protocol]
    declared = [s for s in named if not s.name.isdecimal()]
    return list(dict.fromkeys(service.port for service in declared or named))


def _target_addresses(host: Host, target: bytes) -> list[bytes]:
    found = ((type, _address_of(host, type)) for type in (wire.A, wire.AAAA))
    return [_address(type, text, target) for type, text in found if text is not None]


def _answer_reverse(
    directory: Directory, resolver: Resolver, question: Question, limit: int
) -> list[bytes] | None:
    target = directory.find_address(resolver.networks, question.name)
    if target is not None:
        records = [wire.record(wire.PTR, TTL, target)] if question.type == wire.PTR else []
        return [wire.compose(question, wire.NOERROR, records, [], limit)]
    prefix = wire.read_reverse_name(question.name)
    if prefix is None or not directory.owns(prefix):
        return None
    return [wire.compose(question, wire.NXDOMAIN, [], [], limit)]


def _rotate(
    question: Question, limit: int, records: list[bytes], additional: list[bytes]
) -> list[bytes]:
    orders = min(max(len(records), 1), MOST_ORDERS)
    return [
        wire.compose(question, wire.NOERROR, records[n:] + records[:n], additional, limit)
        for n in range(orders)
    ]
