"""The index of published ports: a clash is found wherever it is, and quickly."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.drivers.records import PublishedPort
from linkspan.engine.publishing import PortIndex
from linkspan.errors import PortInUse


def port(
    first: int, last: int | None = None, host_ip: str = "0.0.0.0", protocol: str = "tcp"
) -> PublishedPort:
    return PublishedPort(
        host_ip=host_ip, host_port=first, host_port_end=last or first, port=1, protocol=protocol
    )


@pytest.mark.parametrize(
    ("held", "asked", "clash"),
    [
        (port(80), port(80), True),
        (port(80), port(81), False),
        (port(80), port(80, protocol="udp"), False),
        (port(80), port(80, host_ip="192.0.2.1"), True),
        (port(80, host_ip="192.0.2.1"), port(80), True),
        (port(80, host_ip="192.0.2.1"), port(80, host_ip="192.0.2.2"), False),
        (port(80), port(80, host_ip="::"), False),
        (port(80, host_ip="::"), port(80, host_ip="::1"), True),
        (port(80, host_ip="::1"), port(80, host_ip="127.0.0.1"), False),
        (port(8000, 9000), port(8500), True),
        (port(8500), port(8000, 9000), True),
        (port(8000, 8500), port(8500, 9000), True),
        (port(8000, 8499), port(8500, 9000), False),
    ],
)
def test_who_clashes_with_whom(held: PublishedPort, asked: PublishedPort, clash: bool):
    index = PortIndex()
    index.add(held, "web")
    if clash:
        with pytest.raises(PortInUse, match="already published by web"):
            index.add(asked, "other")
    else:
        index.add(asked, "other")


def test_a_clash_elsewhere_says_where():
    index = PortIndex()
    index.add(port(8000, 8010, host_ip="192.0.2.1"), "web")
    with pytest.raises(
        PortInUse,
        match=r"^port 8005/tcp on 0\.0\.0\.0 is already published by web on 192\.0\.2\.1$",
    ):
        index.add(port(8005), "other")


def test_only_what_was_added_is_removed():
    index = PortIndex()
    index.add(port(8000, 8010), "web")
    assert not index.remove(port(8000))
    assert not index.remove(port(8000, 8010, host_ip="127.0.0.1"))
    assert not index.remove(port(9000))
    assert index.remove(port(8000, 8010))
    assert index.find("tcp", "0.0.0.0", 1, 65535) is None


PORTS = st.builds(
    lambda first, length, host_ip, protocol: port(first, first + length, host_ip, protocol),
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from(["0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "::1"]),
    st.sampled_from(["tcp", "udp"]),
)


def overlap(one: PublishedPort, other: PublishedPort) -> bool:
    """The rule, said without an index."""
    same_version = (":" in one.host_ip) == (":" in other.host_ip)
    any_address = {one.host_ip, other.host_ip} & {"0.0.0.0", "::"}
    return (
        one.protocol == other.protocol
        and same_version
        and (one.host_ip == other.host_ip or bool(any_address))
        and one.host_port <= other.host_port_end
        and other.host_port <= one.host_port_end
    )


@given(st.lists(st.tuples(st.booleans(), PORTS), max_size=40))
def test_it_agrees_with_comparing_each_with_each(steps: list[tuple[bool, PublishedPort]]):
    index, model = PortIndex(), list[PublishedPort]()
    for adding, one in steps:
        if not adding:
            assert index.remove(one) == (one in model)
            if one in model:
                model.remove(one)
            continue
        clashing = [other for other in model if overlap(one, other)]
        found = index.find(one.protocol, one.host_ip, one.host_port, one.host_port_end)
        assert (found is not None) == bool(clashing)
        if clashing:
            with pytest.raises(PortInUse):
                index.add(one, "x")
        else:
            index.add(one, "x")
            model.append(one)


def test_sixty_thousand_ports_are_no_burden():
    index = PortIndex()
    before = time.perf_counter()
    for number in range(1, 60_001):
        index.add(port(number), "web")
    filled = time.perf_counter() - before
    before = time.perf_counter()
    for number in range(1, 60_001, 6):
        assert index.find("tcp", "192.0.2.1", number, number) is not None
    asked = time.perf_counter() - before
    assert filled / 60_000 < 200e-6
    assert asked / 10_000 < 200e-6
