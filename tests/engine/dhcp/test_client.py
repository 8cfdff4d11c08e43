"""A client's conversations: what it says, when, and what follows."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from linkspan.engine.dhcp import messages as dhcp
from linkspan.engine.dhcp.client import Client, Identity, Leased, Lost, Send
from linkspan.engine.dhcp.frames import EVERYBODY, EVERYWHERE
from linkspan.engine.dhcp.messages import Message

MAC, SERVER, SERVER_MAC = "02:00:00:00:00:05", "192.0.2.1", "02:00:00:00:00:01"
ME = Identity(mac=MAC, client_id=b"\xffme", hostname="web")


def packed(*addresses: str) -> bytes:
    return b"".join(ipaddress.IPv4Address(a).packed for a in addresses)


def reply(kind: int, asked: Message, address: str = "192.0.2.50", seconds: int = 800, **more):
    options = {
        dhcp.MESSAGE_TYPE: bytes((kind,)),
        dhcp.SERVER_IDENTIFIER: packed(SERVER),
        dhcp.LEASE_TIME: seconds.to_bytes(4, "big"),
        dhcp.SUBNET_MASK: packed("255.255.255.0"),
        dhcp.ROUTER: packed("192.0.2.254"),
        dhcp.DNS_SERVERS: packed("192.0.2.2", "192.0.2.3"),
        dhcp.DOMAIN_NAME: b"example.net",
    }
    message = Message(
        transaction=asked.transaction,
        mac=asked.mac,
        from_client=False,
        your_address=address,
        options=options,
    )
    return msgspec.structs.replace(message, **more)


def sent(commands, kind: int) -> Send:
    assert [type(c) for c in commands] == [Send]
    assert commands[0].message.type == kind
    return commands[0]


def lease(client: Client, at: float = 100.0, **more):
    """Have a client get a lease at a time; gives the lease."""
    asked = sent(client.begin(at), dhcp.DISCOVER)
    chosen = sent(client.receive(reply(dhcp.OFFER, asked.message), SERVER_MAC, at), dhcp.REQUEST)
    (leased,) = client.receive(reply(dhcp.ACK, chosen.message, **more), SERVER_MAC, at + 1)
    assert isinstance(leased, Leased)
    return leased.lease


@pytest.fixture
def client() -> Client:
    return Client(ME, chance=lambda low, high: (low + high) / 2)


def test_it_discovers_requests_and_is_bound(client):
    discover = sent(client.begin(100.0), dhcp.DISCOVER)
    assert (discover.source, discover.destination) == ("0.0.0.0", EVERYWHERE)
    assert discover.message.options[dhcp.CLIENT_IDENTIFIER] == b"\xffme"
    assert discover.message.options[dhcp.HOST_NAME] == b"web"
    request = sent(client.receive(reply(dhcp.OFFER, discover.message), SERVER_MAC, 100.5), 3)
    assert request.destination_mac == EVERYBODY
    assert request.message.options[dhcp.REQUESTED_ADDRESS] == packed("192.0.2.50")
    assert request.message.options[dhcp.SERVER_IDENTIFIER] == packed(SERVER)
    (leased,) = client.receive(reply(dhcp.ACK, request.message), SERVER_MAC, 101.0)
    got = leased.lease
    assert (got.address, got.server, got.router) == ("192.0.2.50/24", SERVER, "192.0.2.254")
    assert (got.dns, got.domain) == (("192.0.2.2", "192.0.2.3"), "example.net")
    assert (got.renew_at, got.rebind_at, got.expires) == (500.0, 800.0, 900.0)
    assert (client.phase, client.wake_at) == ("bound", 500.0)


def test_what_is_not_for_it_is_passed_over(client):
    asked = sent(client.begin(100.0), dhcp.DISCOVER).message
    offer = reply(dhcp.OFFER, asked)
    other = {"transaction": asked.transaction + 1}, {"mac": SERVER_MAC}, {"from_client": True}
    for change in other:
        assert client.receive(msgspec.structs.replace(offer, **change), SERVER_MAC, 100) == []
    nameless = {k: v for k, v in offer.options.items() if k != dhcp.SERVER_IDENTIFIER}
    nobody = msgspec.structs.replace(offer, options=nameless)
    assert client.receive(nobody, SERVER_MAC, 100) == []
    assert client.receive(reply(dhcp.ACK, asked), SERVER_MAC, 100) == []
    assert client.phase == "selecting"


def test_it_asks_again_after_twice_the_time_up_to_a_minute(client):
    client.begin(0.0)
    waits, now = [], 0.0
    for _ in range(9):
        waits.append(client.wake_at - now)
        now = client.wake_at
        sent(client.wake(now), dhcp.DISCOVER)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert client.explain() == "no DHCP server answered"


def test_an_offer_that_is_not_confirmed_is_given_up_and_named(client):
    asked = sent(client.begin(0.0), dhcp.DISCOVER)
    client.receive(reply(dhcp.OFFER, asked.message), SERVER_MAC, 0.0)
    for _ in range(3):
        sent(client.wake(client.wake_at), dhcp.REQUEST)
    sent(client.wake(client.wake_at), dhcp.DISCOVER)
    said = "DHCP server 192.0.2.1 offered 192.0.2.50, but did not confirm it"
    assert client.explain() == said


def test_a_refused_request_begins_anew_and_says_why(client):
    asked = sent(client.begin(0.0), dhcp.DISCOVER)
    request = sent(client.receive(reply(dhcp.OFFER, asked.message), SERVER_MAC, 0.0), 3)
    nak = reply(dhcp.NAK, request.message)
    nak = msgspec.structs.replace(nak, options={**nak.options, dhcp.MESSAGE: b"no\x1bpool"})
    assert client.receive(nak, SERVER_MAC, 1.0) == []
    assert client.wake(1.9) == []
    again = sent(client.wake(2.0), dhcp.DISCOVER)
    assert again.message.options.get(dhcp.REQUESTED_ADDRESS) is None
    assert client.explain() == "DHCP server 192.0.2.1 took its offer back (no?pool)"


def test_a_server_that_keeps_refusing_is_asked_less_and_less(client):
    waits, now = [], 0.0
    asked = sent(client.begin(now), dhcp.DISCOVER)
    for _ in range(8):
        request = sent(client.receive(reply(dhcp.OFFER, asked.message), SERVER_MAC, now), 3)
        client.receive(reply(dhcp.NAK, request.message), SERVER_MAC, now)
        waits.append(client.wake_at - now)
        now = client.wake_at
        asked = sent(client.wake(now), dhcp.DISCOVER)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64]


def test_at_half_time_it_asks_its_server_alone_to_extend(client):
    first = lease(client)
    assert client.wake(499.0) == []
    request = sent(client.wake(500.0), dhcp.REQUEST)
    assert (request.destination, request.destination_mac) == (SERVER, SERVER_MAC)
    assert (request.source, request.message.client_address) == ("192.0.2.50", "192.0.2.50")
    assert dhcp.SERVER_IDENTIFIER not in request.message.options
    assert dhcp.REQUESTED_ADDRESS not in request.message.options
    (leased,) = client.receive(reply(dhcp.ACK, request.message), SERVER_MAC, 501.0)
    assert leased.lease.expires == 500.0 + 800
    assert leased.lease.address == first.address
    assert client.phase == "bound"


def test_unanswered_it_asks_more_and_more_often_then_everybody(client):
    lease(client)
    times, now = [], client.wake_at
    while client.phase != "rebinding":
        (command,) = client.wake(now)
        times.append((now, command.destination))
        now = client.wake_at
    assert times == [
        (500.0, SERVER),
        (650.0, SERVER),
        (725.0, SERVER),
        (775.0, SERVER),
        (800.0, EVERYWHERE),
    ]


def test_any_server_may_extend_in_the_end(client):
    lease(client)
    client.wake(500.0)
    request = sent(client.wake(800.0), dhcp.REQUEST)
    (leased,) = client.receive(reply(dhcp.ACK, request.message), "02:00:00:00:00:09", 801.0)
    assert leased.lease.server_mac == "02:00:00:00:00:09"


def test_at_its_end_the_address_is_lost_and_asked_for_anew(client):
    got = lease(client)
    for now in (500.0, 800.0):
        client.wake(now)
    lost, anew = client.wake(900.0)
    assert isinstance(lost, Lost)
    assert lost.lease == got
    assert "no DHCP server answered" in lost.why
    assert sent([anew], dhcp.DISCOVER)
    assert client.lease is None


def test_a_refused_extension_loses_the_address_at_once(client):
    lease(client)
    request = sent(client.wake(500.0), dhcp.REQUEST)
    lost, anew = client.receive(reply(dhcp.NAK, request.message), SERVER_MAC, 501.0)
    assert lost.why == "DHCP server 192.0.2.1 refused to extend it"
    assert sent([anew], dhcp.DISCOVER)


def test_a_lease_from_before_goes_on(client):
    got = lease(client)
    later = Client(ME, got)
    assert later.begin(200.0) == []
    assert later.wake_at == 500.0
    overdue = Client(ME, got)
    assert overdue.begin(700.0) == []
    assert sent(overdue.wake(700.0), dhcp.REQUEST).destination == SERVER
    too_late = Client(ME, got)
    lost, anew = too_late.begin(900.0)
    assert isinstance(lost, Lost)
    assert sent([anew], dhcp.DISCOVER)


def test_an_endless_lease_is_never_extended(client):
    got = lease(client, seconds=dhcp.FOREVER)
    assert (got.renew_at, got.expires, client.wake_at) == (None, None, float("inf"))


def test_an_address_of_somebody_else_is_declined_and_another_asked_for(client):
    lease(client)
    told = sent(client.decline(101.0, "02:00:00:00:00:77"), dhcp.DECLINE)
    assert told.message.options[dhcp.REQUESTED_ADDRESS] == packed("192.0.2.50")
    assert told.message.client_address == dhcp.NO_ADDRESS
    assert client.wake_at == 101.0
    assert sent(client.wake(101.0), dhcp.DISCOVER)
    said = "DHCP server 192.0.2.1 gave 192.0.2.50/24, which 02:00:00:00:00:77 has already"
    assert client.explain() == said


def test_after_the_second_such_address_it_rests(client):
    for at in (100.0, 200.0):
        lease(client, at)
        client.decline(at + 1, "02:00:00:00:00:77")
    assert client.wake_at == 211.0


def test_it_gives_the_address_back_once(client):
    lease(client)
    told = sent(client.release(200.0), dhcp.RELEASE)
    assert (told.destination, told.message.client_address) == (SERVER, "192.0.2.50")
    assert client.release(200.0) == []
    assert client.wake_at == float("inf")


def test_who_shares_a_mac_asks_for_answers_to_everybody():
    client = Client(msgspec.structs.replace(ME, broadcast=True))
    assert sent(client.begin(0.0), dhcp.DISCOVER).message.broadcast


@pytest.mark.parametrize(
    ("renew", "rebind", "expected"),
    [(10, 20, (110.0, 120.0)), (30, 20, (500.0, 800.0)), (10, 900, (500.0, 800.0))],
)
def test_a_servers_own_times_count_when_they_make_sense(client, renew, rebind, expected):
    asked = sent(client.begin(100.0), dhcp.DISCOVER)
    request = sent(client.receive(reply(dhcp.OFFER, asked.message), SERVER_MAC, 100.0), 3)
    ack = reply(dhcp.ACK, request.message)
    times = {
        dhcp.RENEWAL_TIME: renew.to_bytes(4, "big"),
        dhcp.REBINDING_TIME: rebind.to_bytes(4, "big"),
    }
    ack = msgspec.structs.replace(ack, options={**ack.options, **times})
    (leased,) = client.receive(ack, SERVER_MAC, 100.0)
    assert (leased.lease.renew_at, leased.lease.rebind_at) == expected
