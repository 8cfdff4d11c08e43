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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.packing import (
    INSIDE_INDEX,
    pack_elements,
    pack_inside,
    pack_link_removal,
    pack_links,
)
from benchmarks.places import Resident, call, delete_namespace, hold_own_namespace, run_program
from linkspan.dataplane import Address, Element, Link, Namespace, Object, Route
from linkspan.drivers.bridge import mac_of
from linkspan.drivers.published import describe_published
from linkspan.drivers.records import Endpoint, Network, PublishedPort, Sandbox, Subnet
from linkspan.drivers.sandbox import describe_sandbox

_PACKED_BY_HAND = (Namespace, Link, Address, Route)


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
        elements = select_elements(described)
        assert endpoint.mac
        create, descriptor_at = pack_links(
            port, self._bridge_index, self._mtu, bytes.fromhex(endpoint.mac.replace(":", "")),
            f"linkspan:endpoint:{endpoint.id}",
        )  # fmt: skip
        return Prepared(
            path,
            create,
            descriptor_at,
            pack_inside(address, length, str(self._subnet[1])),
            pack_elements(elements, add=True),
            pack_link_removal(port),
            pack_elements(elements, add=False),
            address,
        )

    def prepare_ports(self, port: PublishedPort, address: str) -> tuple[bytes, bytes]:
        """The transactions that publish a port (or a range) and that take it back."""
        elements = list(describe_published(port, address))
        return pack_elements(elements, add=True), pack_elements(elements, add=False)

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
        assert eth0["ifindex"] == INSIDE_INDEX, found
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


def select_elements(described: Iterable[Object]) -> list[Element]:
    """The firewall's part of a description; fails when the rest is not what is packed here.

    The floor must make the same objects as linkspan, or it is no floor.
    """
    rest = [one for one in described if not isinstance(one, Element)]
    unknown = {type(one).__name__ for one in rest if not isinstance(one, _PACKED_BY_HAND)}
    if unknown:
        raise NotImplementedError(f"the kernel floor does not make: {', '.join(sorted(unknown))}")
    return [one for one in described if isinstance(one, Element)]


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
