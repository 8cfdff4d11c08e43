"""What a sandbox is answered about own names. dnspython reads every answer."""

from __future__ import annotations

from collections.abc import Iterator

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest

from names.stage import BACK, SHOP, Stage, join, published, sandbox, texts

DB = sandbox("db", join(SHOP, 2, "postgres"), ports=(published(80),))


@pytest.fixture
def stage() -> Iterator[Stage]:
    web = sandbox("web", join(SHOP, 3))
    other = sandbox("db.shop", join(SHOP, 4), ports=(published(80),))
    hidden = sandbox("hidden", join(BACK, 2))
    made = Stage(web, DB, other, hidden)
    yield made
    made.close()


def test_addresses_of_both_versions(stage: Stage) -> None:
    assert texts(stage.ask("DB")) == ["10.20.0.2"]
    assert texts(stage.ask("postgres.shop.", "AAAA")) == ["fd00:20::2"]
    assert not stage.outside.asked


def test_a_name_comes_before_a_full_name_that_reads_the_same(stage: Stage) -> None:
    assert texts(stage.ask("db.shop")) == ["10.20.0.4"]


@pytest.mark.parametrize("type", ["MX", "TXT", "NS", "SOA", "CNAME", "SRV", "HTTPS", "PTR"])
def test_a_type_that_a_name_has_not_is_empty(stage: Stage, type: str) -> None:
    answer = stage.ask("db", type)
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer
    # Without one of both, glibc takes it for a referral and asks the next server.
    assert answer.flags & dns.flags.AA
    assert answer.flags & dns.flags.RA
    assert not stage.outside.asked


@pytest.mark.parametrize("name", ["hidden", "db.other", "example.org", "hidden.back", "."])
def test_what_is_not_known_here_is_asked_outside(stage: Stage, name: str) -> None:
    query = dns.message.make_query(name, "A")
    assert stage.exchange(query.to_wire()) == []
    ((question, servers, stream),) = stage.outside.asked
    assert question.wire == query.to_wire()
    assert (servers, stream) == (("192.0.2.53",), False)


def test_addresses_lead_back_to_names(stage: Stage) -> None:
    for text in ("10.20.0.2", "fd00:20::2"):
        name = str(dns.reversename.from_address(text))
        assert texts(stage.ask(name, "PTR")) == ["db.shop."]
        assert stage.ask(name, "A").rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    "name",
    [
        "9.0.20.10.in-addr.arpa",
        "0.20.10.in-addr.arpa",
        "2.0.30.10.in-addr.arpa",
        str(dns.reversename.from_address("fd00:20::99")),
        "0.0.0.0.0.0.0.0.0.2.0.0.0.0.d.f.ip6.arpa",
    ],
)
def test_our_addresses_are_not_asked_for_outside(stage: Stage, name: str) -> None:
    assert stage.ask(name, "PTR").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name", ["2.0.99.10.in-addr.arpa", "20.10.in-addr.arpa", "300.0.20.10.in-addr.arpa", "ip6.arpa"]
)
def test_other_addresses_are_asked_for_outside(stage: Stage, name: str) -> None:
    assert stage.exchange(dns.message.make_query(name, "PTR").to_wire()) == []
    assert stage.outside.asked


def test_services(stage: Stage) -> None:
    for name in ("_80._tcp.postgres", "_http._tcp.postgres", "_HTTP._TCP.db"):
        answer = stage.ask(name, "SRV")
        assert texts(answer) == ["0 0 80 db.shop."]
        assert [str(item) for rows in answer.additional for item in rows] == [
            "10.20.0.2",
            "fd00:20::2",
        ]
    assert stage.ask("_http._tcp.db", "A").rcode() == dns.rcode.NOERROR
    assert stage.ask("_http._udp.db", "SRV").rcode() == dns.rcode.NXDOMAIN
    assert stage.ask("_ldap._tcp.db", "SRV").rcode() == dns.rcode.NXDOMAIN
    assert not stage.outside.asked


def test_localhost_is_here(stage: Stage) -> None:
    assert texts(stage.ask("localhost")) == ["127.0.0.1"]
    assert texts(stage.ask("LocalHost", "AAAA")) == ["::1"]
    assert stage.ask("localhost", "MX").rcode() == dns.rcode.NOERROR


def test_what_is_not_done_is_refused(stage: Stage) -> None:
    assert stage.ask("db", "AXFR", stream=True).rcode() == dns.rcode.REFUSED
    assert stage.ask("example.org", "AXFR").rcode() == dns.rcode.REFUSED
    chaos = dns.message.make_query("version.bind", "TXT", rdclass="CH")
    (wire,) = stage.exchange(chaos.to_wire())
    assert dns.message.from_wire(wire).rcode() == dns.rcode.REFUSED
    assert stage.ask("db", use_edns=3).rcode() == dns.rcode.BADVERS


def test_any_is_answered_minimally(stage: Stage) -> None:
    assert texts(stage.ask("db", "ANY")) == ['"RFC8482" ""']


def test_edns_is_answered_with_edns(stage: Stage) -> None:
    assert stage.ask("db", use_edns=False).edns == -1
    answer = stage.ask("db", use_edns=0, want_dnssec=True, payload=1232)
    assert answer.edns == 0
    assert answer.ednsflags & dns.flags.DO


def test_without_a_way_out_there_is_nothing_outside() -> None:
    stage = Stage(sandbox("safe", join(BACK, 2)))
    answer = stage.ask("example.org", use_edns=0)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert [option.code for option in answer.options] == [dns.edns.EDECode.PROHIBITED]
    assert not stage.outside.asked
    stage.close()


def test_many_members_take_turns_and_are_cut_to_fit() -> None:
    members = [sandbox(f"w{n}", join(SHOP, n, "workers")) for n in range(10, 110)]
    stage = Stage(members[0], *members[1:])
    everybody = {f"10.20.0.{n}" for n in range(10, 110)}
    whole = stage.ask("workers", stream=True)
    assert set(texts(whole)) == everybody
    for size in (512, 900, 1232, 4096):
        answer = stage.ask("workers", use_edns=0, payload=size)
        assert len(answer.to_wire()) <= size
        cut = bool(answer.flags & dns.flags.TC)
        assert cut == (len(texts(answer)) < 100)
        assert cut == (size < 1500)
    few = stage.ask("workers", "AAAA", use_edns=False)
    assert few.flags & dns.flags.TC
    stage.close()


def test_names_that_dns_cannot_say_are_left_out() -> None:
    long = sandbox("x" * 64, join(SHOP, 2, "short", "a..b"))
    stage = Stage(long)
    assert texts(stage.ask("short")) == ["10.20.0.2"]
    stage.close()
