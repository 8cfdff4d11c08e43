"""The kernel floor: the same kernel objects as linkspan's, by bytes that were prepared before.

What is timed is system calls and nothing else: no validation, no allocation, no store, no
answer. Links, addresses and routes are packed here by hand, in the fewest datagrams that the
kernel allows; the firewall's elements are those that linkspan's own description asks for.
The floor works on a network that a daemon made and left (its data plane outlives it).
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.places import Resident, call, delete_namespace, hold_own_namespace, run_program
from linkspan.dataplane import Element
from linkspan.drivers.bridge import mac_of
from linkspan.drivers.firewall import TABLES
from linkspan.drivers.published import describe_published
from linkspan.drivers.records import Endpoint, Network, PublishedPort, Sandbox, Subnet
from linkspan.drivers.sandbox import ROUTE_PROTOCOL, describe_sandbox

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_UP = 1
_NEW_ELEMENTS, _DELETE_ELEMENTS = 10 << 8 | 12, 10 << 8 | 14
_BATCH_BEGIN, _BATCH_END = 16, 17
_FAMILIES = {"inet": 1, "bridge": 7}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_INSIDE_INDEX = 2
"""What a fresh namespace calls its first link after lo; checked once, in `FloorHost.check`."""


class Prepared(NamedTuple):
    """One endpoint, ready to be sent."""

    path: str
    create: bytes
    descriptor_at: int
    inside: bytes
    add_elements: bytes
    delete_link: bytes
    delete_elements: bytes
    address: str


class FloorHost:
    """Attaches and detaches endpoints on an existing bridge network of a namespace."""

    def __init__(self, resident: Resident, directory: Path, subnet: str, mtu: int) -> None:
        self._resident = resident
        self._directory = directory
        directory.mkdir()
        self._subnet = ipaddress.IPv4Network(subnet)
        self._mtu = mtu
        name, self._bridge_index = resident.do(lambda: find_bridge(subnet))
        self._network = Network(
            id="floor",
            name="floor",
            driver="bridge",
            subnets=(Subnet(subnet=subnet, gateway=str(self._subnet[1])),),
            interface=name,
            mtu=mtu,
        )
        self._route = resident.do(lambda: _open(socket.NETLINK_ROUTE))
        self._netfilter = resident.do(lambda: _open(12))
        self._netfilter.setsockopt(socket.SOL_SOCKET, 32, 16 << 20)  # SO_SNDBUFFORCE

    def close(self) -> None:
        """Close the sockets; what was attached stays."""
        self._route.close()
        self._netfilter.close()

    def prepare(self, number: int, ports: Sequence[PublishedPort] = ()) -> Prepared:
        """The bytes for endpoint `number`, from 0."""
        address = str(self._subnet[2 + number])
        length = self._subnet.prefixlen
        port = f"lsf{number}"
        endpoint = Endpoint(
            id=f"{number:064x}",
            network="floor",
            interface="eth0",
            host_interface=port,
            ipv4=f"{address}/{length}",
            mac=mac_of(address),
            gateway=self._network.gateway_ipv4,
        )
        path = str(self._directory / f"ns{number}")
        sandbox = Sandbox(
            id=f"floor{number}", name=f"floor{number}", netns=path, endpoints=(endpoint,),
            ports=tuple(ports),
        )  # fmt: skip
        described = describe_sandbox(sandbox, {"floor": self._network})
        elements = [one for one in described if isinstance(one, Element)]
        assert endpoint.mac
        create, descriptor_at = _pack_links(
            port, self._bridge_index, self._mtu, bytes.fromhex(endpoint.mac.replace(":", "")),
            f"linkspan:endpoint:{endpoint.id}",
        )  # fmt: skip
        return Prepared(
            path,
            create,
            descriptor_at,
            _pack_inside(address, length, str(self._subnet[1])),
            _pack_elements(_NEW_ELEMENTS, elements),
            _message(_DELLINK, _REQUEST | _ACK, 1, bytes(16) + _text(3, port)),
            _pack_elements(_DELETE_ELEMENTS, elements),
            address,
        )

    def prepare_ports(self, port: PublishedPort, address: str) -> tuple[bytes, bytes]:
        """The transactions that publish a port (or a range) and that take it back."""
        elements = list(describe_published(port, address))
        return _pack_elements(_NEW_ELEMENTS, elements), _pack_elements(_DELETE_ELEMENTS, elements)

    def attach(self, endpoint: Prepared) -> float:
        """Make everything; the seconds it took."""
        return self._resident.do(lambda: self._attach(endpoint))

    def detach(self, endpoint: Prepared) -> float:
        """Remove everything; the seconds it took."""
        return self._resident.do(lambda: self._detach(endpoint))

    def set_elements(self, batch: bytes) -> float:
        """Send one prepared nf_tables transaction; the seconds it took."""
        return self._resident.do(lambda: _timed_send(self._netfilter, batch))

    def check(self, endpoint: Prepared) -> None:
        """Fail unless the endpoint really is as linkspan's own would be."""
        links = json.loads(run_program(["nsenter", f"--net={endpoint.path}", "ip", "-j", "addr"]))
        found = {link["ifname"]: link for link in links}
        eth0 = found["eth0"]
        addresses = [one["local"] for one in eth0["addr_info"] if one["family"] == "inet"]
        routes = run_program(["nsenter", f"--net={endpoint.path}", "ip", "route"]).decode()
        assert eth0["ifindex"] == _INSIDE_INDEX, found
        assert addresses == [endpoint.address], eth0
        assert eth0["operstate"] == "UP", eth0
        assert f"default via {self._network.gateway_ipv4} dev eth0" in routes, routes

    def _attach(self, endpoint: Prepared) -> float:
        start = time.perf_counter()
        home = self._resident.home
        os.close(os.open(endpoint.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        call("unshare", 0x40000000)
        hold_own_namespace(endpoint.path)
        inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        call("setns", home, 0x40000000)
        descriptor = os.open(endpoint.path, os.O_RDONLY | os.O_CLOEXEC)
        create = bytearray(endpoint.create)
        struct.pack_into("=I", create, endpoint.descriptor_at, descriptor)
        _send(self._route, create)
        os.close(descriptor)
        _send(inside, endpoint.inside)
        inside.close()
        _send(self._netfilter, endpoint.add_elements)
        return time.perf_counter() - start

    def _detach(self, endpoint: Prepared) -> float:
        start = time.perf_counter()
        _send(self._netfilter, endpoint.delete_elements)
        _send(self._route, endpoint.delete_link)
        delete_namespace(endpoint.path)
        return time.perf_counter() - start


def find_bridge(subnet: str) -> tuple[str, int]:
    """Name and index of the bridge that has an address in a subnet, where the thread is."""
    wanted = ipaddress.ip_network(subnet)
    for link in json.loads(run_program(["ip", "-j", "addr", "show", "type", "bridge"])):
        for one in link["addr_info"]:
            if one["family"] == "inet" and ipaddress.ip_address(one["local"]) in wanted:
                return link["ifname"], link["ifindex"]
    raise RuntimeError(f"no bridge with an address in {subnet}")


def _timed_send(netlink: socket.socket, batch: bytes) -> float:
    start = time.perf_counter()
    _send(netlink, batch)
    return time.perf_counter() - start


def _open(protocol: int) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def _send(netlink: socket.socket, data: bytes | bytearray) -> None:
    """Send a datagram whose last message wants an answer, and read that; raises OSError."""
    netlink.send(data)
    answer = netlink.recv(1 << 16)
    number = -struct.unpack_from("=i", answer, 16)[0]
    if number:
        raise OSError(number, f"the kernel refused a prepared message: {os.strerror(number)}")


# Packing, outside the clock ---------------------------------------------------------------


def _message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = bytes(-len(payload) % 4)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + padding


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _link_header(flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, 0, flags, flags)


def _pack_links(port: str, bridge: int, mtu: int, mac: bytes, alias: str) -> tuple[bytes, int]:
    """A veth pair with its port on the bridge; and where the namespace's descriptor goes."""
    marker = 0x5EED5EED
    peer = (
        _link_header()  # a veth cannot be up before its pair is complete (veth_open)
        + _text(3, "eth0")
        + _attribute(1, mac)
        + _number(4, mtu)
        + _number(28, marker)
    )
    info = _text(1, "veth") + _attribute(2, _attribute(1, peer))
    create = _message(
        _NEWLINK,
        _REQUEST | _CREATE | _EXCLUSIVE,
        1,
        _link_header() + _text(3, port) + _number(4, mtu) + _number(10, bridge)
        + _attribute(18, info),
    )  # fmt: skip
    hairpin = _attribute(18, _text(4, "bridge") + _attribute(5, _attribute(4, b"\1")))
    no_link_local = _attribute(26, _attribute(socket.AF_INET6, _attribute(8, b"\1")))
    settings = _message(
        _NEWLINK,
        _REQUEST,
        2,
        _link_header() + _text(3, port) + _text(20, alias) + hairpin + no_link_local,
    )
    up = _message(_NEWLINK, _REQUEST | _ACK, 3, _link_header(_UP) + _text(3, port))
    data = create + settings + up
    return data, data.index(struct.pack("=I", marker))


def _pack_inside(address: str, length: int, gateway: str) -> bytes:
    """Both links up, the address, and the default route."""
    packed = socket.inet_aton(address)
    up = b"".join(
        _message(_NEWLINK, _REQUEST, 1, struct.pack("=BxHiII", 0, 0, index, _UP, _UP))
        for index in (1, _INSIDE_INDEX)
    )
    new_address = _message(
        _NEWADDR,
        _REQUEST | _CREATE | _EXCLUSIVE,
        2,
        struct.pack("=BBBBI", socket.AF_INET, length, 0, 0, _INSIDE_INDEX)
        + _attribute(2, packed)
        + _attribute(1, packed),
    )
    route = _message(
        _NEWROUTE,
        _REQUEST | _ACK | _CREATE | _EXCLUSIVE,
        3,
        struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, ROUTE_PROTOCOL, 0, 1, 0)
        + _attribute(5, socket.inet_aton(gateway))
        + _number(4, _INSIDE_INDEX),
    )
    return up + new_address + route


def _pack_elements(kind: int, elements: Sequence[Element]) -> bytes:
    """One transaction; elements of one set together, at most 32 KiB a message."""
    by_set: dict[tuple[str, str, str], list[bytes]] = {}
    for element in elements:
        place = (element.family, element.table, element.set)
        by_set.setdefault(place, []).append(_pack_element(element, kind == _NEW_ELEMENTS))
    bodies: list[bytes] = []
    for (family, table, set_name), items in by_set.items():
        head = struct.pack(">BBH", _FAMILIES[family], 0, 0) + _text(1, table) + _text(2, set_name)
        step = 400
        for start in range(0, len(items), step):
            listed = b"".join(items[start : start + step])
            bodies.append(head + _attribute(3 | 0x8000, listed))
    edge = struct.pack(">BBH", 0, 0, 10)
    flags = _REQUEST | (_CREATE if kind == _NEW_ELEMENTS else 0)
    messages = [_message(_BATCH_BEGIN, _REQUEST, 0, edge)]
    for number, body in enumerate(bodies, 1):
        ack = _ACK if number == len(bodies) else 0
        messages.append(_message(kind, flags | ack, number, body))
    messages.append(_message(_BATCH_END, _REQUEST, len(bodies) + 1, edge))
    return b"".join(messages)


_DEFINITIONS = {(table.family, table.name, one.name): one for table in TABLES for one in table.sets}


def _pack_element(element: Element, with_data: bool) -> bytes:
    definition = _DEFINITIONS[element.family, element.table, element.set]
    concatenated = len(definition.key) > 1
    parts = [_value(1, _pack_key(definition.key, element.first, concatenated))]
    if definition.interval:
        # A concatenation keeps both ends in one element (nft_set_pipapo.c).
        assert concatenated, "the floor knows only intervals of concatenations"
        last = element.last or element.first
        parts.append(_value(10, _pack_key(definition.key, last, concatenated)))
    if with_data and definition.data is not None:
        assert element.data is not None
        parts.append(_value(2, _pack_key(definition.data, element.data, len(definition.data) > 1)))
    return _attribute(1 | 0x8000, b"".join(parts))


def _value(kind: int, data: bytes) -> bytes:
    return _attribute(kind | 0x8000, _attribute(1, data))


def _pack_key(types: Sequence[str], parts: Sequence[object], padded: bool) -> bytes:
    packed = b""
    for kind, part in zip(types, parts, strict=True):
        one = _pack_part(kind, str(part))
        packed += one + bytes(-len(one) % 4) if padded else one
    return packed


def _pack_part(kind: str, text: str) -> bytes:
    match kind:
        case "ifname":
            return text.encode().ljust(16, b"\0")
        case "ether_addr":
            return bytes.fromhex(text.replace(":", ""))
        case "ipv4_addr":
            return socket.inet_aton(text)
        case "inet_proto":
            return bytes([_PROTOCOLS[text]])
        case "inet_service":
            return struct.pack(">H", int(text))
    raise ValueError(f"the floor does not know the type {kind}")
