"""Rules of other firewalls: which of them stop our packets, and what lets us pass."""

from __future__ import annotations

from typing import Any

import pytest

from linkspan.api.obstacles import OUR_BRIDGES, choose_stops, concerns_us, is_ours
from linkspan.kernel.netfilter.foreign import ForeignRules, Obstacle

TABLE = ("inet", "linkspan")


def rules(text: str = "", *chains: dict[str, Any], legacy: str = "") -> ForeignRules:
    return ForeignRules(
        nft=tuple({"chain": chain} for chain in chains),
        nft_text=text,
        legacy={"ip": legacy} if legacy else {},
    )


def base(family: str, table: str, name: str, policy: str = "drop") -> dict[str, Any]:
    return {
        "family": family, "table": table, "name": name, "handle": 1, "type": "filter",
        "hook": "forward", "prio": 0, "policy": policy,
    }  # fmt: skip


def test_a_policy_drop_stops_us_and_the_fix_is_in_its_own_language():
    (stop,) = choose_stops(rules("", base("inet", "fw", "fwd")), [TABLE], ["ls-*"])
    assert stop.sure
    assert stop.fix == (
        "nft insert rule inet fw fwd iifname '\"ls-*\"' accept",
        "nft insert rule inet fw fwd oifname '\"ls-*\"' accept",
    )
    (stop,) = choose_stops(rules("", base("ip", "filter", "FORWARD")), [TABLE], ["ls-*"])
    assert stop.fix[0] == "iptables -I FORWARD -i ls-+ -j ACCEPT"


def test_with_docker_the_fix_goes_to_the_chain_that_it_leaves_alone():
    user = {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 2}
    found = choose_stops(rules("", base("ip", "filter", "FORWARD"), user), [TABLE], ["ls-*"])
    assert found[0].fix[0] == "iptables -I DOCKER-USER -i ls-+ -j ACCEPT"


def test_our_own_tables_are_no_obstacle():
    assert choose_stops(rules("", base(*TABLE, "forward")), [TABLE], ["ls-*"]) == ()


def test_a_fix_that_is_in_place_is_seen():
    text = (
        'table inet fw {\n\tchain fwd {\n\t\tiifname "ls-*" accept # handle 3\n'
        '\t\toifname "ls-*" accept # handle 4\n\t}\n}\n'
    )
    assert choose_stops(rules(text, base("inet", "fw", "fwd")), [TABLE], ["ls-*"]) == ()
    half = text.replace("oifname", "iifname")
    assert len(choose_stops(rules(half, base("inet", "fw", "fwd")), [TABLE], ["ls-*"])) == 1
    elsewhere = text.replace("inet fw", "inet other")
    assert len(choose_stops(rules(elsewhere, base("inet", "fw", "fwd")), [TABLE], ["ls-*"])) == 1


def test_legacy_rules_are_fixed_by_their_own_program():
    legacy = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
    (stop,) = choose_stops(rules(legacy=legacy), [TABLE], ["ls-*"])
    assert stop.fix[0] == "iptables-legacy -I FORWARD -i ls-+ -j ACCEPT"
    fixed = legacy.replace(
        "COMMIT", "-A FORWARD -i ls-+ -j ACCEPT\n-A FORWARD -o ls-+ -j ACCEPT\nCOMMIT"
    )
    assert choose_stops(rules(legacy=fixed), [TABLE], ["ls-*"]) == ()


@pytest.mark.parametrize(
    ("text", "concerned"),
    [
        ('oifname "docker0" drop', False),
        ('iifname != "docker0" oifname "docker0" drop', False),
        ('iifname "ls-0123456789" drop', True),
        ('iifname "linkspan0" drop', True),
        ('iifname "l*" drop', True),
        ('iifname { "docker0", "ls-*" } drop', True),
        ('iifname { "docker0", "br-*" } drop', False),
        ("tcp dport 22 drop", True),
        ("ct state invalid drop", False),
        ('iifname != "eth0" drop', True),
        ("-A FORWARD -i docker0 -j DROP", False),
        ("-A FORWARD ! -i eth0 -j DROP", True),
        ("-A FORWARD -m conntrack --ctstate INVALID -j DROP", False),
    ],
)
def test_a_rule_for_other_interfaces_does_not_concern_us(text: str, concerned: bool):
    obstacle = Obstacle(
        origin="nft", family="inet", table="fw", chain="fwd", hook="forward", kind="rule",
        text=text, conditional=True,
    )  # fmt: skip
    assert concerns_us(obstacle, OUR_BRIDGES) is concerned


@pytest.mark.parametrize(
    ("name", "ours"),
    [("ls-01", True), ("ls-*", True), ("ls-+", True), ("ls", False), ("l+", True), ("eth0", False)],
)
def test_which_interfaces_are_ours(name: str, ours: bool):
    assert is_ours(name, OUR_BRIDGES) is ours
