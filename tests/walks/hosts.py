"""Made-up hosts for tests without a kernel: a bridge with containers, an uplink, listeners."""

from __future__ import annotations

from linkspan.analysis import View
from linkspan.dataplane import (
    Address,
    Bridge,
    BridgePort,
    DataPlane,
    Link,
    Listener,
    Loopback,
    Namespace,
    Object,
    Physical,
    Process,
    Route,
    Sysctl,
    Veth,
)

GATEWAY = "10.0.0.1"


def container_address(number: int) -> str:
    """10.0.0.2 for the first one, and on."""
    number += 1
    return f"10.0.{number // 250}.{number % 250}" if number >= 250 else f"10.0.0.{number}"


def loopback(namespace: str) -> Link:
    return Link(namespace=namespace, name="lo", kind=Loopback(), up=True)


def container(number: int, port: BridgePort | None = None) -> list[Object]:
    name = f"c{number}"
    mac = f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"
    return [
        Namespace(namespace=name),
        loopback(name),
        Link(
            name=f"p{number}",
            up=True,
            master="br0",
            port=port,
            mac=f"02:00:00:01:{number // 256:02x}:{number % 256:02x}",
            kind=Veth(peer_name="eth0", peer_namespace=name, peer_mac=mac, peer_up=True),
        ),
        Link(
            namespace=name,
            name="eth0",
            up=True,
            mac=mac,
            master="",
            kind=Veth(peer_name=f"p{number}", peer_namespace="host"),
        ),
        Address(namespace=name, link="eth0", address=f"{container_address(number)}/16"),
        Route(namespace=name, destination="0.0.0.0/0", gateway=GATEWAY),
        Listener(
            namespace=name,
            protocol="tcp",
            address="0.0.0.0",
            port=80,
            processes=(Process(100 + number, "web"),),
        ),
    ]


def host(containers: int = 2, **ports: BridgePort) -> list[Object]:
    """A host with a bridge br0 (10.0.0.1/16), containers c1.. on it, and an uplink eth0."""
    made: list[Object] = [
        Namespace(namespace="host"),
        loopback("host"),
        Link(name="br0", kind=Bridge(), up=True, mac="02:00:00:02:00:01"),
        Link(name="eth0", kind=Physical(), up=True, mac="02:00:00:02:00:02"),
        Address(link="br0", address=f"{GATEWAY}/16"),
        Address(link="eth0", address="192.0.2.10/24"),
        Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"),
        Sysctl(path="ipv4/ip_forward", value="1"),
    ]
    for number in range(1, containers + 1):
        made += container(number, ports.get(f"p{number}"))
    return made


def view(*objects: Object, containers: int = 2, **ports: BridgePort) -> View:
    """The host with more objects; those with an identity that is taken replace the old."""
    held = {item.key: item for item in host(containers, **ports)}
    held |= {item.key: item for item in objects}
    return View(DataPlane(held.values()), sockets_known=True)
