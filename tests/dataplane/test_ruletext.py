"""Rules in nft's syntax. That nft reads them as meant is tested against the program itself."""

from __future__ import annotations

from linkspan.dataplane import Chain, Element, FirewallRule, SetDefinition, Table
from linkspan.dataplane.rules import Counter, Ct, Flags, Match, Meta, Named, Opaque, Verdict
from linkspan.dataplane.ruletext import rule_text, ruleset_text

TABLE = Table(
    family="inet",
    name="t",
    sets=(
        SetDefinition(name="links", key=("ifname",), comment="ours"),
        SetDefinition(
            name="ranges", key=("inet_proto", "inet_service"), data=("ipv4_addr",), interval=True
        ),
    ),
    chains=(
        Chain(
            name="forward", hook="forward", priority=-5, policy="drop",
            rules=(
                FirewallRule((Match(Meta("iifname"), Named("links"), "!="), Counter(),
                              Verdict("goto", "other")), "not ours"),
                FirewallRule((Flags(Ct("state"), ("established", "related")), Verdict("accept"))),
            ),
        ),
    ),
)  # fmt: skip
ELEMENTS = (
    Element(table="t", set="links", first=("br-web",)),
    Element(table="t", set="ranges", first=("tcp", 80), last=("tcp", 90), data=("10.0.0.1",)),
    Element(table="elsewhere", set="links", first=("br-api",)),
)


def test_a_table_is_printed_with_its_own_elements() -> None:
    assert (
        ruleset_text(TABLE, ELEMENTS)
        == """\
table inet t {
	set links {
		type ifname
		comment "ours"
		elements = { "br-web" }
	}

	map ranges {
		type inet_proto . inet_service : ipv4_addr
		flags interval
		elements = { tcp . 80-90 : 10.0.0.1 }
	}

	chain forward {
		type filter hook forward priority -5; policy drop;
		iifname != @links counter goto other comment "not ours"
		ct state established,related accept
	}
}
"""
    )


def test_a_rule_that_is_not_understood_keeps_its_own_text() -> None:
    assert rule_text(FirewallRule((Opaque("meta secpath exists"), Verdict("drop")))) == (
        "meta secpath exists drop"
    )
    assert rule_text(FirewallRule((), text="-A FORWARD -j DROP")) == "-A FORWARD -j DROP"
