"""Element records become bytes and come back the same."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import SetDefinition
from linkspan.kernel.netfilter.elements import SetCodec, describe_element, next_value
from linkspan.kernel.netfilter.verdicts import pack_verdict, read_verdict
from linkspan.kernel.netlink.wire import parse_attributes

PARTS: dict[str, st.SearchStrategy[Any]] = {
    "ipv4_addr": st.ip_addresses(v=4).map(str),
    "ipv6_addr": st.binary(min_size=16, max_size=16).map(
        lambda data: socket.inet_ntop(socket.AF_INET6, data)
    ),
    "ether_addr": st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":")),
    "inet_proto": st.sampled_from(["tcp", "udp", "sctp", 253]),
    "inet_service": st.integers(0, 65535),
    "ifname": st.text("abz09.-", min_size=1, max_size=15),
    "mark": st.integers(0, 0xFFFFFFFF),
}
KEYS = st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=4).map(tuple)
DATA = st.none() | st.just(("verdict",)) | KEYS


@st.composite
def sets_with_elements(draw: st.DrawFn) -> tuple[SetDefinition, list[Element]]:
    key, data = draw(KEYS), draw(DATA)
    definition = SetDefinition(name="s", key=key, data=data, interval=draw(st.booleans()))
    keys = draw(
        st.lists(st.tuples(*(PARTS[name] for name in key)), unique=True, min_size=1, max_size=8)
    )
    verdicts = st.sampled_from([("accept",), ("drop",), ("jump chain",), ("goto x",), ("return",)])
    one = verdicts if data == ("verdict",) else st.tuples(*(PARTS[name] for name in data or ()))
    elements = [
        Element(table="t", set="s", first=first, data=None if data is None else draw(one))
        for first in keys
    ]
    return definition, elements


@given(sets_with_elements(), st.booleans())
def test_elements_are_read_back_as_they_were(
    made: tuple[SetDefinition, list[Element]], one_list: bool
) -> None:
    definition, elements = made
    codec = SetCodec(definition)
    packed = [codec.pack(element) for element in elements]
    lists = [b"".join(packed)] if one_list else packed
    assert set(codec.unpack(lists, "host", "inet", "t")) == set(elements)


@given(
    st.sets(st.integers(0, 2**24 - 1), min_size=2, max_size=40).map(sorted), st.sampled_from([4, 6])
)
def test_disjoint_ranges_of_addresses_are_read_back(bounds: list[int], version: int) -> None:
    address = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    definition = SetDefinition(name="s", key=(f"ipv{version}_addr",), interval=True)
    codec = SetCodec(definition)
    top = 2 ** (32 if version == 4 else 128) - 2**24
    pairs = list(zip(bounds[::2], bounds[1::2], strict=False))
    packed = [
        codec.pack(
            Element(table="t", set="s", first=(str(address(top + a)),),
                    last=(str(address(top + b)),))
        )
        for a, b in pairs
    ]  # fmt: skip
    found = codec.unpack([b"".join(packed)], "host", "inet", "t")
    spans = []
    for element in found:
        if element.last is not None:
            ends = address(str(element.first[0])), address(str(element.last[0]))
        else:
            network = ipaddress.ip_network(str(element.first[0]))
            ends = network[0], network[-1]  # type: ignore[assignment]
        spans.append(tuple(int(end) - top for end in ends))
    assert spans == pairs


def test_a_range_of_ports_behind_an_address_keeps_both_ends() -> None:
    definition = SetDefinition(
        name="s", key=("ipv4_addr", "inet_proto", "inet_service"), data=("ipv4_addr",),
        interval=True,
    )  # fmt: skip
    codec = SetCodec(definition)
    element = Element(
        table="t", set="s", first=("10.0.0.1", "tcp", 8000), last=("10.0.0.1", "tcp", 8999),
        data=("10.20.0.2",),
    )  # fmt: skip
    assert list(codec.unpack([codec.pack(element)], "host", "inet", "t")) == [element]
    network = Element(table="t", set="s", first=("10.0.0.0/8", "udp", 53), data=("10.20.0.2",))
    assert list(codec.unpack([codec.pack(network)], "host", "inet", "t")) == [network]
    assert describe_element(element) == (
        "element 10.0.0.1 . tcp . 8000 to 10.0.0.1 . tcp . 8999 of inet t s"
    )


def test_there_is_nothing_behind_the_highest_value() -> None:
    assert next_value(b"\x00\xff") == b"\x01\x00"
    assert next_value(b"\xff\xff") is None


def test_verdicts_are_read_back() -> None:
    for text in ("accept", "drop", "return", "continue", "jump other", "goto other"):
        assert read_verdict(parse_attributes(pack_verdict(text))[2]) == text
