"""The socket carries out batches, and says which message was refused and why."""

from __future__ import annotations

import errno
import threading

import pytest

from lab import Namespace
from linkspan.dataplane import Address, Bridge, Link, Route
from linkspan.errors import KernelRefused
from linkspan.kernel.netlink import addresses, links, routes, seenlinks, wire
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket, Refusal
from linkspan.kernel.session import index_of_link


@pytest.fixture
def sock(home: Namespace) -> NetlinkSocket:
    with NetlinkSocket(ROUTE) as opened:
        yield opened


def bridge(name: str) -> bytes:
    return links.create(Link(name=name, kind=Bridge()), lambda _: 0)[0]


def names(sock: NetlinkSocket) -> list[str]:
    return [seenlinks.decode(payload, "").link.name for _, payload in sock.dump(links.list_all())]


def test_a_batch_is_carried_out_with_one_answer(sock: NetlinkSocket) -> None:
    assert sock.request([bridge(f"br{n}") for n in range(5)]) == [None] * 5
    assert names(sock) == ["lo", "br0", "br1", "br2", "br3", "br4"]


def test_the_refused_message_is_known_and_the_others_are_done(sock: NetlinkSocket) -> None:
    results = sock.request([bridge("a"), bridge("a"), bridge("b")])
    assert [refusal and refusal.errno for refusal in results] == [None, errno.EEXIST, None]
    assert names(sock) == ["lo", "a", "b"]


def test_a_refused_last_message_is_told_too(sock: NetlinkSocket) -> None:
    results = sock.request([bridge("a"), bridge("a")])
    assert results[0] is None
    assert results[1] is not None


def test_the_kernels_own_words_are_in_the_error(sock: NetlinkSocket) -> None:
    route = Route(destination="10.0.0.0/8", gateway="10.9.9.9", link="lo")
    (refusal,) = sock.request([routes.add(route, lambda _: 1)])
    assert refusal is not None
    assert refusal.detail == "Nexthop has invalid gateway"
    error = refusal.as_error("adding route 10.0.0.0/8")
    assert isinstance(error, KernelRefused)
    assert "adding route 10.0.0.0/8: " in str(error)
    assert str(error).endswith(": Nexthop has invalid gateway")


def test_a_batch_larger_than_a_datagram_is_cut(sock: NetlinkSocket) -> None:
    assert sock.request([bridge("br")]) == [None]
    index = index_of_link(sock, "br") or 0
    rows = [Address(link="br", address=f"10.{n >> 8}.{n & 255}.1/24") for n in range(4000)]
    rows[3000] = rows[2999]
    results = sock.request([addresses.add(row, lambda _: index) for row in rows])
    assert [n for n, refusal in enumerate(results) if refusal] == [3000]
    assert results[3000] == Refusal(errno.EEXIST, "ipv4: Address already assigned")
    found = [addresses.decode(payload, "", str) for _, payload in sock.dump(addresses.list_all())]
    assert len([row for row in found if row.address.startswith("10.")]) == 3999


def test_a_query_answers_one_object_or_why_not(sock: NetlinkSocket) -> None:
    answer = sock.query(links.get("lo"))
    assert not isinstance(answer, Refusal)
    assert seenlinks.decode(answer[1], "").index == 1
    assert sock.query(links.get("absent")) == Refusal(errno.ENODEV, "")


def test_a_dump_that_changes_meanwhile_is_read_again(home: Namespace) -> None:
    """Links come and go while they are listed: no list shows one twice or misses another."""
    with NetlinkSocket(ROUTE) as here, NetlinkSocket(ROUTE) as other:
        assert not any(here.request([bridge(f"fixed{n}") for n in range(150)]))
        stop = threading.Event()

        def churn() -> None:
            while not stop.is_set():
                other.request([bridge("moving")])
                other.request([links.remove(Link(name="moving"))])

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(20):
                found = names(here)
                assert len(found) == len(set(found))
                assert sum(name.startswith("fixed") for name in found) == 150
        finally:
            stop.set()
            thread.join()


def test_a_refused_dump_names_what_was_read(sock: NetlinkSocket) -> None:
    with pytest.raises(KernelRefused, match="reading nonsense"):
        list(sock.dump(wire.pack_message(links.GETLINK, 0, 0, b"\xff" * 16), "reading nonsense"))


def test_waiting_ends(home: Namespace) -> None:
    with NetlinkSocket(ROUTE, timeout=0.05) as sock, pytest.raises(TimeoutError):
        sock.receive()


def test_sockets_have_port_ids_of_their_own(home: Namespace) -> None:
    with NetlinkSocket(ROUTE) as one, NetlinkSocket(ROUTE) as other:
        assert one.portid != other.portid
        assert one.portid


def test_a_question_is_answered_on_a_socket_full_of_notifications(
    sock: NetlinkSocket, home: Namespace
) -> None:
    with NetlinkSocket(ROUTE, groups=1) as listening:  # RTMGRP_LINK
        sock.request([bridge("a")])
        short, long = (Link(name="a", mtu=mtu) for mtu in (1400, 1500))
        there, back = (
            links.change(one, other, lambda _: 0) for one, other in ((long, short), (short, long))
        )
        for _ in range(40):
            sock.request([*there, *back] * 20)
        answer = listening.query(links.get("a"))
        assert not isinstance(answer, Refusal)
        assert seenlinks.decode(answer[1], "").link.name == "a"
        assert listening.overtaken()
