"""How long answers from outside are kept. dnspython writes them."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.names.cache import LONGEST, LONGEST_NEGATIVE, Cache

SOA = "ns.example.org. admin.example.org. 1 2 3 4 {minimum}"


def answer(*rows: str, code: int = 0, authority: tuple[str, ...] = (), **more: Any) -> Any:
    made = dns.message.make_response(dns.message.make_query("www.example.org", "A", **more))
    made.set_rcode(code)
    for section, texts in ((made.answer, rows), (made.authority, authority)):
        for text in texts:
            name, ttl, type, data = text.split(" ", 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", type, data))
    return made


def kept_for(message: Any) -> int:
    """Whole seconds for which a cache gives it."""
    cache = Cache()
    cache.put("key", message.to_wire(), 100.0)
    alive = [n for n in (0, 1, 9, 10, 29, 30, 59, 60, 299, 300, 3599, 3600, 90000)
             if cache.get("key", 100.0 + n) is not None]  # fmt: skip
    return max(alive, default=-1)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        (answer("www.example.org. 60 A 198.51.100.7"), 59),
        (answer("www.example.org. 60 CNAME a.", "a. 10 A 198.51.100.7"), 9),
        (answer("www.example.org. 60 A 1.2.3.4", authority=("example.org. 30 NS a.",)), 29),
        (answer("www.example.org. 0 A 198.51.100.7"), -1),
        (answer("www.example.org. 86400 A 198.51.100.7"), LONGEST - 1),
        (answer("www.example.org. 60 A 198.51.100.7", use_edns=0), 59),
        (answer(code=3, authority=(f"example.org. 60 SOA {SOA.format(minimum=30)}",)), 29),
        (answer(code=0, authority=(f"example.org. 30 SOA {SOA.format(minimum=60)}",)), 29),
        (answer(authority=(f"example.org. 9000 SOA {SOA.format(minimum=9000)}",)),
         LONGEST_NEGATIVE - 1),
        (answer(code=3), -1),
        (answer(code=0), -1),
        (answer(code=2), -1),
        (answer("www.example.org. 60 A 198.51.100.7", code=5), -1),
    ],
)  # fmt: skip
def test_how_long(message: Any, seconds: int) -> None:
    assert kept_for(message) == seconds


def test_what_was_cut_short_is_not_kept() -> None:
    message = answer("www.example.org. 60 A 198.51.100.7")
    message.flags |= dns.flags.TC
    assert kept_for(message) == -1


def test_times_to_live_run_down() -> None:
    cache = Cache()
    message = answer("www.example.org. 60 CNAME a.", "a. 50 A 198.51.100.7", use_edns=0)
    cache.put("key", message.to_wire(), 100.0)
    body = cache.get("key", 120.9)
    assert body is not None
    aged = dns.message.from_wire(b"\0\0" + body)
    assert [rows.ttl for rows in aged.answer] == [40, 30]
    assert aged.edns == 0
    assert aged.payload == message.payload


def test_old_ones_make_room() -> None:
    cache = Cache(largest=3)
    wire = answer("www.example.org. 60 A 198.51.100.7").to_wire()
    for number in range(5):
        cache.put(number, wire, 0.0)
    assert [cache.get(n, 1.0) is not None for n in range(5)] == [False, False, True, True, True]


@given(st.binary(max_size=200))
def test_nonsense_is_never_kept_nor_an_error(data: bytes) -> None:
    cache = Cache()
    header = b"\0\1\x81\x80\0\1\0\2\0\1\0\1"
    for wire in (data, header + data):
        if len(wire) >= 12:
            cache.put("key", wire, 0.0)


@given(st.data())
def test_a_damaged_answer_is_no_error(data: st.DataObject) -> None:
    wire = bytearray(answer("www.example.org. 60 CNAME a.", "a. 50 A 198.51.100.7").to_wire())
    for _ in range(data.draw(st.integers(1, 5))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cache = Cache()
    cache.put("key", bytes(wire), 0.0)
    body = cache.get("key", 10.0)
    assert body is None or len(body) == len(wire) - 2
