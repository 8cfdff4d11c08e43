"""Other programs' rulesets are found, in every one of the three places they can be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from lab import Lab, Namespace
from linkspan.dataplane import Add, Element, Table
from linkspan.drivers import firewall as layout
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netfilter.foreign import (
    Obstacle,
    foreign_obstacles,
    read_firewall,
    read_foreign_rules,
)


@pytest.fixture
def host(netns: Callable[[str], Namespace]) -> Namespace:
    return netns("host")


@pytest.fixture
def descriptor(host: Namespace) -> Iterator[int]:
    opened = os.open(host.path, os.O_RDONLY)
    yield opened
    os.close(opened)


def summary(obstacles: tuple[Obstacle, ...]) -> set[tuple[object, ...]]:
    return {(o.origin, o.hook, o.chain, o.kind, o.conditional) for o in obstacles}


def test_an_untouched_namespace_has_no_obstacles_and_keeps_no_legacy_tables(
    lab: Lab, host: Namespace, descriptor: int
) -> None:
    assert foreign_obstacles(descriptor) == ()
    assert read_foreign_rules(descriptor).legacy == {}
    assert lab.run(host, ["cat", "/proc/net/ip_tables_names"]).stdout == ""


def test_docker_with_iptables_nft_drops_what_is_forwarded(
    lab: Lab, host: Namespace, descriptor: int, require: Callable[..., None]
) -> None:
    require("iptables-nft")
    for rule in ("-P FORWARD DROP", "-N DOCKER-ISOLATION", "-A FORWARD -j DOCKER-ISOLATION",
                 "-A DOCKER-ISOLATION -i docker0 -j DROP", "-A FORWARD -o x -j ACCEPT",
                 "-A INPUT -j REJECT"):  # fmt: skip
        lab.run(host, ["iptables-nft", *rule.split()])
    obstacles = foreign_obstacles(descriptor)
    assert summary(obstacles) == {
        ("iptables-nft", "forward", "FORWARD", "policy", False),
        ("iptables-nft", "forward", "DOCKER-ISOLATION", "rule", True),
        ("iptables-nft", "input", "INPUT", "rule", False),
    }
    (rule,) = (o for o in obstacles if o.chain == "DOCKER-ISOLATION")
    assert rule.text.startswith('iifname "docker0"')
    assert rule.text.endswith("drop")


def test_legacy_tables_are_read_only_where_they_exist(
    lab: Lab, host: Namespace, descriptor: int, require: Callable[..., None]
) -> None:
    require("iptables-legacy", "ip6tables-legacy")
    for rule in ("-P FORWARD DROP", "-N ufw", "-A INPUT -j ufw",
                 "-A ufw -p tcp --dport 22 -j DROP", "-A FORWARD -j REJECT"):  # fmt: skip
        lab.run(host, ["iptables-legacy", *rule.split()])
    obstacles = foreign_obstacles(descriptor)
    assert summary(obstacles) == {
        ("iptables-legacy", "forward", "FORWARD", "policy", False),
        ("iptables-legacy", "forward", "FORWARD", "rule", False),
        ("iptables-legacy", "input", "ufw", "rule", True),
    }
    assert set(read_foreign_rules(descriptor).legacy) == {"ip"}
    assert lab.run(host, ["cat", "/proc/net/ip_tables_names"]).stdout.split() == ["filter"]


def test_firewalld_rejects_at_the_end_and_by_a_verdict_map(
    lab: Lab, host: Namespace, descriptor: int
) -> None:
    rules = """
        table inet firewalld {
            chain filter_FORWARD {
                type filter hook forward priority filter + 10; policy accept;
                ct state vmap { established : accept, invalid : drop }
                iifname "lo" accept
                jump zones
                reject with icmpx admin-prohibited
            }
            chain zones { iifname "eth0" goto public ; }
            chain public { counter log prefix "x" drop; }
        }"""
    lab.run(host, ["nft", "-f", "-"], stdin=rules)
    assert summary(foreign_obstacles(descriptor)) == {
        ("nft", "forward", "filter_FORWARD", "rule", True),
        ("nft", "forward", "filter_FORWARD", "rule", False),
        ("nft", "forward", "public", "rule", False),
    }


def test_our_own_tables_are_no_obstacles(host: Namespace, descriptor: int) -> None:
    with Firewall(descriptor) as firewall:
        firewall.transaction([Add(table) for table in layout.TABLES])
        assert foreign_obstacles(descriptor)
        ours = [(table.family, table.name) for table in layout.TABLES]
        assert foreign_obstacles(descriptor, ours) == ()


def test_every_table_is_read_with_elements_and_the_text_of_its_rules(
    lab: Lab, host: Namespace, descriptor: int
) -> None:
    lab.run(host, ["nft", "add table ip other"])
    lab.run(host, ["nft", "add set ip other s { type inet_service ; flags interval ; }"])
    lab.run(host, ["nft", "add element ip other s { 80, 100-200 }"])
    lab.run(host, ["nft", "add chain ip other c"])
    lab.run(host, ["nft", 'add rule ip other c tcp dport @s drop comment "no"'])
    table, *elements = read_firewall("web", descriptor)
    assert isinstance(table, Table)
    assert (table.namespace, table.family, table.name) == ("web", "ip", "other")
    (rule,) = table.chains[0].rules
    assert (rule.text, rule.comment) == ('tcp dport @s drop comment "no"', "no")
    assert set(elements) == {
        Element(namespace="web", family="ip", table="other", set="s", first=(80,)),
        Element(namespace="web", family="ip", table="other", set="s", first=(100,), last=(200,)),
    }
