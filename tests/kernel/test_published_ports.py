"""A published port answers from five places, keeps clients' addresses, and leads nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.daemon import Refused
from lab.reuse import Sites
from lab.site import IPV4, IPV6, Family, Site
from lab.traffic import family_of

pytestmark = [
    pytest.mark.parametrize("bridge_netfilter", [False, True], ids=["nf0", "nf1"]),
    pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"]),
]


@pytest.fixture
def site(sites: Sites, bridge_netfilter: bool, family: Family) -> Iterator[Site]:
    with sites.borrowed(bridge_netfilter) as site:
        site.network("web", family.subnet(20))
        site.network("other", family.subnet(30))
        yield site


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("icc", ["true", "false"])
def test_it_answers_identically_from_five_places(
    site: Site, family: Family, protocol: str, icc: str
) -> None:
    site.network("apart", family.subnet(40), options={"icc": icc})
    shop = site.sandbox("shop", "apart", ports=(f"8080:80/{protocol}",))
    member = site.sandbox("member", "apart")
    stranger = site.sandbox("stranger", "other")
    site.serve(shop, 80, protocol, family=family)
    gateway = family.gateway(40)
    seen = {
        place: site.lab.fetch(where, target, 8080, protocol)
        for place, where, target in (
            ("another host", site.neighbour, family.host),
            ("the host by its own address", site.host, family.host),
            ("the host by loopback", site.host, family.loopback),
            ("the host by the gateway", site.host, gateway),
            ("a container of another network", stranger["netns"], family.host),
            ("a container of the same network", member["netns"], family.host),
            ("the container itself", shop["netns"], family.host),
            ("the container itself by its gateway", shop["netns"], gateway),
        )
    }
    assert {place: (a.ok, a.reply) for place, a in seen.items()} == dict.fromkeys(
        seen, (True, "shop")
    )
    assert {place: a.seen for place, a in seen.items()} == {
        "another host": family.neighbour,
        "the host by its own address": family.host,
        "the host by loopback": gateway,
        "the host by the gateway": gateway,
        "a container of another network": family.of(stranger),
        "a container of the same network": gateway,
        "the container itself": gateway,
        "the container itself by its gateway": gateway,
    }


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_published_on_loopback_it_answers_the_host_alone(
    site: Site, family: Family, protocol: str
) -> None:
    shop = site.sandbox(
        "shop", "web", ports=(family.published(f"9000:80/{protocol}", family.loopback),)
    )
    member = site.sandbox("member", "web")
    site.serve(shop, 80, protocol, family=family)
    assert site.lab.fetch(site.host, family.loopback, 9000, protocol).reply == "shop"
    for where, target in (
        (site.host, family.host),
        (site.neighbour, family.host),
        (member["netns"], family.host),
        (member["netns"], family.gateway(20)),
    ):
        assert not site.lab.fetch(where, target, 9000, protocol, timeout=0.3).ok
    # A neighbour, and a container, that route loopback to the host.
    for where, via in ((site.neighbour, family.host), (member["netns"], family.gateway(20))):
        route_loopback(site, family, where, via)
        assert not site.lab.fetch(where, family.loopback, 9000, protocol, timeout=0.3).ok


def route_loopback(site: Site, family: Family, where: Any, via: str) -> None:
    """Make a place send what is meant for loopback out by eth0."""
    site.lab.run(where, "sysctl -qw net.ipv4.conf.all.route_localnet=1")
    for gone in (
        f"route del local {family.loopback} dev lo table local",
        "route del local 127.0.0.0/8 dev lo table local",
        f"address del {family.loopback}/{8 if family.version == 4 else 128} dev lo",
    ):
        site.lab.run(where, f"ip -{family.version} {gone}", check=False)
    site.lab.run(where, f"ip -{family.version} route add {family.loopback} via {via} dev eth0")
    found = site.lab.run(where, f"ip -{family.version} route get {family.loopback}").stdout
    assert f"via {via} dev eth0" in found


def test_a_container_never_reaches_a_host_service_on_loopback(site: Site, family: Family) -> None:
    member = site.sandbox("member", "web")
    host_service = site.lab.listener_udp(site.host, family.loopback, 5353)
    where = member["netns"]
    route_loopback(site, family, where, family.gateway(20))
    assert not site.lab.fetch(where, family.loopback, 5353, "udp", timeout=0.3).ok
    assert host_service.seen == []


def test_a_stranger_never_arrives_by_the_containers_own_address(site: Site, family: Family) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    stranger = site.sandbox("stranger", "other")
    for port in (80, 81):
        site.serve(shop, port, family=family)
    site.lab.route(site.neighbour, family.subnet(20), "via", family.host)
    inside = family.of(shop)
    for port in (80, 81):
        assert site.lab.fetch(site.host, inside, port).ok
        assert site.lab.fetch(site.neighbour, inside, port, timeout=0.3).error == "timed out"
        # An ICMPv6 answer is heard from the second SYN on: connect() holds the socket before.
        told = site.lab.fetch(stranger["netns"], inside, port, timeout=2).error
        assert told == "unreachable" or "Permission denied" in told
    assert site.lab.fetch(site.neighbour, family.host, 81, timeout=0.3).error == "refused"


def test_an_internal_network_has_no_way_out_nor_in(site: Site, family: Family) -> None:
    site.network("vault", family.subnet(50), internal=True)
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    safe = site.sandbox("safe", "vault")
    friend = site.sandbox("friend", "vault")
    site.serve(shop, 80, family=family)
    site.serve(safe, 80, family=family)
    site.lab.listener_tcp(site.neighbour, family.neighbour, 80)
    assert site.lab.fetch(friend["netns"], family.of(safe), 80).ok
    assert "default" not in routes_of(site, family, safe)
    # Even with a route of its own making.
    site.lab.run(safe["netns"], f"ip -{family.version} route add default via {family.gateway(50)}")
    assert not site.lab.fetch(safe["netns"], family.neighbour, 80, timeout=0.3).ok
    assert not site.lab.fetch(safe["netns"], family.host, 8080, timeout=0.3).ok
    assert not site.lab.fetch(safe["netns"], family.of(shop), 80, timeout=0.3).ok
    assert not site.lab.fetch(shop["netns"], family.of(safe), 80, timeout=0.3).ok
    with pytest.raises(Refused, match="internal"):
        site.sandbox("open", "vault", ports=("8081:80",))


def test_members_of_an_isolated_network_do_not_see_each_other(site: Site, family: Family) -> None:
    site.network("apart", family.subnet(40), options={"icc": "false"})
    one, two = site.sandbox("one", "apart"), site.sandbox("two", "apart")
    site.serve(two, 80, family=family)
    site.lab.listener_tcp(site.neighbour, family.neighbour, 80)
    assert not site.lab.fetch(one["netns"], family.of(two), 80, timeout=0.3).ok
    # Nor when the packet is handed to the gateway.
    site.lab.run(one["netns"], ["ip", "route", "add", family.of(two), "via", family.gateway(40)])
    assert not site.lab.fetch(one["netns"], family.of(two), 80, timeout=0.3).ok
    assert site.lab.fetch(one["netns"], family.neighbour, 80).seen == family.host


def test_what_leaves_is_masqueraded_and_members_talk_as_themselves(
    site: Site, family: Family
) -> None:
    one, two = site.sandbox("one", "web"), site.sandbox("two", "web")
    site.serve(two, 80, family=family)
    site.lab.listener_tcp(site.neighbour, family.neighbour, 80)
    assert site.lab.fetch(one["netns"], family.neighbour, 80).seen == family.host
    assert site.lab.fetch(one["netns"], family.of(two), 80).seen == family.of(one)


def test_ranges_lead_to_the_same_numbers_and_shifted_ranges_to_others(
    site: Site, family: Family
) -> None:
    shop = site.sandbox("shop", "web", ports=("7000-7099:7000-7099", "8000-8009:80-89/udp"))
    for port in (7000, 7042, 7099):
        site.serve(shop, port, family=family)
        assert site.lab.fetch(site.neighbour, family.host, port).seen == family.neighbour
        assert site.lab.fetch(site.host, family.loopback, port).ok
    for offset in (0, 9):
        site.serve(shop, 80 + offset, "udp", family=family)
        assert (
            site.lab.fetch(site.neighbour, family.host, 8000 + offset, "udp").seen
            == family.neighbour
        )
    assert not site.lab.fetch(site.neighbour, family.host, 7100, timeout=0.3).ok


def test_a_container_on_two_networks_is_reached_on_both(site: Site, family: Family) -> None:
    both = site.sandbox("both", "web", "other", ports=("8080:80",))
    for protocol in ("tcp", "udp"):
        site.serve(both, 80, protocol, family=family)
    web, other = site.sandbox("web-client", "web"), site.sandbox("other-client", "other")
    assert routes_of(site, family, both).count("default") == 1
    assert site.lab.fetch(web["netns"], family.of(both, "web"), 80).seen == family.of(web)
    assert site.lab.fetch(other["netns"], family.of(both, "other"), 80).seen == family.of(other)
    for client, seen in (
        (web, family.gateway(20)),
        (other, family.of(other)),
        (both, family.gateway(20)),
    ):
        assert site.lab.fetch(client["netns"], family.host, 8080).seen == seen
    assert site.lab.fetch(site.neighbour, family.host, 8080).seen == family.neighbour


def test_a_later_bind_on_the_host_is_shadowed(site: Site, family: Family) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80, family=family)
    site.lab.listener_tcp(site.host, family.every, 8080, reply="host")
    assert site.lab.fetch(site.neighbour, family.host, 8080).reply == "shop"
    assert site.lab.fetch(site.host, family.loopback, 8080).reply == "shop"
    site.daemon.delete("/v1/sandboxes/shop?force=true")
    assert site.lab.fetch(site.neighbour, family.host, 8080).reply == "host"


def test_a_udp_mapping_that_moves_takes_its_flows_along(site: Site, family: Family) -> None:
    """A client that keeps sending from one port reaches the new container at once."""
    with site.lab.socket(site.neighbour, family_of(family.host), kind=2) as client:
        client.settimeout(1)
        client.connect((family.host, 5000))
        # Before anything is published: the host refuses, and conntrack remembers the flow.
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        for name in ("first", "second"):
            sandbox = site.sandbox(name, "web", ports=("5000:53/udp",))
            site.serve(sandbox, 53, "udp", family=family)
            client.send(b"?")
            assert name in client.recv(1000).decode()
            site.daemon.delete(f"/v1/sandboxes/{name}?force=true")


def test_a_conflict_names_who_has_the_port(site: Site, family: Family) -> None:
    site.sandbox("shop", "web", ports=("8080:80",))
    with pytest.raises(Refused, match="shop") as refused:
        site.sandbox("second", "web", ports=(family.published("8080:80", family.loopback),))
    assert (refused.value.status, refused.value.code) == (409, "port_in_use")
    site.lab.listener_tcp(site.host, family.every, 9090)
    with pytest.raises(Refused, match="python"):
        site.sandbox("second", "web", ports=("9090:80",))
    # A client's ephemeral port is not in anybody's way.
    site.lab.listener_tcp(site.neighbour, family.neighbour, 80)
    with site.lab.socket(site.host, family_of(family.host)) as client:
        client.connect((family.neighbour, 80))
        site.sandbox("second", "web", ports=(f"{client.getsockname()[1]}:80",))
    names = [s["name"] for s in site.daemon.get("/v1/sandboxes")]
    assert sorted(names) == ["second", "shop"]


def routes_of(site: Site, family: Family, sandbox: Any) -> str:
    """The main routing table of a sandbox."""
    return site.lab.run(sandbox["netns"], f"ip -{family.version} route").stdout
