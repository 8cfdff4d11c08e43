"""Networks with IPv6 on a real kernel: subnets, ports in both versions, forwarding, modes."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.daemon import Refused
from lab.reuse import Sites
from lab.site import HOST, HOST6, IPV4, IPV6, NEIGHBOUR, NEIGHBOUR6, Site

ELSEWHERE6 = "2001:db8:9::9"
ONE_BY_ONE = Path("/proc/sys/net/ipv6/conf/all/force_forwarding").exists()
"""Whether this kernel can have single interfaces forward IPv6 (Linux 6.17)."""


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    with sites.borrowed() as site:
        yield site


def wait_for(what: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def setting(site: Site, path: str, place: Any = None) -> str:
    words = ["cat", f"/proc/sys/net/{path}"]
    return site.lab.run(place or site.host, words).stdout.strip()


def bridge_of(site: Site, name: str) -> str:
    return str(site.daemon.get(f"/v1/networks/{name}")["interface"])


# Subnets ------------------------------------------------------------------------------


def test_subnets_are_cut_from_one_random_prefix_that_stays(site: Site) -> None:
    site.network("one", ipv6=True)
    first = site.daemon.get("/v1/networks/one")["subnets"]
    assert [":" in subnet["subnet"] for subnet in first] == [False, True]
    site.daemon.stop()
    site.daemon.start()
    site.network("two", ipv6=True, ipv4=False)
    (second,) = site.daemon.get("/v1/networks/two")["subnets"]
    subnets = [ipaddress.ip_network(s["subnet"]) for s in (first[1], second)]
    prefixes = {str(subnet.supernet(new_prefix=48)) for subnet in subnets}
    assert len(prefixes) == 1
    assert subnets[0] != subnets[1]
    assert all(subnet.prefixlen == 64 for subnet in subnets)
    assert subnets[0].subnet_of(ipaddress.ip_network("fd00::/8"))
    assert second["gateway"] == str(subnets[1][1])


def test_one_version_alone(site: Site) -> None:
    site.network("six", "fd00:20::/64")
    six = site.sandbox("six", "six", ports=("8080:80",))
    (endpoint,) = six["endpoints"]
    assert (endpoint["ipv4"], endpoint["ipv6"]) == (None, "fd00:20::2/64")
    assert (endpoint["gateway"], endpoint["gateway_ipv6"]) == (None, "fd00:20::1")
    assert [port["host_ip"] for port in six["ports"]] == ["::"]
    assert site.lab.run(six["netns"], "ip -4 route").stdout == ""
    with pytest.raises(Refused, match="no IPv4"):
        site.sandbox("more", "six", ports=("0.0.0.0:8081:80",))
    site.network("four", "10.20.0.0/24")
    with pytest.raises(Refused, match="no IPv6"):
        site.sandbox("more", "four", ports=("[::]:8081:80",))
    with pytest.raises(Refused, match="switched off"):
        site.network("neither", "fd00:21::/64", ipv6=False)


def test_a_fixed_address_a_range_and_a_gateway(site: Site) -> None:
    wish = {"subnet": "fd00:20::/64", "gateway": "fd00:20::ff", "ip_range": "fd00:20::a00/120"}
    site.daemon.post("/v1/networks", {"name": "web", "subnets": [wish]})
    one = site.sandbox("one", "web")
    two = site.sandbox("two", {"network": "web", "ipv6": "fd00:20::7"})
    assert IPV6.of(one) == "fd00:20::a00"
    assert IPV6.of(two) == "fd00:20::7"
    assert two["endpoints"][0]["gateway_ipv6"] == "fd00:20::ff"
    route = site.lab.run(two["netns"], "ip -6 route show default").stdout
    assert "via fd00:20::ff dev eth0" in route
    with pytest.raises(Refused, match="two"):
        site.sandbox("three", {"network": "web", "ipv6": "fd00:20::7"})


def test_a_host_without_ipv6_is_told(site: Site) -> None:
    site.lab.run(site.host, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
    with pytest.raises(Refused, match=r"net\.ipv6\.conf\.default\.disable_ipv6 is 1") as refused:
        site.network("shop", ipv6=True)
    assert refused.value.status == 501
    # IPv4 works there.
    site.network("web", "10.20.0.0/24")
    assert site.sandbox("shop", "web")["state"] == "up"


def test_a_small_mtu_has_no_ipv6(site: Site) -> None:
    with pytest.raises(Refused, match="1280"):
        site.network("small", "fd00:20::/64", options={"mtu": "1200"})
    site.network("small", "10.20.0.0/24", options={"mtu": "1200"})
    assert site.sandbox("shop", "small")["state"] == "up"
    assert site.daemon.post("/v1/reconcile", {})["repaired"] == []


# Both versions at once ----------------------------------------------------------------


def test_one_published_port_answers_in_both_versions(site: Site) -> None:
    site.network("shop", ipv6=True)
    shop = site.sandbox("shop", "shop", ports=("8080:80",))
    assert [port["host_ip"] for port in shop["ports"]] == ["0.0.0.0", "::"]
    site.lab.listener_tcp(shop["netns"], "::", 80, reply="shop")
    for family in (IPV4, IPV6):
        assert site.lab.fetch(site.neighbour, family.host, 8080).reply == "shop"
        assert site.lab.fetch(site.host, family.loopback, 8080).reply == "shop"
    only = site.sandbox("only", "shop", ports=("0.0.0.0:8081:80", "[::]:8082:80"))
    site.lab.listener_tcp(only["netns"], "::", 80, reply="only")
    for family, port in ((IPV4, 8081), (IPV6, 8082)):
        other = IPV6 if family is IPV4 else IPV4
        assert site.lab.fetch(site.neighbour, family.host, port).reply == "only"
        assert site.lab.fetch(site.host, family.loopback, port).reply == "only"
        assert site.lab.fetch(site.neighbour, other.host, port, timeout=0.3).error == "refused"
        assert site.lab.fetch(site.host, other.loopback, port, timeout=0.3).error == "refused"


def test_the_first_packet_from_another_host_arrives_at_once(site: Site) -> None:
    """Nothing waits until a link-local address was found unique: that takes a second or two."""
    site.network("shop", "fd00:20::/64")
    shop = site.sandbox("shop", "shop", ports=("8080:80",))
    site.serve(shop, 80, family=IPV6)
    began = time.monotonic()
    assert site.lab.fetch(site.neighbour, HOST6, 8080).ok
    assert time.monotonic() - began < 0.5


def test_what_stands_in_for_loopback_is_nobodys(site: Site) -> None:
    site.network("shop", "fd00:20::/64")
    shop = site.sandbox("shop", "shop", ports=("[::1]:9000:80",))
    for protocol in ("tcp", "udp"):
        site.serve(shop, 80, protocol, family=IPV6)
    service = site.lab.listener_udp(site.host, "::", 5353)
    for where, via in ((site.neighbour, HOST6), (shop["netns"], "fd00:20::1")):
        site.lab.run(where, f"ip -6 route add 100::6c via {via}")
        for port in (9000, 5353):
            assert not site.lab.fetch(where, "100::6c", port, "udp", timeout=0.3).ok
    assert service.seen == []
    # Long answers and long questions find their way, too.
    with contextlib.closing(site.lab.socket(site.host, socket.AF_INET6)) as client:
        client.settimeout(2)
        client.connect(("::1", 9000))
        greeting = client.recv(1000)
        assert b"fd00:20::1" in greeting
        data = b"x" * 200_000 + b"\n"
        client.sendall(data)
        received = b""
        while len(received) < len(data):
            received += client.recv(1 << 16)
        assert received == data


def test_a_service_of_the_host_on_loopback_is_left_alone(site: Site) -> None:
    site.network("shop", "fd00:20::/64")
    site.sandbox("shop", "shop", ports=("8080:80",))
    site.lab.listener_tcp(site.host, "::1", 8081, reply="host")
    assert site.lab.fetch(site.host, "::1", 8081).reply == "host"


# Forwarding ---------------------------------------------------------------------------


@pytest.mark.skipif(not ONE_BY_ONE, reason="this kernel forwards on all interfaces or none")
def test_interfaces_forward_only_while_a_network_needs_it(site: Site) -> None:
    def forwarding() -> tuple[str, str]:
        return (
            setting(site, "ipv6/conf/uplink/force_forwarding"),
            setting(site, "ipv6/conf/all/forwarding"),
        )

    site.network("four", "10.20.0.0/24")
    site.network("inside", "fd00:19::/64", internal=True)
    assert forwarding() == ("0", "0")
    site.network("shop", "fd00:20::/64")
    assert forwarding() == ("1", "0")
    assert setting(site, f"ipv6/conf/{bridge_of(site, 'shop')}/force_forwarding") == "1"
    site.daemon.delete("/v1/networks/shop")
    assert forwarding() == ("0", "0")
    site.network("shop", "fd00:20::/64")
    # Somebody switches it off; it is put right unasked.
    site.lab.run(site.host, "sysctl -qw net.ipv6.conf.uplink.force_forwarding=0")
    wait_for(lambda: forwarding() == ("1", "0"))
    site.daemon.purge()
    assert forwarding() == ("0", "0")


def test_it_forwards_for_its_containers_only(site: Site) -> None:
    """A neighbour that sends packets for elsewhere finds no router."""
    site.network("shop", "fd00:20::/64")
    far = site.lab.namespace("far")
    site.lab.veth(site.host, "second", "2001:db8:9::1/64", far, "eth0", f"{ELSEWHERE6}/64")
    site.lab.route(far, "default", "via", "2001:db8:9::1")
    wanted = ("force_forwarding", "1") if ONE_BY_ONE else ("accept_ra", "2")
    wait_for(lambda: setting(site, f"ipv6/conf/second/{wanted[0]}") == wanted[1])
    site.lab.route(site.neighbour, f"{ELSEWHERE6}/128", "via", HOST6)
    site.lab.listener_tcp(far, ELSEWHERE6, 80)
    assert not site.lab.fetch(site.neighbour, ELSEWHERE6, 80, timeout=0.3).ok
    shop = site.sandbox("shop", "shop")
    assert site.lab.fetch(shop["netns"], ELSEWHERE6, 80).seen == "2001:db8:9::1"


@pytest.mark.skipif(ONE_BY_ONE, reason="this kernel can have single interfaces forward")
def test_all_interfaces_forward_only_while_a_network_needs_it(site: Site) -> None:
    def settings() -> tuple[str, ...]:
        names = ("all/forwarding", "default/forwarding", "uplink/accept_ra", "lo/accept_ra")
        return tuple(setting(site, f"ipv6/conf/{name}") for name in names)

    before = settings()
    site.network("shop", "fd00:20::/64")
    assert settings() == ("1", "0", "2", "2")
    guard = site.lab.run(site.host, "nft list set inet linkspan host_only").stdout
    assert "elements = { ipv6 }" in guard
    site.daemon.delete("/v1/networks/shop")
    assert settings() == before == ("0", "0", "1", "1")


def router_advertisement() -> bytes:
    prefix = struct.pack(
        "!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(10, "2001:db8:7::")
    )
    return struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix


def advertise(site: Site) -> None:
    with site.lab.socket(
        site.neighbour, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
    ) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        number = int(site.lab.run(site.neighbour, "ip -o link show eth0").stdout.partition(":")[0])
        sender.sendto(router_advertisement(), ("ff02::1", 0, 0, number))


def learnt(site: Site) -> bool:
    return "proto ra" in site.lab.run(site.host, "ip -6 route show default").stdout


def test_the_uplink_goes_on_taking_router_advertisements(site: Site) -> None:
    # A neighbour that says of itself that it is no router loses its routes (RFC 4861 7.2.5),
    # as soon as it is asked: some seconds later.
    site.lab.run(site.neighbour, "sysctl -qw net.ipv6.conf.all.forwarding=1")
    advertise(site)
    wait_for(lambda: learnt(site))
    site.network("shop", "fd00:20::/64")
    site.sandbox("shop", "shop", ports=("8080:80",))
    assert learnt(site)
    site.lab.run(site.host, "ip -6 route del default proto ra")
    assert not learnt(site)
    advertise(site)
    wait_for(lambda: learnt(site))


# Gateway modes ------------------------------------------------------------------------


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_routed_containers_are_reached_by_their_own_address(site: Site, family: Any) -> None:
    site.network("open", family.subnet(20), options={"gateway_mode": "routed"})
    site.network("other", family.subnet(30))
    shop = site.sandbox("shop", "open", ports=("8080:80", "7000-7009:9000-9009/udp"))
    stranger = site.sandbox("stranger", "other")
    for port in (80, 81):
        site.serve(shop, port, family=family)
    site.serve(shop, 9005, "udp", family=family)
    site.lab.route(site.neighbour, family.subnet(20), "via", family.host)
    inside = family.of(shop)
    assert site.lab.fetch(site.neighbour, inside, 80).seen == family.neighbour
    assert site.lab.fetch(site.neighbour, inside, 9005, "udp").seen == family.neighbour
    assert site.lab.fetch(stranger["netns"], inside, 80).seen == family.of(stranger)
    # What was not published stays closed, and nothing is translated.
    assert not site.lab.fetch(site.neighbour, inside, 81, timeout=0.3).ok
    assert site.lab.fetch(site.neighbour, family.host, 8080, timeout=0.3).error == "refused"
    site.lab.listener_tcp(site.neighbour, family.neighbour, 80)
    assert site.lab.fetch(shop["netns"], family.neighbour, 80).seen == inside


def test_routed_ports_that_overlap_inside_open_and_close_one_by_one(site: Site) -> None:
    site.network("open", IPV4.subnet(20), options={"gateway_mode": "routed"})
    shop = site.sandbox("shop", "open", ports=("8000-8010:80-90",))
    for port in (82, 88, 93):
        site.serve(shop, port)
    site.lab.route(site.neighbour, IPV4.subnet(20), "via", HOST)
    site.daemon.post("/v1/sandboxes/shop/ports", {"ports": ["9000-9010:85-95"]})

    def reached() -> list[bool]:
        return [site.lab.fetch(site.neighbour, IPV4.of(shop), port, timeout=0.3).ok
                for port in (82, 88, 93)]  # fmt: skip

    assert reached() == [True, True, True]
    site.daemon.delete("/v1/sandboxes/shop/ports/8000-8010")
    assert reached() == [False, True, True]


def test_each_version_has_a_mode_of_its_own_by_dockers_names(site: Site) -> None:
    option = "com.docker.network.bridge.gateway_mode_ipv6"
    made = site.network("mixed", ipv6=True, options={option: "routed"})
    assert made["options"] == {"gateway_mode_ipv6": "routed"}
    shop = site.sandbox("shop", "mixed", ports=("8080:80",))
    site.lab.listener_tcp(shop["netns"], "::", 80, reply="shop")
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"
    assert site.lab.fetch(site.neighbour, HOST6, 8080, timeout=0.3).error == "refused"
    site.lab.route(site.neighbour, f"{IPV6.of(shop)}/128", "via", HOST6)
    assert site.lab.fetch(site.neighbour, IPV6.of(shop), 80).seen == NEIGHBOUR6


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_isolated_networks_do_not_have_the_host_on_them(site: Site, family: Any) -> None:
    with pytest.raises(Refused, match="internal"):
        site.network("alone", family.subnet(20), options={"gateway_mode": "isolated"})
    site.network("alone", family.subnet(20), internal=True, options={"gateway_mode": "isolated"})
    one, two = site.sandbox("one", "alone"), site.sandbox("two", "alone")
    for sandbox in (one, two):
        site.serve(sandbox, 80, family=family)
    assert site.lab.fetch(one["netns"], family.of(two), 80).ok
    bridge = bridge_of(site, "alone")
    assert (
        site.lab.run(site.host, ["ip", "address", "show", "dev", bridge]).stdout.count("inet") == 0
    )
    assert not site.lab.fetch(site.host, family.of(two), 80, timeout=0.3).ok


def test_the_default_address_of_ports(site: Site) -> None:
    site.network(
        "quiet", ipv6=True, options={"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
    )
    shop = site.sandbox("shop", "quiet", ports=("8080:80", "[::]:8081:80"))
    assert [(p["host_ip"], p["host_port"]) for p in shop["ports"]] == [
        ("127.0.0.1", 8080),
        ("::", 8081),
    ]
    site.serve(shop, 80)
    assert site.lab.fetch(site.host, "127.0.0.1", 8080).ok
    assert not site.lab.fetch(site.neighbour, HOST, 8080, timeout=0.3).ok
    site.network("odd", "10.40.0.0/24", options={"host_binding": "198.51.100.7"})
    with pytest.raises(Refused, match="host_binding"):
        site.sandbox("odd", "odd", ports=("8090:80",))


# Repair -------------------------------------------------------------------------------


@pytest.fixture
def shop(site: Site) -> Any:
    site.network("shop", ipv6=True)
    shop = site.sandbox("shop", "shop", ports=("8080:80",))
    site.lab.listener_tcp(shop["netns"], "::", 80, reply="shop")
    return shop


def test_what_others_remove_is_made_again(site: Site, shop: Any) -> None:
    bridge = bridge_of(site, "shop")
    gateway = shop["endpoints"][0]["gateway_ipv6"]
    for place, words in (
        (site.host, f"address del {gateway}/64 dev {bridge}"),
        (shop["netns"], f"address del {shop['endpoints'][0]['ipv6']} dev eth0"),
        (shop["netns"], "route del default"),
        (site.host, "route del 100::6c table local"),
    ):
        site.lab.run(place, f"ip -6 {words}")
        site.daemon.post("/v1/reconcile", {})
        assert site.lab.fetch(site.neighbour, HOST6, 8080).reply == "shop"
        assert site.lab.fetch(site.host, "::1", 8080).reply == "shop"
    report = site.daemon.post("/v1/reconcile", {})
    assert not any(report.values())


def test_it_all_comes_back_after_a_kill(site: Site, shop: Any) -> None:
    conversation = site.lab.connect(site.host, "::1", 8080)
    site.daemon.kill()
    assert conversation.say("still here") == "still here"
    conversation.close()
    site.lab.run(site.host, "nft flush ruleset")
    site.lab.run(site.host, "sysctl -qw net.ipv6.conf.uplink.force_forwarding=0")
    site.daemon.start()
    for target in (HOST6, HOST):
        assert site.lab.fetch(site.neighbour, target, 8080).reply == "shop"
    assert site.lab.fetch(site.host, "::1", 8080).reply == "shop"


def test_neighbours_learn_of_an_address_that_moved(site: Site) -> None:
    site.network("web", "fd00:20::/64")
    client = site.sandbox("client", "web")
    fixed = {"network": "web", "ipv6": "fd00:20::7"}
    first = site.sandbox("first", fixed)
    site.serve(first, 80, family=IPV6)
    assert site.lab.fetch(client["netns"], "fd00:20::7", 80).reply == "first"
    site.daemon.delete("/v1/sandboxes/first?force=true")
    second = site.sandbox("second", {**fixed, "mac": "02:00:00:00:00:99"})
    site.serve(second, 80, family=IPV6)

    def known() -> bool:
        seen = site.lab.run(client["netns"], "ip -6 neigh show fd00:20::7").stdout
        return "02:00:00:00:00:99" in seen

    wait_for(known)
    assert site.lab.fetch(client["netns"], "fd00:20::7", 80).reply == "second"


def test_outside_sees_the_host(site: Site) -> None:
    site.network("shop", ipv6=True)
    shop = site.sandbox("shop", "shop")
    site.lab.listener_tcp(site.neighbour, "::", 80)
    assert site.lab.fetch(shop["netns"], NEIGHBOUR6, 80).seen == HOST6
    assert HOST in site.lab.fetch(shop["netns"], NEIGHBOUR, 80).seen
