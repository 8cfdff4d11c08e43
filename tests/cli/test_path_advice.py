"""What `linkspan path` advises a person to do about a packet that goes no further."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from linkspan.analysis import Flow, View, trace_flow
from linkspan.cli.pathadvice import advise
from linkspan.dataplane import Chain, Link, Listener, Object, Route, Sysctl, Table
from walks.hosts import container_address, host, view

TO_C2 = Flow(destination=container_address(2), destination_port=80)
FAR = Flow(destination="198.51.100.7", destination_port=80)


def advice(flow: Flow, *objects: Object, origin: str = "c1", seen: View | None = None) -> str:
    seen = seen or view(*objects)
    return " ".join(advise(trace_flow(seen, origin, flow), seen))


def link_of(namespace: str, name: str) -> Link:
    return next(
        one for one in host(2)
        if isinstance(one, Link) and (one.namespace, one.name) == (namespace, name)
    )  # fmt: skip


def test_what_works_needs_none() -> None:
    assert advice(TO_C2) == ""


@pytest.mark.parametrize(("family", "table"), [("ip", "filter"), ("inet", "admin")])
def test_a_policy_is_shown_by_its_chain(family: str, table: str) -> None:
    chain = Chain(name="FORWARD", hook="forward", policy="drop", rules=())
    said = advice(FAR, Table(family=family, name=table, chains=(chain,)))
    shown = "iptables -t filter -vnL FORWARD" if family == "ip" else "nft list chain inet admin"
    assert "No rule of that chain of host accepts the packet" in said
    assert shown in said


def test_a_link_that_is_down_is_named_with_its_namespace() -> None:
    port = next(
        one for one in host(2) if isinstance(one, Link) and one.namespace == "host"
        and getattr(one.kind, "peer_namespace", None) == "c2"
    )  # fmt: skip
    far = link_of("c2", "eth0")
    for one in (port, far):
        said = advice(TO_C2, replace(one, up=False))
        assert said == f"{one.name} of {one.namespace} is down: `ip link set {one.name} up` there."
    own = advice(TO_C2, replace(link_of("c1", "eth0"), up=False))
    assert "eth0 of c1 is down, and so are its routes" in own


def test_a_gateway_that_nobody_is() -> None:
    wrong = Route(namespace="c1", destination="198.51.100.0/24", gateway="10.0.0.99", link="eth0")
    assert "10.0.0.99 is the gateway that a route of c1 names" in advice(FAR, wrong)


def test_an_address_that_nobody_has() -> None:
    flow = Flow(destination="10.0.0.77", destination_port=80)
    assert "Nobody here has 10.0.0.77: a container that stopped" in advice(flow)


def test_a_program_that_listens_for_its_own_container_alone() -> None:
    alone = Listener(namespace="c2", protocol="tcp", address="127.0.0.1", port=81)
    said = advice(replace(TO_C2, destination_port=81), alone)
    assert "c2 listens on 127.0.0.1 only" in said
    assert "Start a program on port 82/tcp" in advice(replace(TO_C2, destination_port=82), alone)


def test_a_host_that_does_not_forward() -> None:
    off = Sysctl(path="ipv4/conf/br0/forwarding", value="0")
    assert "sysctl -w net.ipv4.ip_forward=1" in advice(FAR, off)
