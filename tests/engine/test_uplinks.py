"""Which interfaces forward for us, and what is changed when the host changes its mind."""

from __future__ import annotations

from typing import Any

import pytest

from linkspan.dataplane import (
    Add,
    Address,
    Bridge,
    DataPlane,
    Element,
    Link,
    Loopback,
    NextHop,
    Object,
    Physical,
    Remove,
    Replace,
    Route,
    Sysctl,
    Veth,
)
from linkspan.engine.uplinks import find_uplinks, forwarding, plan_uplinks, release_uplinks

KERNEL, STATIC = 2, 4


def nic(name: str, **more: Any) -> Link:
    return Link(name=name, kind=more.pop("kind", Physical()), **more)


@pytest.mark.parametrize(
    ("objects", "found"),
    [
        ([nic("eth0"), Address(link="eth0", address="192.0.2.1/24")], ["eth0"]),
        ([nic("eth0"), Address(link="eth0", address="2001:db8::1/64")], []),
        ([nic("lo", kind=Loopback()), Address(link="lo", address="127.0.0.1/8")], []),
        ([nic("tun0"), Route(destination="10.0.0.0/8", link="tun0", protocol=STATIC)], ["tun0"]),
        (
            [nic("a"), nic("b"), Route(destination="0.0.0.0/0", protocol=STATIC,
              hops=(NextHop(gateway="192.0.2.1", link="a"), NextHop(link="b")))],
            ["a", "b"],
        ),
        (  # another manager's bridge: it leads to its own containers only
            [nic("docker0", kind=Bridge()), Address(link="docker0", address="172.17.0.1/16"),
             Route(destination="172.17.0.0/16", link="docker0", protocol=KERNEL)],
            [],
        ),
        (  # the host's own bridge, with its card as a port
            [nic("br0", kind=Bridge()), nic("eth0", master="br0"),
             Address(link="br0", address="192.0.2.1/24"),
             Route(destination="0.0.0.0/0", gateway="192.0.2.9", link="br0", protocol=STATIC)],
            ["br0"],
        ),
        (
            [nic("lsv0", kind=Veth(), alias="linkspan:endpoint:0"),
             Address(link="lsv0", address="10.0.0.1/24")],
            [],
        ),
        (
            [nic("eth0"), Address(namespace="inside", link="eth0", address="192.0.2.1/24")],
            [],
        ),
    ],
)  # fmt: skip
def test_an_uplink_is_where_the_hosts_packets_come_and_go(
    objects: list[Object], found: list[str]
) -> None:
    assert find_uplinks(DataPlane(objects)) == found


def guard(name: str) -> Element:
    return Element(family="inet", table="linkspan", set="uplinks", first=(name,))


def plan(uplinks: list[str], router: bool = False, forwards: str = "", **more: set[str]) -> Any:
    names = {*uplinks, *more.get("guarded", ()), *more.get("remembered", ()), "gone"}
    return plan_uplinks(
        uplinks,
        host_is_router=router,
        settings={forwarding(n): "1" if n in forwards.split() else "0" for n in names},
        guarded=more.get("guarded", set()),
        remembered=more.get("remembered", set()),
    )[1]


def on(name: str) -> Replace:
    path = forwarding(name)
    return Replace(Sysctl(path=path, value="0"), Sysctl(path=path, value="1"))


def off(name: str) -> Replace:
    path = forwarding(name)
    return Replace(Sysctl(path=path, value="1"), Sysctl(path=path, value="0"))


def test_the_guard_comes_before_what_it_guards() -> None:
    assert plan(["eth0"]) == (Add(guard("eth0")), on("eth0"))


def test_nothing_is_done_twice() -> None:
    assert plan(["eth0"], forwards="eth0", guarded={"eth0"}) == ()


def test_what_somebody_else_switched_on_is_left_alone() -> None:
    assert plan(["eth0", "cali0"], forwards="cali0") == (Add(guard("eth0")), on("eth0"))


def test_what_somebody_switched_off_is_switched_on_again() -> None:
    assert plan(["eth0"], guarded={"eth0"}) == (on("eth0"),)


def test_a_guard_that_somebody_flushed_comes_back() -> None:
    assert plan(["eth0"], forwards="eth0", remembered={"eth0"}) == (Add(guard("eth0")),)


def test_a_router_is_not_guarded_and_keeps_forwarding() -> None:
    assert plan(["eth0"], True, "eth0", guarded={"eth0"}) == (Remove(guard("eth0")),)
    assert plan(["eth0"], True, "eth0") == ()


def test_an_interface_that_is_no_uplink_any_more_is_given_back() -> None:
    change = plan([], forwards="gone", guarded={"gone"})
    assert change == (off("gone"), Remove(guard("gone")))


def test_everything_is_given_back_at_the_end() -> None:
    change = release_uplinks({"eth0"}, host_is_router=False, settings={forwarding("eth0"): "1"})
    assert change == (off("eth0"), Remove(guard("eth0")))
    change = release_uplinks({"eth0"}, host_is_router=True, settings={forwarding("eth0"): "1"})
    assert change == (Remove(guard("eth0")),)
