"""Networks, sandboxes and a listener without a network, for tests of names."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import dns.message

from linkspan.drivers.records import Endpoint, Network, PublishedPort, Sandbox, Subnet
from linkspan.names.directory import Directory
from linkspan.names.listener import Listener
from linkspan.names.loop import Loop
from linkspan.names.records import Names, Resolver
from linkspan.names.sockets import Sockets
from linkspan.names.table import describe_names
from linkspan.names.wire import Question

SHOP = Network(
    id="n-shop",
    name="shop",
    driver="bridge",
    subnets=(Subnet(subnet="10.20.0.0/24"), Subnet(subnet="fd00:20::/64")),
)
BACK = Network(
    id="n-back",
    name="back",
    driver="bridge",
    internal=True,
    subnets=(Subnet(subnet="10.30.0.0/24"),),
)
BRIDGE = Network(
    id="n-bridge", name="bridge", driver="bridge", subnets=(Subnet(subnet="172.20.0.0/24"),)
)
NETWORKS = {network.id: network for network in (SHOP, BACK, BRIDGE)}


def join(network: Network, number: int, *aliases: str, priority: int = 0) -> Endpoint:
    """A place on a network; the number is the last part of the addresses."""
    base = network.subnets[0].subnet.rpartition(".")[0]
    six = f"fd00:20::{number:x}/64" if network is SHOP else None
    return Endpoint(
        id=f"e-{network.id}-{number}",
        network=network.id,
        ipv4=f"{base}.{number}/24",
        ipv6=six,
        aliases=aliases,
        gateway_priority=priority,
    )


def sandbox(name: str, *endpoints: Endpoint, **more: Any) -> Sandbox:
    """A sandbox that is up."""
    fields: dict[str, Any] = {"state": "up", "netns": f"/run/netns/{name}", "inode": 7} | more
    digits = name.encode().hex().ljust(64, "0")[:64]
    return Sandbox(id=digits, name=name, endpoints=endpoints, **fields)


def published(port: int, protocol: str = "tcp") -> PublishedPort:
    """A published port."""
    return PublishedPort(host_port=port, host_port_end=port, port=port, protocol=protocol)


def directory_of(names: Names) -> Directory:
    """A directory that holds these."""
    made = Directory()
    for zone in names.zones:
        made.put_zone(zone)
    for host in names.hosts:
        made.put_host(host)
    return made


class Outside:
    """The rest of the world: keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Question, tuple[str, ...], bool]] = []
        self.deliver: list[Callable[[bytes | None], None]] = []
        self.known: bytes | None = None

    def recall(self, question: Question, servers: tuple[str, ...], stream: bool) -> bytes | None:
        return self.known

    def ask(
        self,
        question: Question,
        servers: tuple[str, ...],
        stream: bool,
        deliver: Callable[[bytes | None], None],
    ) -> None:
        self.asked.append((question, servers, stream))
        self.deliver.append(deliver)


class Stage:
    """One sandbox's listener; questions are handed to it as bytes."""

    def __init__(self, asker: Sandbox, *others: Sandbox) -> None:
        names = describe_names(NETWORKS.values(), (asker, *others))
        resolver = next(r for r in names.resolvers if r.id == asker.id)
        self.outside = Outside()
        self.loop = Loop()
        self.sockets = [socket.socket(socket.AF_UNIX, kind) for kind in (2, 1)]
        self.listener = Listener(
            self.loop,
            Sockets(resolver, *self.sockets),
            directory_of(names),
            self.outside,
            self.find_servers,
            lambda name, protocol: {"http": 80}.get(name),
        )

    @staticmethod
    def find_servers(resolver: Resolver) -> tuple[str, ...]:
        return ("192.0.2.53",) if resolver.external else ()

    def exchange(self, wire: bytes, stream: bool = False) -> list[bytes]:
        """Everything that is sent back at once."""
        sent: list[bytes] = []
        self.listener._handle(wire, stream, sent.append)
        return sent

    def ask(self, name: str, type: str = "A", stream: bool = False, **more: Any) -> Any:
        """The answer, checked against its question by dnspython."""
        query = dns.message.make_query(name, type, **more)
        (wire,) = self.exchange(query.to_wire(), stream)
        answer = dns.message.from_wire(wire)
        assert query.is_response(answer)
        return answer

    def close(self) -> None:
        self.listener.close()
        self.loop.close()


def texts(answer: Any) -> list[str]:
    """The data of an answer's records."""
    return [str(item) for rows in answer.answer for item in rows]
