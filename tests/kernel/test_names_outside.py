"""Names outside: passed on to the host's servers. A dnsmasq plays the rest of the world."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.reversename
import dns.rrset
import pytest

from kernel.named_site import SERVER, NamedSite
from lab import Lab, Place, Refused, open_socket
from lab.processes import wait_until
from lab.site import NEIGHBOUR, address

LARGE = "large.example.org"


class World:
    """A dnsmasq on the neighbour, and the questions that reached it."""

    def __init__(self, lab: Lab, place: Place, listen: str = NEIGHBOUR) -> None:
        self.log = lab.directory / f"dnsmasq-{listen}.log"
        texts = [f"--txt-record={LARGE},{'x' * 200}{n}" for n in range(6)]
        self.process = lab.spawn(
            place,
            [
                *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root"),
                *("--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file"),
                *(f"--listen-address={listen}", "--local=/example.org/", "--local=/arpa/"),
                *("--host-record=www.example.org,198.51.100.7,600", "--edns-packet-max=4096"),
                *("--host-record=six.example.org,2001:db8::7,600", *texts),
                *("--log-queries", f"--log-facility={self.log}"),
            ],
        )
        wait_until(self._answers(lab, place, listen), "dnsmasq to answer")

    def _answers(self, lab: Lab, place: Place, listen: str) -> Any:
        query = dns.message.make_query("ready.example.org", "A").to_wire()
        return lambda: lab.fetch(place, listen, 53, "udp", 0.2, query).ok

    def asked(self, name: str) -> int:
        """How often a name was asked for."""
        return self.log.read_text().count(f"] {name} from")


@pytest.fixture
def site(lab: Lab, require: Any) -> NamedSite:
    require("dnsmasq")
    made = NamedSite(lab)
    made.network("shop", "10.20.0.0/24")
    return made


@pytest.fixture
def world(site: NamedSite) -> World:
    return World(site.lab, site.neighbour)


@pytest.fixture
def web(site: NamedSite) -> Any:
    return site.sandbox("web", "shop")


def test_outside_names_are_answered_by_udp_and_tcp(site: NamedSite, world: World, web: Any) -> None:
    for tcp in (False, True):
        assert site.addresses(web, "www.example.org", tcp=tcp) == ["198.51.100.7"]
        assert site.addresses(web, "WWW.Example.org", tcp=tcp) == ["198.51.100.7"]
        assert site.addresses(web, "six.example.org", "AAAA", tcp=tcp) == ["2001:db8::7"]
        assert site.ask(web, "none.example.org", tcp=tcp).rcode() == dns.rcode.NXDOMAIN


def test_what_is_large_is_cut_short_by_udp_and_whole_by_tcp(
    site: NamedSite, world: World, web: Any
) -> None:
    assert site.ask(web, LARGE, "TXT", use_edns=False).flags & dns.flags.TC
    for more in ({"tcp": True}, {"use_edns": 0, "payload": 4096}):
        whole = site.ask(web, LARGE, "TXT", **more)
        assert not whole.flags & dns.flags.TC
        assert len(whole.answer[0]) == 6


def test_answers_are_kept_for_their_time_and_age(site: NamedSite, world: World, web: Any) -> None:
    other = site.sandbox("other", "shop")
    first = site.ask(web, "www.example.org").answer[0].ttl
    assert first == 600
    for _ in range(20):
        assert site.addresses(other, "WWW.example.ORG") == ["198.51.100.7"]
    assert world.asked("www.example.org") == 1
    wait_until(lambda: site.ask(web, "www.example.org").answer[0].ttl < first, "it to age")
    # dnsmasq gives no SOA: such answers are not kept (RFC 2308, section 5).
    for _ in range(2):
        assert site.ask(web, "none.example.org").rcode() == dns.rcode.NXDOMAIN
    assert world.asked("none.example.org") == 2


def test_own_names_and_addresses_are_never_asked_outside(
    site: NamedSite, world: World, web: Any
) -> None:
    site.network("back", "10.30.0.0/24")
    site.sandbox("db", "back")
    assert site.ask(web, "web", "MX").rcode() == dns.rcode.NOERROR
    assert site.ask(web, "localhost").answer
    for text in (address(web), "10.20.0.77", "10.30.0.2"):
        name = str(dns.reversename.from_address(text))
        assert site.ask(web, name, "PTR").rcode() == (
            dns.rcode.NOERROR if text == address(web) else dns.rcode.NXDOMAIN
        )
    assert site.ask(web, "0.20.10.in-addr.arpa", "SOA").rcode() == dns.rcode.NXDOMAIN
    assert site.ask(web, "9.9.9.10.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN
    assert world.asked("9.9.9.10.in-addr.arpa") == 1
    questions = re.findall(r"query\[\S+\] (\S+) from", world.log.read_text())
    assert set(questions) == {"ready.example.org", "9.9.9.10.in-addr.arpa"}


def test_an_internal_network_asks_nobody_outside(site: NamedSite, world: World, web: Any) -> None:
    site.network("vault", "10.40.0.0/24", internal=True)
    safe = site.sandbox("safe", "vault")
    for tcp in (False, True):
        answer = site.ask(safe, "www.example.org", tcp=tcp, use_edns=0)
        assert answer.rcode() == dns.rcode.NXDOMAIN
        assert [option.code for option in answer.options] == [dns.edns.EDECode.PROHIBITED]
    assert world.asked("www.example.org") == 0
    # One more network, with a way out, and the same sandbox may ask.
    site.daemon.post("/v1/sandboxes/safe/networks", {"network": "shop"})
    assert site.addresses(safe, "www.example.org") == ["198.51.100.7"]
    site.daemon.delete("/v1/sandboxes/safe/networks/shop")
    assert site.ask(safe, "www.example.org").rcode() == dns.rcode.NXDOMAIN


def test_a_silent_server_costs_one_question_a_second_and_the_next_ones_nothing(
    site: NamedSite, world: World, web: Any
) -> None:
    with open_socket(site.neighbour, socket.AF_INET, socket.SOCK_DGRAM) as silent:
        site.lab.address(site.neighbour, "eth0", "192.0.2.99/24")
        silent.bind(("192.0.2.99", 53))
        site.resolv_conf.write_text(f"nameserver 192.0.2.99\nnameserver {NEIGHBOUR}\n")
        site.daemon.restart()  # the names process looks at the file by itself, within a second
        silent.settimeout(5)

        def reached() -> bool:
            silent.setblocking(False)
            try:
                return bool(silent.recv(512))
            except BlockingIOError:
                site.ask(web, f"n{time.monotonic_ns()}.example.org")
                return False

        wait_until(reached, "the new servers to be asked")
        start = time.monotonic()
        for number in range(10):
            answer = site.ask(web, f"m{number}.example.org", timeout=4)
            assert answer.rcode() == dns.rcode.NXDOMAIN
        assert time.monotonic() - start < 3


def test_nobody_waits_for_who_asks_too_much(site: NamedSite, web: Any) -> None:
    db = site.sandbox("db", "shop")
    with (
        open_socket(site.neighbour, socket.AF_INET, socket.SOCK_DGRAM) as silent,
        open_socket(web["netns"], socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        silent.bind((NEIGHBOUR, 53))
        silent.settimeout(5)
        client.connect((SERVER, 53))
        client.settimeout(5)
        for number in range(600):
            client.send(dns.message.make_query(f"n{number}.example.org", "A").to_wire())
        start = time.monotonic()
        assert site.addresses(db, "web") == [address(web)]
        assert time.monotonic() - start < 1
        # What is more than may be open at a time is refused at once.
        refused = dns.message.from_wire(client.recv(4096))
        assert refused.rcode() == dns.rcode.SERVFAIL
        asked = 0
        silent.setblocking(False)
        try:
            while silent.recv(512):
                asked += 1
        except BlockingIOError:
            pass
        assert 0 < asked <= 256


def test_a_forged_answer_is_not_believed(site: NamedSite, web: Any) -> None:
    with (
        open_socket(site.neighbour, socket.AF_INET, socket.SOCK_DGRAM) as server,
        open_socket(web["netns"], socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind((NEIGHBOUR, 53))
        server.settimeout(5)
        client.connect((SERVER, 53))
        client.settimeout(5)
        query = dns.message.make_query("www.example.org", "A")
        client.send(query.to_wire())
        wire, asker = server.recvfrom(4096)
        asked = dns.message.from_wire(wire)
        assert asked.question == query.question

        def forge(id: int, name: str, text: str) -> bytes:
            answer = dns.message.make_response(dns.message.make_query(name, "A"))
            answer.id = id
            answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "A", text))
            return answer.to_wire()

        server.sendto(forge(asked.id ^ 1, "www.example.org", "203.0.113.66"), asker)
        server.sendto(forge(asked.id, "evil.example.org", "203.0.113.66"), asker)
        server.sendto(b"\0" * 5, asker)
        server.sendto(wire, asker)
        server.sendto(forge(asked.id, "www.example.org", "198.51.100.7"), asker)
        answer = dns.message.from_wire(client.recv(4096))
        assert answer.id == query.id
        assert str(answer.answer[0][0]) == "198.51.100.7"


def test_many_who_ask_the_same_are_asked_for_once(site: NamedSite, web: Any) -> None:
    with open_socket(site.neighbour, socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NEIGHBOUR, 53))
        server.settimeout(5)
        clients = [open_socket(web["netns"], socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
        try:
            for client in clients:
                client.settimeout(5)
                client.connect((SERVER, 53))
                client.send(dns.message.make_query("www.example.org", "A").to_wire())
            wire, asker = server.recvfrom(4096)
            answer = dns.message.make_response(dns.message.from_wire(wire))
            server.sendto(answer.to_wire(), asker)
            for client in clients:
                assert client.recv(512)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(512)
        finally:
            for client in clients:
                client.close()


def test_a_server_on_the_hosts_loopback_is_asked(site: NamedSite, web: Any) -> None:
    world = World(site.lab, site.host, "127.0.0.53")
    site.resolv_conf.write_text("nameserver 127.0.0.53\n")

    def answered() -> bool:
        return site.addresses(web, "www.example.org", timeout=6) == ["198.51.100.7"]

    wait_until(answered, "the new server to be asked")
    assert world.asked("www.example.org") == 1


def test_a_sandbox_may_have_its_own_servers(site: NamedSite, world: World, web: Any) -> None:
    other = World(site.lab, site.host, "127.0.0.54")
    own = site.sandbox("own", "shop", dns=["127.0.0.54"])
    assert site.addresses(own, "www.example.org") == ["198.51.100.7"]
    assert (world.asked("www.example.org"), other.asked("www.example.org")) == (0, 1)
    assert site.addresses(web, "www.example.org") == ["198.51.100.7"]
    assert (world.asked("www.example.org"), other.asked("www.example.org")) == (1, 1)


def test_on_an_internal_network_a_server_on_it_may_be_asked(site: NamedSite, world: World) -> None:
    site.network("vault", "10.40.0.0/24", internal=True)
    server = site.sandbox("server", {"network": "vault", "ip": "10.40.0.53"})
    inside = World(site.lab, server["netns"], "10.40.0.53")
    asker = site.sandbox("asker", "vault", dns=[NEIGHBOUR, "10.40.0.53"])
    assert site.addresses(asker, "www.example.org") == ["198.51.100.7"]
    assert (world.asked("www.example.org"), inside.asked("www.example.org")) == (0, 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dns": ["none"]}, "DNS server 'none' is no address"),
        ({"dns": ["192.0.2.1"] * 9}, "at most 8"),
        ({"dns_search": ["a b"]}, "search domain 'a b'"),
        ({"dns_options": ["Ndots 2"]}, "resolver option 'Ndots 2'"),
        ({"resolv_conf": "here"}, "give an absolute path"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(site: NamedSite, more: Any, said: str) -> None:
    with pytest.raises(Refused, match=said):
        site.sandbox("web", "shop", **more)
