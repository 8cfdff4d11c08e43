"""The walk through iptables' rules as Docker writes them, in both variants: what is predicted
is what a real attempt meets.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from lab import Namespace
from linkspan.analysis import Flow, Verdict, View, trace_flow
from linkspan.dataplane import DataPlane, Listener
from linkspan.kernel.observe import observe
from walks.probes import Probe, Servers, ask_all
from walks.worlds import PARTS

NAT = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.18.0.0/24 ! -o bra -j MASQUERADE
-A POSTROUTING -s 172.19.0.0/24 ! -o brb -j MASQUERADE
-A DOCKER ! -i bra -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80
-A DOCKER ! -i brb -p udp -m udp --dport 8053 -j DNAT --to-destination 172.19.0.2:53
COMMIT
"""
FILTER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -p tcp -m multiport --dports 8081,9000:9010 -j REJECT --reject-with tcp-reset
-A INPUT -s 172.18.0.0/24 -p tcp -m multiport --ports 22,30140:30145 -j REJECT
-A INPUT -s 172.19.0.0/24 -p tcp -m multiport ! --ports 443,9000:9010 -j REJECT
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o bra -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o bra -j DOCKER
-A FORWARD -i bra ! -o bra -j ACCEPT
-A FORWARD -i bra -o bra -j ACCEPT
-A FORWARD -o brb -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o brb -j DOCKER
-A FORWARD -i brb ! -o brb -j ACCEPT
-A FORWARD -i brb -o brb -j ACCEPT
-A DOCKER -d 172.18.0.2/32 ! -i bra -o bra -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER -d 172.19.0.2/32 ! -i brb -o brb -p udp -m udp --dport 53 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i bra ! -o bra -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i brb ! -o brb -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o bra -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o brb -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -s 192.0.2.2 -m conntrack --ctorigdst 192.0.2.1 -m comment --comment "it's" -g OWN
-A DOCKER-USER -j RETURN
-A OWN -m conntrack --ctstate NEW -m mark --mark 0x7/0xff -j DROP
COMMIT
""".replace(":DOCKER-USER - [0:0]\n", ":DOCKER-USER - [0:0]\n:OWN - [0:0]\n")  # fmt: skip
ENDS = {
    "a1": ("bra", "172.18.0.2/24", "172.18.0.1"), "a2": ("bra", "172.18.0.3/24", "172.18.0.1"),
    "b1": ("brb", "172.19.0.2/24", "172.19.0.1"), "out": (None, "192.0.2.2/24", "192.0.2.1"),
}  # fmt: skip
LISTENERS = (
    ("a1", "tcp", 80), ("a1", "udp", 53), ("a2", "tcp", 80), ("b1", "tcp", 80), ("b1", "udp", 53),
    ("host", "tcp", 22), ("host", "tcp", 8081), ("host", "tcp", 9005), ("out", "tcp", 443),
)  # fmt: skip


@pytest.fixture
def places(netns: Callable[[str], Namespace]) -> dict[str, Namespace]:
    """A host with two bridges, three containers on them, and a neighbour outside."""
    made = {name: netns(name) for name in ("host", *ENDS)}
    host = made["host"].path

    def run(path: str, words: str) -> None:
        subprocess.run(["nsenter", f"--net={path}", *words.split()], check=True)

    run(host, "ip link set lo up")
    for bridge, address in (("bra", "172.18.0.1/24"), ("brb", "172.19.0.1/24")):
        run(host, f"ip link add {bridge} type bridge")
        run(host, f"ip address add {address} dev {bridge}")
        run(host, f"ip link set {bridge} up")
    for name, (bridge, address, gateway) in ENDS.items():
        run(host, f"ip link add v{name} type veth peer name eth0 netns {made[name].name}")
        run(host, f"ip link set v{name} up")
        if bridge:
            run(host, f"ip link set v{name} master {bridge}")
        else:
            run(host, f"ip address add 192.0.2.1/24 dev v{name}")
        run(made[name].path, "ip link set lo up")
        run(made[name].path, f"ip address add {address} dev eth0")
        run(made[name].path, "ip link set eth0 up")
        run(made[name].path, f"ip route add default via {gateway}")
    run(host, "sysctl -qw net.ipv4.ip_forward=1")
    return made


@pytest.fixture
def servers(places: dict[str, Namespace]) -> Iterator[Servers]:
    made = Servers()
    for name, protocol, port in LISTENERS:
        one = Listener(namespace=name, protocol=protocol, address="0.0.0.0", port=port)
        made.listen(places[name].path, one)
    yield made
    made.close()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_what_is_predicted_is_what_happens(
    variant: str,
    places: dict[str, Namespace],
    servers: Servers,
    require: Callable[..., None],
) -> None:
    require(f"iptables-{variant}-restore")
    subprocess.run(
        ["nsenter", f"--net={places['host'].path}", f"iptables-{variant}-restore"],
        input=NAT + FILTER, text=True, check=True,
    )  # fmt: skip
    listeners = [
        Listener(namespace=name, protocol=protocol, address="0.0.0.0", port=port)
        for name, protocol, port in LISTENERS
    ]
    seen = observe({name: place.path for name, place in places.items()}, PARTS)
    view = View(DataPlane([*seen, *listeners]), sockets_known=True)
    targets = ("172.18.0.2", "172.18.0.3", "172.19.0.2", "192.0.2.1", "192.0.2.2", "172.18.0.1")
    ports = (("tcp", 80), ("tcp", 8080), ("udp", 53), ("udp", 8053), ("tcp", 22), ("tcp", 8081),
             ("tcp", 9005), ("tcp", 443))  # fmt: skip
    probes = [
        Probe(name, place.path, target, port, protocol, 30000 + 100 * n + m)
        for n, (name, place) in enumerate(places.items())
        for m, (target, (protocol, port)) in enumerate((t, p) for t in targets for p in ports)
    ]
    happened = ask_all(probes, 0.6)
    wrong = []
    for probe, result in zip(probes, happened, strict=True):
        flow = Flow(
            destination=probe.address, destination_port=probe.port, protocol=probe.protocol,
            source_port=probe.source_port,
        )  # fmt: skip
        answer = trace_flow(view, probe.namespace, flow)
        if (answer.verdict is Verdict.DELIVERED) != (result == "ok"):
            wrong.append((probe, result, answer.verdict, answer.first.reason))
        assert answer.first.not_understood == ()
    assert wrong == []
    assert 25 < happened.count("ok") < len(happened) - 30
    blocked = trace_flow(view, "a1", Flow(destination="172.19.0.2", destination_port=80))
    assert "DOCKER-ISOLATION-STAGE-2" in blocked.first.reason
    assert "-o brb -j DROP" in blocked.first.reason
