"""What rules compile to, where the listing of nft does not show it, and what is refused."""

from __future__ import annotations

import pytest

from linkspan.dataplane.rules import (
    Concat,
    Ct,
    FirewallRule,
    Flags,
    Limit,
    Lookup,
    Match,
    Meta,
    Named,
    Nat,
    Numgen,
    Opaque,
    Payload,
    Reject,
    SetDefinition,
    SetField,
    SetOf,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.errors import InvalidRequest, LinkspanError, Unsupported
from linkspan.kernel.netfilter.expressions import CompiledRule, compile_rule
from linkspan.kernel.netfilter.verify import read_expressions

SETS = {
    "ports": SetDefinition(
        name="ports", key=("inet_proto", "inet_service"), data=("ipv4_addr", "inet_service")
    ),
    "members": SetDefinition(name="members", key=("ipv4_addr", "ifname"), interval=True),
}


def compiled(*statements: Statement, family: str = "inet") -> CompiledRule:
    return compile_rule(FirewallRule(statements), family, SETS)


def names(*statements: Statement, family: str = "inet") -> list[str]:
    return [name for name, _ in read_expressions(compiled(*statements, family=family).expressions)]


SADDR, DADDR = Payload("ip", "saddr"), Payload("ip", "daddr")


def test_a_protocol_is_tested_once_before_fields_that_need_it() -> None:
    both = (Match(SADDR, "10.0.0.1"), Match(DADDR, "10.0.0.2"))
    assert names(*both) == ["meta", "cmp", "payload", "cmp", "payload", "cmp"]
    assert names(*both, family="ip") == ["payload", "cmp", "payload", "cmp"]
    stated = Match(Meta("nfproto"), "ipv4")
    assert names(stated, *both) == names(*both)
    assert names(Match(Payload("ether", "type"), "ip"), both[0], family="bridge") == [
        "payload", "cmp", "payload", "cmp",
    ]  # fmt: skip


def test_fields_of_two_protocols_in_one_rule_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="tests for ip and reads a field of ip6"):
        compiled(Match(SADDR, "10.0.0.1"), Match(Payload("ip6", "daddr"), "::1"))
    with pytest.raises(InvalidRequest, match="tests for tcp and reads a field of udp"):
        compiled(Match(Payload("tcp", "dport"), 80), Match(Payload("udp", "dport"), 80))
    with pytest.raises(Unsupported, match="family inet sees no arp"):
        compiled(Match(Payload("arp", "saddr ip"), "10.0.0.1"))


def test_anonymous_sets_are_numbered_through_a_transaction() -> None:
    rule = FirewallRule(
        (
            Match(Meta("mark"), SetOf((1, 2))),
            VerdictMap(Meta("iifname"), (("a", Verdict("accept")),)),
        )
    )
    made = compile_rule(rule, "inet", SETS, first_set_id=7)
    assert [anonymous.id for anonymous in made.sets] == [7, 8]
    assert [anonymous.definition.data for anonymous in made.sets] == [None, ("verdict",)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (Opaque("meta secpath exists"), "secpath"),
        (Match(Numgen("inc", 2), 0), "numgen"),
        (Match(Meta("cgroup"), 1), "cgroup"),
        (Match(Payload("ip", "ttl"), 1), "ttl"),
        (Match(Ct("ip saddr"), "10.0.0.1"), "ip saddr"),
        (Match(Meta("mark"), Named("missing")), "missing"),
        (Match(DADDR, Named("members")), "ipv4_addr . ifname"),
        (Match(Concat((DADDR, Meta("iifname"))), "x"), "concatenation"),
        (Match(DADDR, "10.0.0.0/8", "<"), "no order"),
        (Match(DADDR, "10.0.0.300"), "10.0.0.300"),
        (Match(DADDR, SetOf(("10.0.0.1",)), "<"), "does not go with a set"),
        (Flags(Ct("state"), ("odd",)), "odd"),
        (Nat("dnat", lookup=Lookup(Concat((Meta("l4proto"), Payload("th", "dport"))), "ports")),
         "must name ip or ip6"),
        (Nat("dnat", "ip6",
             lookup=Lookup(Concat((Meta("l4proto"), Payload("th", "dport"))), "ports")),
         "cannot use data"),
        (Nat("dnat", "ip"), "needs an address, a port or a map"),
        (Nat("masquerade", flags=("odd",)), "odd"),
        (Nat("tproxy"), "tproxy"),
        (Reject("odd"), "odd"),
        (SetField(Meta("pkttype"), 1), "pkttype"),
        (SetField(Payload("ip", "saddr"), 1), "whole ports"),
        (SetField(Payload("udp", "sport"), 1, mask=0xFF), "whole ports"),
        (Limit("10 mbytes/second"), "mbytes"),
        (Verdict("jump"), "is not a verdict"),
        (Verdict("accept", "somewhere"), "is not a verdict"),
        (VerdictMap(Concat((Meta("l4proto"), Payload("th", "dport"))), "ports"), "not a map that"),
    ],
)  # fmt: skip
def test_what_has_no_code_is_refused_with_its_text(statement: Statement, reason: str) -> None:
    with pytest.raises(LinkspanError) as caught:
        compiled(statement)
    assert isinstance(caught.value, (Unsupported, InvalidRequest))
    assert reason.lower() in str(caught.value).lower()
