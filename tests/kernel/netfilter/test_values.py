"""Values of nftables' types: their bytes, and what is read back."""

from __future__ import annotations

import ipaddress
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.errors import InvalidRequest
from linkspan.kernel.netfilter.values import (
    TYPES,
    find_type,
    join_range,
    split_prefix,
    type_names,
    type_number,
)


@pytest.mark.parametrize(
    ("kind", "part", "packed"),
    [
        ("ipv4_addr", "10.20.0.2", "0a140002"),
        ("ipv6_addr", "fd00::2", "fd000000000000000000000000000002"),
        ("ether_addr", "02:42:0a:14:00:02", "02420a140002"),
        ("inet_proto", "tcp", "06"),
        ("inet_proto", 253, "fd"),
        ("inet_service", 8080, "1f90"),
        ("ether_type", "ip6", "86dd"),
        ("arp_op", "request", "0001"),
        ("ifname", "br-web", "62722d77656200000000000000000000"),
        ("icmpv6_type", "nd-router-advert", "86"),
        ("mark", 1, (1).to_bytes(4, sys.byteorder).hex()),
        ("ct_state", "established", (2).to_bytes(4, sys.byteorder).hex()),
    ],
)
def test_a_value_has_the_bytes_of_its_type(kind: str, part: str | int, packed: str) -> None:
    assert find_type(kind).encode(part).hex() == packed
    assert find_type(kind).decode(bytes.fromhex(packed)) == part


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("ipv4_addr", "10.20.0"), ("ipv4_addr", "10.20.0.2/24"), ("ipv4_addr", 5),
        ("ipv6_addr", "10.0.0.1"), ("ether_addr", "02:42"), ("ether_addr", "zz:42:0a:14:00:02"),
        ("inet_service", 65536), ("inet_service", -1), ("inet_proto", "no-such"),
        ("ifname", ""), ("ifname", "sixteen-letters-"), ("mark", 1 << 32), ("verdict", "accept"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_with_its_text(kind: str, part: str | int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        find_type(kind).encode(part)
    assert repr(part) in str(caught.value)
    assert kind in str(caught.value)


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"colour.*ipv4_addr"):
        find_type("colour")


@given(st.lists(st.sampled_from(sorted(set(TYPES) - {"verdict"})), min_size=1, max_size=5))
def test_a_row_of_types_is_one_number_and_back(names: list[str]) -> None:
    assert type_names(type_number(tuple(names))) == tuple(names)


def test_numbers_of_concatenations_are_those_of_nft() -> None:
    # Seen in what nft 1.0.6 sends for "type inet_proto . inet_service" and the like.
    assert type_number(("inet_proto", "inet_service")) == 0x30D
    assert type_number(("ipv4_addr", "inet_service")) == 0x1CD
    assert type_number(("ipv4_addr", "ifname")) == 0x1E9
    assert type_names(0x30D << 6 | 63) is None


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_prefix_is_split_into_its_ends_and_joined_again(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int
) -> None:
    bits = min(bits, address.max_prefixlen)
    network = ipaddress.ip_network((address, bits), strict=False)
    kind = find_type(f"ipv{address.version}_addr")
    ends = split_prefix(f"{address}/{bits}", kind)
    assert ends == (network.network_address.packed, network.broadcast_address.packed)
    text = join_range(*ends, kind)
    assert text is not None
    assert ipaddress.ip_network(text) == network
    assert ("/" in text) is (bits < address.max_prefixlen)


def test_a_range_that_is_no_prefix_has_no_text() -> None:
    kind = find_type("ipv4_addr")
    for first, last in (("10.0.0.1", "10.0.0.2"), ("10.0.0.0", "10.0.0.2")):
        assert join_range(kind.encode(first), kind.encode(last), kind) is None
    with pytest.raises(InvalidRequest, match=r"10\.0\.0\.0/33"):
        split_prefix("10.0.0.0/33", kind)
