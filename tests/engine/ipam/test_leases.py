"""Leases: each address once, never a special one, and released ones rest."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.drivers.records import Subnet
from linkspan.engine.ipam import Leases, address_from_mac, cursor_key, lease_key
from linkspan.errors import AddressInUse, Exhausted, InvalidRequest


def leases_of(subnet: str, **fields: object) -> Leases:
    fields = {"gateway": str(ipaddress.ip_network(subnet)[1]), **fields}
    return Leases(Subnet(subnet=subnet, **fields), "web")


def test_addresses_come_one_after_another():
    leases = leases_of("10.20.0.0/24")
    assert [leases.lease("a"), leases.lease("b"), leases.lease("c")] == [
        "10.20.0.2",
        "10.20.0.3",
        "10.20.0.4",
    ]
    assert leases.holder("10.20.0.3") == "b"
    assert len(leases) == 3


def test_a_released_address_rests_until_all_others_were_used():
    leases = leases_of("10.20.0.0/29")  # .2 to .6
    assert leases.capacity == 5
    for number in (2, 3, 4):
        assert leases.lease("a") == f"10.20.0.{number}"
    assert leases.release("10.20.0.2")
    assert leases.release("10.20.0.3")
    assert [leases.lease("b") for _ in range(4)] == [f"10.20.0.{n}" for n in (5, 6, 2, 3)]


def test_the_ring_goes_on_after_a_restart():
    before = leases_of("10.20.0.0/24")
    kept, left = before.lease("a"), before.lease("b")
    before.release(left)
    after = leases_of("10.20.0.0/24")
    after.restore(kept, "a")
    assert before.cursor is not None
    after.cursor = before.cursor
    assert after.lease("c") == "10.20.0.4"
    with pytest.raises(AddressInUse):
        after.restore(kept, "d")


def test_a_full_subnet_says_how_many_there_are_and_what_to_do():
    leases = leases_of("10.20.0.0/30")
    leases.lease("a")
    with pytest.raises(Exhausted, match=r"network web .* all 1 are leased; remove a sandbox"):
        leases.lease("b")
    leases = leases_of("10.20.0.0/24", ip_range="10.20.0.64/31")
    leases.lease("a"), leases.lease("b")
    with pytest.raises(Exhausted, match=r"range 10.20.0.64/31: all 2"):
        leases.lease("c")
    assert leases.lease("c", wanted="10.20.0.9") == "10.20.0.9"


def test_a_range_bounds_what_is_chosen_not_what_is_asked_for():
    leases = leases_of("10.20.0.0/24", ip_range="10.20.0.128/25")
    assert leases.lease("a") == "10.20.0.128"
    assert leases.lease("b", wanted="10.20.0.7") == "10.20.0.7"
    assert leases.lease("c") == "10.20.0.129"


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ("10.20.0.0", InvalidRequest, "is the network address of network web"),
        ("10.20.0.255", InvalidRequest, "is the broadcast address"),
        ("10.20.0.1", InvalidRequest, "is the gateway of network web"),
        ("10.20.0.9", InvalidRequest, "is reserved for printer"),
        ("10.21.0.9", InvalidRequest, "not inside subnet 10.20.0.0/24 of network web"),
        ("fd00::2", InvalidRequest, "not inside subnet"),
        ("10.20.0.5/24", InvalidRequest, "leave the prefix length out"),
        ("ten", InvalidRequest, "is no IP address"),
        ("10.20.0.5", AddressInUse, "is leased to shop"),
    ],
)
def test_an_address_that_cannot_be_had_says_why(wanted: str, error: type[Exception], said: str):
    leases = leases_of("10.20.0.0/24", reserved={"printer": "10.20.0.9"})
    leases.lease("shop", wanted="10.20.0.5")
    with pytest.raises(error, match=said):
        leases.lease("other", wanted=wanted)


def test_a_preferred_address_is_given_if_it_is_free():
    leases = leases_of("10.20.0.0/24")
    assert leases.lease("a", preferred="10.20.0.77") == "10.20.0.77"
    assert leases.lease("b", preferred="10.20.0.77") == "10.20.0.2"
    assert leases.lease("c", preferred="10.9.9.9") == "10.20.0.3"
    leases.release("10.20.0.77")
    assert leases.lease("a", preferred="10.20.0.77") == "10.20.0.77"


def test_what_was_never_leased_is_not_released():
    leases = leases_of("10.20.0.0/24")
    assert not leases.release("10.20.0.1")
    assert not leases.release("10.20.0.50")
    with pytest.raises(InvalidRequest):
        leases.lease("a", wanted="10.20.0.1")


def test_an_ipv6_subnet_of_any_size_leases_in_order():
    leases = leases_of("fd00:20::/64")
    assert [leases.lease("a"), leases.lease("b")] == ["fd00:20::2", "fd00:20::3"]
    assert leases.capacity == 2**64 - 2


def test_a_point_to_point_subnet_has_no_special_addresses():
    leases = leases_of("10.20.0.0/31", gateway=None)
    assert [leases.lease("a"), leases.lease("b")] == ["10.20.0.0", "10.20.0.1"]


def test_an_address_can_follow_from_the_mac():
    assert address_from_mac("fd00:20::/64", "02:42:ac:11:00:02") == "fd00:20::42:acff:fe11:2"
    with pytest.raises(InvalidRequest, match="/64"):
        address_from_mac("fd00:20::/80", "02:42:ac:11:00:02")


def test_a_lease_takes_the_same_time_in_a_full_subnet():
    def lease_many(leases: Leases, count: int) -> float:
        before = time.perf_counter()
        for _ in range(count):
            leases.lease("a")
        return (time.perf_counter() - before) / count

    leases = leases_of("10.20.0.0/16")
    empty = min(lease_many(leases, 500) for _ in range(4))
    lease_many(leases, 58_000)
    # The worst there is: every other address was released, and the ring comes round.
    for number in range(2, 60_000, 2):
        leases.release(f"10.20.{number >> 8}.{number & 255}")
    lease_many(leases, leases.capacity - 60_000 + 3)
    full = min(lease_many(leases, 500) for _ in range(4))
    assert full < 20 * empty, f"{empty * 1e6:.1f} us when empty, {full * 1e6:.1f} us at 60,000"


SUBNETS = st.sampled_from(
    [
        Subnet(subnet="10.0.0.0/29", gateway="10.0.0.1"),
        Subnet(subnet="10.0.0.0/28", gateway="10.0.0.14", reserved={"a": "10.0.0.3"}),
        Subnet(subnet="10.0.0.0/28", gateway="10.0.0.5", ip_range="10.0.0.4/30"),
        Subnet(subnet="10.0.0.0/28", gateway="10.0.0.1", ip_range="10.0.0.8/29"),
        Subnet(subnet="fd00::/125", gateway="fd00::1", reserved={"x": "fd00::4"}),
    ]
)
ACTIONS = st.lists(
    st.one_of(
        st.just(("lease", 0)),
        st.tuples(st.sampled_from(["wanted", "release", "restart"]), st.integers(0, 15)),
    ),
    max_size=60,
)


@given(SUBNETS, ACTIONS)
def test_no_address_is_leased_twice_and_none_that_is_special(
    subnet: Subnet, actions: list[tuple[str, int]]
):
    network = ipaddress.ip_network(subnet.subnet)
    forbidden = {str(network.network_address), subnet.gateway, *subnet.reserved.values()}
    if network.version == 4:
        forbidden.add(str(network.broadcast_address))
    leases, held = Leases(subnet, "web"), set[str]()
    part = ipaddress.ip_network(subnet.ip_range or subnet.subnet)
    room = [str(address) for address in part if str(address) not in forbidden]
    for what, number in actions:
        address = str(network[number % network.num_addresses])
        if what == "release":
            assert leases.release(address) == (address in held)
            held.discard(address)
        elif what == "restart":
            again = Leases(subnet, "web")
            for one in held:
                again.restore(one, "x")
            if leases.cursor is not None:
                again.cursor = leases.cursor
            leases = again
        else:
            wanted = address if what == "wanted" else None
            before = leases.cursor
            try:
                got = leases.lease("x", wanted=wanted)
            except Exhausted:
                assert held.issuperset(room)
            except (InvalidRequest, AddressInUse):
                assert wanted in held or wanted in forbidden
            else:
                assert got not in held
                assert got not in forbidden
                if wanted is None:
                    assert got == next_in_ring(room, held, before)
                held.add(got)


def next_in_ring(room: list[str], held: set[str], cursor: str | None) -> str:
    """The free address that comes first after the cursor, by the plainest way to say so."""
    number = -1 if cursor is None else int(ipaddress.ip_address(cursor))
    later = [address for address in room if int(ipaddress.ip_address(address)) > number]
    return next(address for address in [*later, *room] if address not in held)


def test_the_keys_of_a_lease():
    assert lease_key("ab", "10.0.0.2") == "leases/ab/10.0.0.2"
    assert cursor_key("ab", "10.0.0.0/24") == "cursors/ab/10.0.0.0/24"
