"""Walks on hosts that Docker, CNI plugins, netavark and flannel left, taken down as data."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from captures import NAMES, Capture
from linkspan.analysis import Answer, Flow, Verdict, View, trace_flow
from linkspan.analysis.trace import Disposition
from linkspan.dataplane import (
    Address,
    Bridge,
    Link,
    Listener,
    Namespace,
    Object,
    Route,
    Sysctl,
    Veth,
)

DOCKER = ("dockerd-29.7.2-nftables", "dockerd-29.7.2-iptables")
CNI = ("cni-plugins-1.9.1-nftables", "cni-plugins-1.9.1-iptables")
HOST, STRANGER = "192.0.2.10", "192.0.2.20"
SERVED = {
    "web": (("tcp", 80), ("tcp", 443)), "api": tuple(("udp", 9000 + n) for n in range(4)),
    "db": (("tcp", 5432),), "legacy": (("tcp", 53), ("udp", 53)),
    "rt": (("tcp", 7000), ("tcp", 7001)), "ni": (("tcp", 71), ("tcp", 72)),
    "c1": (("tcp", 80), ("udp", 53)), "c2": (("tcp", 80), ("udp", 53)),
}  # fmt: skip
"""What the programs in the captured containers would have listened on; there were none."""


class Ask(NamedTuple):
    """A question: who, where to, and the namespace where it must arrive; None for nowhere."""

    who: str
    to: str
    port: int
    arrives: str | None
    protocol: str = "tcp"


@cache
def taken(name: str) -> Capture:
    return Capture(name)


@cache
def view_of(name: str) -> View:
    capture = taken(name)
    sockets = [
        Listener(namespace=place, protocol=protocol, address="0.0.0.0", port=port)
        for place, served in SERVED.items()
        if place in capture.places
        for protocol, port in served
    ]
    return View(capture.plane(*sockets, *capture.relays(), *neighbours(name, capture)), True)


def neighbours(name: str, capture: Capture) -> list[Object]:
    """What the captures lack: a second container on Docker's network without inter-container
    traffic, an uplink, and the wire between flannel's nodes with a container at each end.
    """
    if name in DOCKER:
        bridge = next(
            item.link for item in capture.objects
            if isinstance(item, Address) and item.address == "172.21.0.1/16"
        )  # fmt: skip
        return [
            Namespace(namespace="ni2"),
            Link(name="vethni2", up=True, master=bridge, mac="02:00:00:00:00:01",
                 kind=Veth(peer_name="eth0", peer_namespace="ni2", peer_up=True)),
            Link(namespace="ni2", name="eth0", up=True, mac="02:00:00:00:00:02",
                 kind=Veth(peer_name="vethni2", peer_namespace="host")),
            Address(namespace="ni2", link="eth0", address="172.21.0.3/16"),
            Route(namespace="ni2", destination="0.0.0.0/0", gateway="172.21.0.1"),
        ]  # fmt: skip
    if not name.startswith("flannel"):
        return [
            Link(name="lan0", up=True, mac="02:00:00:00:00:03"),
            Address(link="lan0", address=f"{HOST}/24"),
            Route(destination="192.0.2.0/24", link="lan0", scope="link"),
            Route(destination="0.0.0.0/0", gateway=STRANGER, link="lan0"),
            Route(destination=f"{HOST}/32", link="lan0", type="local", table=255),
            Sysctl(path="ipv4/conf/lan0/forwarding", value="1"),
        ]
    made: list[Object] = [
        Namespace(namespace="wire"), Link(namespace="wire", name="br0", kind=Bridge(), up=True),
        Sysctl(namespace="wire", path="bridge/bridge-nf-call-iptables", value="0"),
    ]  # fmt: skip
    for number in (1, 2):
        node = f"node{number}"
        port = Veth(peer_name="eth0", peer_namespace=node)
        made.append(Link(namespace="wire", name=f"p{number}", kind=port, up=True, master="br0"))
        eth0 = next(
            item for item in capture.objects
            if isinstance(item, Link) and (item.namespace, item.name) == (node, "eth0")
        )  # fmt: skip
        peer = Veth(peer_name=f"p{number}", peer_namespace="wire")
        made.append(Link(namespace=node, name="eth0", up=True, mac=eth0.mac, kind=peer))
        subnet = {1: "10.77.63", 2: "10.77.41"}[number]
        pod = f"pod{number}"
        made += [
            Namespace(namespace=pod),
            Link(namespace=node, name="vpod", up=True, master="d0", mac=f"02:00:00:00:01:0{number}",
                 kind=Veth(peer_name="eth0", peer_namespace=pod, peer_up=True)),
            Link(namespace=pod, name="eth0", up=True, mac=f"02:00:00:00:02:0{number}",
                 kind=Veth(peer_name="vpod", peer_namespace=node)),
            Address(namespace=pod, link="eth0", address=f"{subnet}.2/24"),
            Route(namespace=pod, destination="0.0.0.0/0", gateway=f"{subnet}.1"),
            Listener(namespace=pod, protocol="tcp", address="0.0.0.0", port=80),
        ]  # fmt: skip
    return made


def ask(name: str, question: Ask) -> Answer:
    flow = Flow(
        destination=question.to, destination_port=question.port, protocol=question.protocol
    )  # fmt: skip
    if question.who != "stranger":
        return trace_flow(view_of(name), question.who, flow)
    flow = Flow(
        destination=question.to, destination_port=question.port, protocol=question.protocol,
        source=STRANGER, link="lan0",
    )  # fmt: skip
    return trace_flow(view_of(name), "host", flow)


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_understood(name: str):
    assert taken(name).not_understood() == []
    assert len(list(taken(name).rules())) > 10


DOCKER_ASKED = (
    # Published ports, from outside: by address and port, and from one address only.
    Ask("stranger", HOST, 8080, "web"),
    Ask("stranger", HOST, 7100, "ni"),
    Ask("stranger", HOST, 53, "legacy", "udp"),
    Ask("stranger", HOST, 9001, "api", "udp"),
    # Published on loopback only: not from outside, and not by routing to 127.0.0.1.
    Ask("stranger", HOST, 8443, None),
    Ask("stranger", "127.0.0.1", 8443, None),
    # Straight to a container's address.
    Ask("stranger", "172.18.0.2", 80, None),
    Ask("stranger", "172.17.0.2", 53, None, "udp"),
    Ask("stranger", "172.21.0.2", 71, None),
    Ask("stranger", "172.19.0.2", 5432, None),
    # Gateway mode "routed": its published port at its own address, and no other.
    Ask("stranger", "172.20.0.2", 7000, "rt"),
    Ask("stranger", "172.20.0.2", 7001, None),
    Ask("stranger", HOST, 7000, None),
    # The host itself, also by loopback, where docker-proxy answers.
    Ask("host", "127.0.0.1", 8443, "host"),
    Ask("host", "127.0.0.1", 8080, "host"),
    Ask("host", HOST, 8080, "web"),
    Ask("host", "172.18.0.2", 80, "web"),
    # Between containers: one network, two networks, by published port, and to itself.
    Ask("api", "172.18.0.2", 80, "web"),
    Ask("api", "172.19.0.2", 5432, "db"),
    Ask("legacy", "172.18.0.2", 80, None),
    Ask("legacy", HOST, 8080, "web"),
    Ask("web", "172.20.0.2", 7000, "rt"),
    Ask("web", HOST, 8080, "host"),
    # An internal network has no way out.
    Ask("db", "172.18.0.2", 80, None),
    Ask("db", HOST, 8080, None),
    Ask("db", "198.51.100.1", 80, None),
    Ask("web", "198.51.100.1", 80, "host"),
    # No traffic between the containers of one network (icc off).
    Ask("ni2", "172.21.0.2", 72, None),
    Ask("ni2", "198.51.100.1", 80, "host"),
)


@pytest.mark.parametrize("name", DOCKER)
@pytest.mark.parametrize("question", DOCKER_ASKED, ids=lambda one: f"{one.who}-{one.to}-{one.port}")
def test_docker(name: str, question: Ask):
    check(name, question)


@pytest.mark.parametrize("name", DOCKER)
def test_docker_proxy_is_a_connection_of_its_own(name: str):
    answer = ask(name, Ask("host", "127.0.0.1", 8443, "host"))
    onward = answer.first.onward
    assert onward is not None
    assert onward.first.namespace == "web"
    assert onward.first.arrived.destination_port == 443


@pytest.mark.parametrize("name", DOCKER)
def test_a_container_reaches_its_own_published_port_through_the_proxy(name: str):
    answer = ask(name, Ask("web", HOST, 8080, "host"))
    onward = answer.first.onward
    assert onward is not None
    assert onward.first.namespace == "web"
    assert [hop.namespace for hop in answer.first.hops] == ["web", "host"]


CNI_ASKED = (
    Ask("stranger", HOST, 10001, "c1"), Ask("stranger", HOST, 10002, "c2"),
    Ask("stranger", HOST, 11001, None, "udp"), Ask("host", "127.0.0.1", 11001, "c1", "udp"),
    Ask("host", HOST, 10001, "c1"), Ask("c1", HOST, 10002, "c2"),
    Ask("c1", HOST, 10001, "c1"), Ask("c1", "198.51.100.1", 80, "host"),
)  # fmt: skip


@pytest.mark.parametrize("name", CNI)
@pytest.mark.parametrize("question", CNI_ASKED, ids=lambda one: f"{one.who}-{one.to}-{one.port}")
def test_cni_plugins(name: str, question: Ask):
    check(name, question)


NETAVARK_ASKED = (
    Ask("stranger", HOST, 20001, "c1"), Ask("stranger", HOST, 20002, "c2"),
    Ask("stranger", HOST, 20003, None), Ask("host", "127.0.0.1", 20001, "c1"),
    Ask("host", HOST, 20001, "c1"), Ask("c1", HOST, 20002, "c2"),
    # Its ports have no hairpin: with bridge-nf-call-iptables none reaches itself by the host.
    Ask("c1", HOST, 20001, None), Ask("c1", "198.51.100.1", 80, "host"),
)  # fmt: skip


@pytest.mark.parametrize("question", NETAVARK_ASKED, ids=lambda one: f"{one.who}-{one.port}")
def test_netavark(question: Ask):
    check("netavark-1.4.0", question)


def test_flannel_carries_it_to_the_other_node():
    answer = ask("flannel-0.28.9-vxlan-nft", Ask("pod1", "10.77.41.2", 80, "pod2"))
    assert answer.verdict is Verdict.DELIVERED
    first = answer.first
    assert [hop.namespace for hop in first.hops] == ["pod1", "node1", "wire", "node2", "pod2"]
    assert "VXLAN 1" in first.hops[1].line
    # It arrives as the pod that sent it: addresses of pods are not translated between nodes.
    assert first.arrived.source == "10.77.63.2"


def check(name: str, question: Ask) -> None:
    answer = ask(name, question)
    first = answer.first
    reached = first.namespace if answer.verdict is Verdict.DELIVERED else None
    assert reached == question.arrives, first.reason
    if first.disposition is Disposition.LEFT:
        assert first.not_understood == ("what is beyond lan0 of host",)
    else:
        assert all(not leg.not_understood for leg in first.legs)
    assert answer.complete
