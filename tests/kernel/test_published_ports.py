"""A published port answers from five places, keeps clients' addresses, and leads nowhere else."""

from __future__ import annotations

import pytest

from lab import Lab
from lab.daemon import Refused
from lab.site import HOST, NEIGHBOUR, Site, address

pytestmark = pytest.mark.parametrize("bridge_netfilter", [False, True], ids=["nf0", "nf1"])


@pytest.fixture
def site(lab: Lab, bridge_netfilter: bool) -> Site:
    site = Site(lab, bridge_netfilter)
    site.network("web", "10.20.0.0/24")
    site.network("other", "10.30.0.0/24")
    return site


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("icc", ["true", "false"])
def test_it_answers_identically_from_five_places(site: Site, protocol: str, icc: str) -> None:
    site.network("apart", "10.40.0.0/24", options={"icc": icc})
    shop = site.sandbox("shop", "apart", ports=(f"8080:80/{protocol}",))
    member = site.sandbox("member", "apart")
    stranger = site.sandbox("stranger", "other")
    site.serve(shop, 80, protocol)
    gateway = "10.40.0.1"
    seen = {
        place: site.lab.fetch(where, target, 8080, protocol)
        for place, where, target in (
            ("another host", site.neighbour, HOST),
            ("the host by its own address", site.host, HOST),
            ("the host by 127.0.0.1", site.host, "127.0.0.1"),
            ("the host by the gateway", site.host, gateway),
            ("a container of another network", stranger["netns"], HOST),
            ("a container of the same network", member["netns"], HOST),
            ("the container itself", shop["netns"], HOST),
            ("the container itself by its gateway", shop["netns"], gateway),
        )
    }
    assert {place: (a.ok, a.reply) for place, a in seen.items()} == dict.fromkeys(
        seen, (True, "shop")
    )
    assert {place: a.seen for place, a in seen.items()} == {
        "another host": NEIGHBOUR,
        "the host by its own address": HOST,
        "the host by 127.0.0.1": gateway,
        "the host by the gateway": gateway,
        "a container of another network": address(stranger),
        "a container of the same network": gateway,
        "the container itself": gateway,
        "the container itself by its gateway": gateway,
    }


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_published_on_loopback_it_answers_the_host_alone(site: Site, protocol: str) -> None:
    shop = site.sandbox("shop", "web", ports=(f"127.0.0.1:9000:80/{protocol}",))
    member = site.sandbox("member", "web")
    site.serve(shop, 80, protocol)
    assert site.lab.fetch(site.host, "127.0.0.1", 9000, protocol).reply == "shop"
    for where, target in (
        (site.host, HOST),
        (site.neighbour, HOST),
        (member["netns"], HOST),
        (member["netns"], "10.20.0.1"),
    ):
        assert not site.lab.fetch(where, target, 9000, protocol, timeout=0.3).ok
    # A neighbour, and a container, that route 127.0.0.0/8 to the host.
    for where, link, via in (
        (site.neighbour, "eth0", HOST),
        (member["netns"], "eth0", "10.20.0.1"),
    ):
        site.lab.run(where, ["sysctl", "-qw", f"net.ipv4.conf.{link}.route_localnet=1"])
        site.lab.run(where, "ip route del local 127.0.0.0/8 dev lo table local", check=False)
        site.lab.run(where, "ip route del local 127.0.0.1 dev lo table local", check=False)
        site.lab.run(where, "ip address del 127.0.0.1/8 dev lo", check=False)
        site.lab.run(where, ["ip", "route", "add", "127.0.0.0/8", "via", via, "dev", link])
        assert not site.lab.fetch(where, "127.0.0.1", 9000, protocol, timeout=0.3).ok


def test_a_container_never_reaches_a_host_service_on_loopback(site: Site) -> None:
    member = site.sandbox("member", "web")
    host_service = site.lab.listener_udp(site.host, "127.0.0.1", 5353)
    where = member["netns"]
    site.lab.run(where, "sysctl -qw net.ipv4.conf.all.route_localnet=1")
    site.lab.run(where, "ip address del 127.0.0.1/8 dev lo")
    site.lab.run(where, "ip route add 127.0.0.1 via 10.20.0.1 dev eth0")
    assert not site.lab.fetch(where, "127.0.0.1", 5353, "udp", timeout=0.3).ok
    assert host_service.seen == []


def test_a_stranger_never_arrives_by_the_containers_own_address(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    stranger = site.sandbox("stranger", "other")
    for port in (80, 81):
        site.serve(shop, port)
    site.lab.route(site.neighbour, "10.20.0.0/24", "via", HOST)
    inside = address(shop)
    for port in (80, 81):
        assert site.lab.fetch(site.host, inside, port).ok
        assert site.lab.fetch(site.neighbour, inside, port, timeout=0.3).error == "timed out"
        assert site.lab.fetch(stranger["netns"], inside, port, timeout=0.3).error == "unreachable"
    assert site.lab.fetch(site.neighbour, HOST, 81, timeout=0.3).error == "refused"


def test_an_internal_network_has_no_way_out_nor_in(site: Site) -> None:
    site.network("vault", "10.50.0.0/24", internal=True)
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    safe = site.sandbox("safe", "vault")
    friend = site.sandbox("friend", "vault")
    site.serve(shop, 80)
    site.serve(safe, 80)
    site.lab.listener_tcp(site.neighbour, NEIGHBOUR, 80)
    assert site.lab.fetch(friend["netns"], address(safe), 80).ok
    assert "default" not in site.lab.run(safe["netns"], "ip route").stdout
    # Even with a route of its own making.
    site.lab.run(safe["netns"], "ip route add default via 10.50.0.1")
    assert not site.lab.fetch(safe["netns"], NEIGHBOUR, 80, timeout=0.3).ok
    assert not site.lab.fetch(safe["netns"], HOST, 8080, timeout=0.3).ok
    assert not site.lab.fetch(safe["netns"], address(shop), 80, timeout=0.3).ok
    assert not site.lab.fetch(shop["netns"], address(safe), 80, timeout=0.3).ok
    with pytest.raises(Refused, match="internal"):
        site.sandbox("open", "vault", ports=("8081:80",))


def test_members_of_an_isolated_network_do_not_see_each_other(site: Site) -> None:
    site.network("apart", "10.40.0.0/24", options={"icc": "false"})
    one, two = site.sandbox("one", "apart"), site.sandbox("two", "apart")
    site.serve(two, 80)
    site.lab.listener_tcp(site.neighbour, NEIGHBOUR, 80)
    assert not site.lab.fetch(one["netns"], address(two), 80, timeout=0.3).ok
    # Nor when the packet is handed to the gateway.
    site.lab.run(one["netns"], ["ip", "route", "add", address(two), "via", "10.40.0.1"])
    assert not site.lab.fetch(one["netns"], address(two), 80, timeout=0.3).ok
    assert site.lab.fetch(one["netns"], NEIGHBOUR, 80).seen == HOST


def test_what_leaves_is_masqueraded_and_members_talk_as_themselves(site: Site) -> None:
    one, two = site.sandbox("one", "web"), site.sandbox("two", "web")
    site.serve(two, 80)
    site.lab.listener_tcp(site.neighbour, NEIGHBOUR, 80)
    assert site.lab.fetch(one["netns"], NEIGHBOUR, 80).seen == HOST
    assert site.lab.fetch(one["netns"], address(two), 80).seen == address(one)


def test_ranges_lead_to_the_same_numbers_and_shifted_ranges_to_others(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("7000-7099:7000-7099", "8000-8009:80-89/udp"))
    for port in (7000, 7042, 7099):
        site.serve(shop, port)
        assert site.lab.fetch(site.neighbour, HOST, port).seen == NEIGHBOUR
        assert site.lab.fetch(site.host, "127.0.0.1", port).ok
    for offset in (0, 9):
        site.serve(shop, 80 + offset, "udp")
        assert site.lab.fetch(site.neighbour, HOST, 8000 + offset, "udp").seen == NEIGHBOUR
    assert not site.lab.fetch(site.neighbour, HOST, 7100, timeout=0.3).ok


def test_a_container_on_two_networks_is_reached_on_both(site: Site) -> None:
    both = site.sandbox("both", "web", "other", ports=("8080:80",))
    for protocol in ("tcp", "udp"):
        site.serve(both, 80, protocol)
    web, other = site.sandbox("web-client", "web"), site.sandbox("other-client", "other")
    assert site.lab.run(both["netns"], "ip route show default").stdout.count("default") == 1
    assert site.lab.fetch(web["netns"], address(both, "web"), 80).seen == address(web)
    assert site.lab.fetch(other["netns"], address(both, "other"), 80).seen == address(other)
    for client, seen in ((web, "10.20.0.1"), (other, address(other)), (both, "10.20.0.1")):
        assert site.lab.fetch(client["netns"], HOST, 8080).seen == seen
    assert site.lab.fetch(site.neighbour, HOST, 8080).seen == NEIGHBOUR


def test_a_later_bind_on_the_host_is_shadowed(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    site.lab.listener_tcp(site.host, "0.0.0.0", 8080, reply="host")
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"
    assert site.lab.fetch(site.host, "127.0.0.1", 8080).reply == "shop"
    site.daemon.delete("/v1/sandboxes/shop?force=true")
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "host"


def test_a_udp_mapping_that_moves_takes_its_flows_along(site: Site) -> None:
    """A client that keeps sending from one port reaches the new container at once."""
    with site.lab.socket(site.neighbour, kind=2) as client:
        client.settimeout(1)
        client.connect((HOST, 5000))
        # Before anything is published: the host refuses, and conntrack remembers the flow.
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        for name in ("first", "second"):
            sandbox = site.sandbox(name, "web", ports=("5000:53/udp",))
            site.serve(sandbox, 53, "udp")
            client.send(b"?")
            assert name in client.recv(1000).decode()
            site.daemon.delete(f"/v1/sandboxes/{name}?force=true")


def test_a_conflict_names_who_has_the_port(site: Site) -> None:
    site.sandbox("shop", "web", ports=("8080:80",))
    with pytest.raises(Refused, match="shop") as refused:
        site.sandbox("second", "web", ports=("127.0.0.1:8080:80",))
    assert (refused.value.status, refused.value.code) == (409, "port_in_use")
    site.lab.listener_tcp(site.host, "0.0.0.0", 9090)
    with pytest.raises(Refused, match="python"):
        site.sandbox("second", "web", ports=("9090:80",))
    # A client's ephemeral port is not in anybody's way.
    site.lab.listener_tcp(site.neighbour, NEIGHBOUR, 80)
    with site.lab.socket(site.host) as client:
        client.connect((NEIGHBOUR, 80))
        site.sandbox("second", "web", ports=(f"{client.getsockname()[1]}:80",))
    names = [s["name"] for s in site.daemon.get("/v1/sandboxes")]
    assert sorted(names) == ["second", "shop"]
