"""Subnets: what is asked for is checked and completed, and nothing overlaps."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.drivers.records import Subnet
from linkspan.engine.ipam import (
    Occupied,
    Pool,
    choose_subnet,
    complete_subnet,
    complete_subnets,
    find_overlap,
    parse_pool,
    unique_local_pool,
)
from linkspan.engine.requests import SubnetRequest
from linkspan.errors import AddressInUse, Exhausted, InvalidRequest

POOLS = ("172.20.0.0/14:24", "10.160.0.0/12:24")


def test_the_first_address_is_the_gateway():
    assert complete_subnet("10.20.0.0/24") == Subnet(subnet="10.20.0.0/24", gateway="10.20.0.1")
    assert complete_subnet("FD00:20:0::/64").gateway == "fd00:20::1"
    assert complete_subnet("10.20.0.0/24", choose_gateway=False).gateway is None
    taken = complete_subnet("10.20.0.0/24", reserved={"router": "10.20.0.1"})
    assert taken.gateway == "10.20.0.2"


def test_what_is_stated_is_kept_in_canonical_spelling():
    found = complete_subnet(
        "fd00:20::/64",
        gateway="fd00:0020::00ff",
        ip_range="fd00:20::8000/113",
        reserved={"printer": "fd00:20:0::9"},
    )
    assert found == Subnet(
        subnet="fd00:20::/64",
        gateway="fd00:20::ff",
        ip_range="fd00:20::8000/113",
        reserved={"printer": "fd00:20::9"},
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"subnet": "10.20.0.5/24"}, "host bits set; the network address would be 10.20.0.0/24"),
        ({"subnet": "10.20.0.0"}, "no prefix length"),
        ({"subnet": "10.20.0/24"}, "is no prefix"),
        ({"subnet": "10.20.0.0/33"}, "is no prefix"),
        ({"subnet": "127.0.0.0/16"}, "not for containers"),
        ({"subnet": "224.0.0.0/8"}, "not for containers"),
        ({"subnet": "0.0.0.0/8"}, "not for containers"),
        ({"subnet": "0.0.0.0/0"}, "not for containers"),
        ({"subnet": "fe80::/64"}, "link-local"),
        ({"subnet": "16.0.0.0/4"}, "too large"),
        ({"gateway": "10.21.0.1"}, "gateway 10.21.0.1 is not inside subnet 10.20.0.0/24"),
        ({"gateway": "fd00::1"}, "not inside"),
        ({"gateway": "10.20.0.0"}, "is the network address"),
        ({"gateway": "10.20.0.255"}, "is the broadcast address"),
        ({"gateway": "10.20.0.1/24"}, "leave the prefix length out"),
        ({"gateway": "fe80::1%eth0"}, "has a zone"),
        ({"ip_range": "10.21.0.0/25"}, "address range 10.21.0.0/25 is not inside subnet"),
        ({"ip_range": "10.20.0.0/23"}, "not inside"),
        ({"ip_range": "10.20.0.5/25"}, "network address would be 10.20.0.0/25"),
        ({"reserved": {"printer": "10.9.0.1"}}, "reserved address printer 10.9.0.1 is not inside"),
        ({"reserved": {"a": "10.20.0.9", "b": "10.20.0.9"}}, "two names"),
        ({"gateway": "10.20.0.9", "reserved": {"a": "10.20.0.9"}}, "also reserved for a"),
        (
            {"subnet": "10.0.0.0/30", "reserved": {"a": "10.0.0.1", "b": "10.0.0.2"}},
            "no address left for a gateway",
        ),
    ],
)
def test_a_wrong_value_is_named_and_the_right_one_suggested(fields: dict[str, object], said: str):
    with pytest.raises(InvalidRequest, match=said):
        complete_subnet(**{"subnet": "10.20.0.0/24", **fields})


def test_a_network_without_a_subnet_gets_one_that_nobody_has():
    occupied = [
        Occupied("0.0.0.0/0", "the default route"),
        Occupied("172.20.0.0/24", "network a"),
        Occupied("172.20.1.128/32", "an address of eth0"),
        Occupied("fd00::/8", "a route by eth0"),
    ]
    (found,) = complete_subnets([], POOLS, occupied)
    assert found == Subnet(subnet="172.20.2.0/24", gateway="172.20.2.1")


def test_all_subnets_of_one_request_keep_clear_of_each_other():
    wishes = [SubnetRequest(), "fd00:20::/64", SubnetRequest(subnet="172.20.0.0/16")]
    found = complete_subnets(wishes, POOLS, [])
    assert [subnet.subnet for subnet in found] == [
        "172.21.0.0/24",
        "fd00:20::/64",
        "172.20.0.0/16",
    ]
    with pytest.raises(AddressInUse, match=r"overlaps 10.0.0.0/8 of another subnet"):
        complete_subnets(["10.0.0.0/8", "10.1.0.0/16"], POOLS, [])


def test_an_overlap_names_the_holder():
    occupied = [Occupied("10.20.0.0/16", "network web"), Occupied("10.9.0.0/24", "a route by eth0")]
    with pytest.raises(AddressInUse, match=r"overlaps 10.20.0.0/16 of network web; choose another"):
        complete_subnets(["10.20.7.0/24"], POOLS, occupied)
    with pytest.raises(AddressInUse, match=r"is that of a route by eth0"):
        complete_subnets(["10.9.0.0/24"], POOLS, occupied)
    assert find_overlap("10.21.0.0/24", occupied) is None


def test_parts_of_a_subnet_need_the_subnet():
    with pytest.raises(InvalidRequest, match="need a subnet"):
        complete_subnets([SubnetRequest(gateway="10.20.0.1")], POOLS, [])


def test_used_up_pools_say_so():
    pools = [parse_pool("10.0.0.0/28:30")]
    with pytest.raises(Exhausted, match=r"all 4 subnets .*10.0.0.0/28:30.* state a subnet"):
        choose_subnet(pools, [Occupied("10.0.0.0/8", "a route by eth0")])
    with pytest.raises(Exhausted, match="none"):
        choose_subnet(pools, [], version=6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.0", "write a prefix"),
        ("10.0.0.0/8:", "write a prefix"),
        ("10.0.0.0/x:24", "write a prefix"),
        ("10.0.0.1/8:24", "network address would be 10.0.0.0/8"),
        ("10.0.0.0/16:8", "between 16 and 30"),
        ("10.0.0.0/16:31", "between 16 and 30"),
    ],
)
def test_a_wrong_pool_is_explained(text: str, said: str):
    with pytest.raises(InvalidRequest, match=said):
        parse_pool(text)


def test_a_pool_without_a_length_is_one_subnet():
    pool = parse_pool("172.17.0.0/16")
    assert choose_subnet([pool], []) == "172.17.0.0/16"


def test_a_host_has_its_own_unique_local_pool():
    pool = unique_local_pool(bytes.fromhex("123456789a"))
    assert pool == Pool("fd12:3456:789a::/48", 64)
    taken = [Occupied("fd12:3456:789a::/64", "network a")]
    assert choose_subnet([pool], taken, 6) == "fd12:3456:789a:1::/64"


PREFIXES = st.builds(
    lambda number, length: str(ipaddress.ip_network((0x0A000000 + number, length), strict=False)),
    st.integers(0, 2047),
    st.integers(21, 32),
)


@given(st.lists(PREFIXES, max_size=12), st.integers(23, 28))
def test_the_first_subnet_that_overlaps_nothing_is_chosen(prefixes: list[str], length: int):
    base = ipaddress.ip_network("10.0.0.0/21")
    occupied = [ipaddress.ip_network(prefix) for prefix in prefixes]
    free = [
        candidate
        for candidate in base.subnets(new_prefix=length)
        if not any(candidate.overlaps(other) for other in occupied)
    ]
    pools = [parse_pool(f"{base}:{length}")]
    held = [Occupied(prefix, "x") for prefix in prefixes]
    if free:
        assert choose_subnet(pools, held) == str(free[0])
    else:
        with pytest.raises(Exhausted):
            choose_subnet(pools, held)


def test_choosing_among_a_million_subnets_is_quick():
    pools = [parse_pool("10.0.0.0/8:28")]
    occupied = [Occupied(f"10.{n >> 8}.{n & 255}.0/24", "x") for n in range(5000)]
    before = time.perf_counter()
    assert choose_subnet(pools, occupied) == "10.19.136.0/28"
    assert time.perf_counter() - before < 2
