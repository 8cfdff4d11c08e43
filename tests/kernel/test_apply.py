"""What is described is what the kernel then has, by its own account; failures leave nothing."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import Namespace as Place
from linkspan.dataplane import (
    Add,
    Address,
    Bridge,
    BridgePort,
    DataPlane,
    Element,
    FdbEntry,
    Key,
    Link,
    Loopback,
    Macvlan,
    Namespace,
    Neighbour,
    NextHop,
    Object,
    Other,
    Remove,
    Replace,
    Route,
    Rule,
    SetDefinition,
    Sysctl,
    Table,
    Tun,
    Veth,
    Vxlan,
    diff,
)
from linkspan.errors import InvalidRequest, KernelRefused, NotFound
from linkspan.kernel import namespaces, sysctl
from linkspan.kernel.apply import Kernel
from linkspan.kernel.observe import PARTS, observe

EMPTY = DataPlane()
BRIDGE = Link(
    name="br0",
    kind=Bridge(stp=False, forward_delay=0),
    mac="02:00:00:00:00:01",
    up=True,
    alias="linkspan:network:1",
    ipv6_link_local=False,
)
PORTS = SetDefinition(
    name="ports", key=("inet_proto", "inet_service"), data=("ipv4_addr", "inet_service")
)
TABLE = Table(family="inet", name="linkspan", sets=(PORTS,))
GROUND = (Add(TABLE), Add(BRIDGE), Add(Address(link="br0", address="10.20.0.1/16")))

Ip = Callable[..., Any]


def sandbox(number: int) -> list[Object]:
    name = f"blue{number}"
    return [
        Namespace(namespace=name),
        Element(table="linkspan", set="ports", first=("tcp", 8000 + number),
                data=(f"10.20.1.{number}", 80)),
        Link(namespace=name, name="lo", kind=Loopback(), up=True),
        Link(
            name=f"v{number}",
            kind=Veth(
                peer_name="eth0",
                peer_namespace=name,
                peer_mac=f"02:42:0a:14:01:{number:02x}",
                peer_mtu=1400,
                peer_up=True,
            ),
            mtu=1400,
            up=True,
            master="br0",
            alias=f"linkspan:endpoint:{number}",
            port=BridgePort(hairpin=True, isolated=True, learning=False),
            ipv6_link_local=False,
        ),
        Address(namespace=name, link="eth0", address=f"10.20.1.{number}/16"),
        Address(namespace=name, link="eth0", address=f"fd00::{number}/64", nodad=True),
        Route(namespace=name, destination="0.0.0.0/0", gateway="10.20.0.1", link="eth0",
              protocol=0x6C),
        Sysctl(namespace=name, path="ipv4/conf/eth0/arp_ignore", value="1"),
    ]  # fmt: skip


def attach(number: int) -> tuple[Add, ...]:
    return diff(EMPTY, DataPlane(sandbox(number)))  # type: ignore[return-value]


def places(kernel: Kernel, *names: str) -> dict[str, str | None]:
    return {"host": None, **{name: kernel.place(name).path for name in names}}


def keys(kernel: Kernel) -> set[Key]:
    """What is in the host's namespace, without what it learns by itself."""
    parts = set(PARTS) - {"fdb", "neighbours"}
    return {key for item in observe(places(kernel), parts) if "ff00::/8" not in (key := item.key)}


def test_a_sandbox_is_what_was_described(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    kernel.apply(attach(1))
    path = kernel.place("blue1").path
    (host_end,) = ip("link show dev v1")
    assert host_end["ifalias"] == "linkspan:endpoint:1"
    assert host_end["master"] == "br0"
    assert host_end["mtu"] == 1400
    assert host_end["operstate"] == "UP"
    assert host_end["inet6_addr_gen_mode"] == "none"
    port = host_end["linkinfo"]["info_slave_data"]
    assert (port["hairpin"], port["isolated"], port["learning"]) == (True, True, False)
    (far_end,) = ip("addr show dev eth0", path)
    assert far_end["address"] == "02:42:0a:14:01:01"
    assert far_end["mtu"] == 1400
    addresses = {(row["local"], row["prefixlen"]) for row in far_end["addr_info"]}
    assert {("10.20.1.1", 16), ("fd00::1", 64)} <= addresses
    (default,) = ip("route show default", path)
    assert (default["gateway"], default["dev"], default["protocol"]) == ("10.20.0.1", "eth0", "108")
    (lo,) = ip("link show dev lo", path)
    assert "UP" in lo["flags"]
    elements = subprocess.check_output(["nft", "list", "map", "inet", "linkspan", "ports"])
    assert b"tcp . 8001 : 10.20.1.1 . 80" in elements
    with namespaces.opened(path) as descriptor:
        assert sysctl.read("ipv4/conf/eth0/arp_ignore", descriptor) == "1"
    ping = ["nsenter", f"--net={path}", "ping", "-c1", "-W2", "10.20.0.1"]
    assert subprocess.run(ping, capture_output=True, check=False).returncode == 0


def test_what_is_observed_satisfies_what_was_described(kernel: Kernel) -> None:
    kernel.apply(GROUND)
    kernel.apply(attach(1))
    described = DataPlane([*sandbox(1), BRIDGE])
    seen = observe(places(kernel, "blue1"))
    ours = DataPlane(item for item in seen if item.key in described)
    assert diff(ours, described) == ()


def test_detaching_leaves_nothing(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    before = keys(kernel)
    kernel.apply(attach(1))
    kernel.apply(diff(DataPlane(sandbox(1)), EMPTY))
    assert namespaces.held_in(str(Path(kernel.place("x").path).parent)) == {}
    assert keys(kernel) == before


def test_removing_what_is_gone_is_done(kernel: Kernel) -> None:
    gone = (
        Link(name="v1", kind=Veth(peer_name="eth0", peer_namespace="blue1")),
        Address(link="absent", address="10.0.0.1/24"),
        Address(link="lo", address="10.0.0.1/24"),
        Route(destination="10.0.0.0/8", link="absent"),
        Route(destination="10.0.0.0/8", gateway="10.1.1.1"),
        Rule(priority=100, table=7),
        Neighbour(link="lo", address="10.0.0.1"),
        FdbEntry(link="absent", mac="02:00:00:00:00:01"),
        Address(namespace="never", link="eth0", address="10.0.0.1/24"),
        Sysctl(namespace="never", path="ipv4/conf/eth0/forwarding", value="1"),
        Namespace(namespace="never"),
    )
    kernel.apply(tuple(Remove(item) for item in gone))


def test_an_error_names_the_object_and_the_reason(kernel: Kernel) -> None:
    with pytest.raises(KernelRefused) as caught:
        kernel.apply((Add(Address(link="eth7", address="10.0.0.1/24")),))
    assert str(caught.value) == (
        "adding address 10.0.0.1/24 on eth7: No such device (ENODEV): there is no link eth7"
    )
    with pytest.raises(KernelRefused, match=r"adding route 10\.0\.0\.0/8 .*invalid gateway"):
        kernel.apply((Add(Route(destination="10.0.0.0/8", gateway="10.9.9.9", link="lo")),))
    with pytest.raises(InvalidRequest, match="not an IP address"):
        kernel.apply((Add(Address(link="lo", address="10.0.0.300/24")),))
    with pytest.raises(NotFound):
        kernel.apply((Add(Address(namespace="never", link="eth0", address="10.0.0.1/24")),))


def test_a_failed_attach_is_taken_back(kernel: Kernel) -> None:
    kernel.apply(GROUND)
    before = keys(kernel)
    wrong = Route(namespace="blue1", destination="10.9.0.0/16", gateway="192.0.2.1", link="eth0")
    with pytest.raises(KernelRefused, match=r"10\.9\.0\.0/16"):
        kernel.apply((*attach(1), Add(wrong)))
    assert keys(kernel) == before
    assert namespaces.has_vanished(kernel.place("blue1").path, None)


def test_what_was_there_before_a_failure_stays(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    kernel.apply(attach(1))
    with pytest.raises(KernelRefused):
        kernel.apply(attach(1))
    assert ip("link show dev v1")[0]["ifalias"] == "linkspan:endpoint:1"
    assert not namespaces.has_vanished(kernel.place("blue1").path, None)


def test_a_change_is_taken_back(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    quicker = Link(name="br0", mtu=1300)
    absent = Address(link="absent", address="10.0.0.1/24")
    with pytest.raises(KernelRefused):
        kernel.apply((Replace(Link(name="br0", kind=Bridge(), mtu=1500), quicker), Add(absent)))
    assert ip("link show dev br0")[0]["mtu"] == 1500


def test_a_strangers_link_of_our_name_is_left_as_it_is(kernel: Kernel, ip: Ip) -> None:
    subprocess.run(["ip", "link", "add", "br0", "type", "bridge"], check=True)
    for repair in (False, True):
        with pytest.raises(KernelRefused, match="EEXIST"):
            kernel.apply((Add(BRIDGE),), repair=repair)
    (link,) = ip("link show dev br0")
    assert "ifalias" not in link
    assert "UP" not in link["flags"]


def test_repair_makes_what_is_ours_as_stated(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    kernel.apply(attach(1))
    for words in ("set v1 nomaster", "set v1 down", "set br0 mtu 1300"):
        subprocess.run(["ip", "link", *words.split()], check=True)
    path = kernel.place("blue1").path
    inside = ["nsenter", f"--net={path}", "ip", "link", "set", "eth0", "down"]
    subprocess.run(inside, check=True)
    kernel.apply(attach(1), repair=True)
    (link,) = ip("link show dev v1")
    assert (link["master"], link["operstate"]) == ("br0", "UP")
    assert link["linkinfo"]["info_slave_data"]["hairpin"]
    assert "UP" in ip("link show dev eth0", path)[0]["flags"]
    assert ip("route show default", path)[0]["gateway"] == "10.20.0.1"


def test_drift_is_repaired_by_the_difference(kernel: Kernel) -> None:
    kernel.apply(GROUND)
    kernel.apply(attach(1))
    path = kernel.place("blue1").path
    described = DataPlane([*sandbox(1), BRIDGE])

    def drift() -> tuple[Any, ...]:
        seen = observe(places(kernel, "blue1"))
        return diff(DataPlane(item for item in seen if item.key in described), described)

    for words in (
        "link set br0 down",
        "link set v1 alias x",
        f"-n {path} link set eth0 mtu 1200",
        f"-n {path} addr del 10.20.1.1/16 dev eth0",
        f"-n {path} route replace default via 10.20.0.9 dev eth0",
        "link del v1",
    ):
        subprocess.run(["nsenter", f"--net={path}", "ip", *words.split()[2:]]
                       if words.startswith("-n") else ["ip", *words.split()],
                       check=False, capture_output=True)  # fmt: skip
        assert drift(), words
        kernel.apply(drift())
        assert drift() == (), words


def test_changes_side_by_side_do_not_touch_each_other(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    taken = (Add(Namespace(namespace="red")), Add(BRIDGE))
    bad_element = Element(table="linkspan", set="absent", first=("tcp", 1))
    results = kernel.apply_many([attach(1), taken, attach(2), (Add(bad_element),), attach(3), ()])
    assert [type(error) for error in results] == [
        type(None), KernelRefused, type(None), NotFound, type(None), type(None),
    ]  # fmt: skip
    assert {row["ifname"] for row in ip("link show")} >= {"v1", "v2", "v3"}
    assert namespaces.has_vanished(kernel.place("red").path, None)
    elements = subprocess.check_output(["nft", "list", "map", "inet", "linkspan", "ports"])
    assert all(b"80%02d" % number in elements for number in (1, 2, 3))


def test_changes_with_a_common_object_follow_each_other(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    link = Link(name="v9", kind=Veth(peer_name="w9"), alias="linkspan:endpoint:9")
    other = Link(name="v9", kind=Veth(peer_name="x9"), alias="linkspan:endpoint:10")
    assert kernel.apply_many([(Add(link),), (Remove(link),), (Add(other),)]) == [None] * 3
    assert {row["ifname"] for row in ip("link show")} >= {"v9", "x9"}


def test_many_links_go_at_once(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    assert kernel.apply_many([attach(number) for number in range(1, 21)]) == [None] * 20
    detach = [diff(DataPlane(sandbox(number)), EMPTY) for number in range(1, 21)]
    detach.append((Remove(Link(name="absent", kind=Veth())),))
    assert kernel.apply_many(detach) == [None] * 21
    assert {row["ifname"] for row in ip("link show")} == {"lo", "br0"}


def test_threads_may_share_it_and_prepare_meanwhile(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            kernel.prepare_namespace(f"blue{number}")
            kernel.apply(attach(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(ip("link show master br0")) == 8


def test_a_prepared_namespace_can_be_discarded(kernel: Kernel) -> None:
    inode = kernel.prepare_namespace("blue1")
    assert not namespaces.has_vanished(kernel.place("blue1").path, inode)
    kernel.discard_namespace("blue1")
    assert namespaces.has_vanished(kernel.place("blue1").path, None)


def test_a_file_left_by_a_reboot_is_in_nobodys_way(kernel: Kernel) -> None:
    Path(kernel.place("blue1").path).touch()
    kernel.apply((Add(Namespace(namespace="blue1")),))
    assert not namespaces.has_vanished(kernel.place("blue1").path, None)


def test_a_namespace_may_have_a_file_of_another_name(kernel: Kernel, run_dir: Path) -> None:
    path = str(run_dir / "netns" / "other-name")
    lo = Link(namespace="blue1", name="lo", kind=Loopback(), mtu=1400)
    kernel.apply((Add(Namespace(namespace="blue1", path=path)),))
    kernel.apply((Add(lo),))
    seen = observe({"blue1": path}).get(lo.key)
    assert isinstance(seen, Link)
    assert seen.mtu == 1400
    kernel.apply((Remove(Namespace(namespace="blue1", path=path)),))
    assert namespaces.has_vanished(path, None)


def test_a_foreign_namespace_is_used_and_never_deleted(
    kernel: Kernel, netns: Callable[[str], Place], ip: Ip
) -> None:
    theirs = netns("theirs")
    with namespaces.opened(theirs.path) as descriptor:
        inode = namespaces.identity(descriptor)
    kernel.apply(GROUND)
    kernel.adopt("blue1", theirs.path, inode)
    mine = tuple(op for op in attach(1) if not isinstance(op.object, Namespace))
    kernel.apply(mine)
    assert ip("addr show dev eth0", theirs.path)[0]["address"] == "02:42:0a:14:01:01"
    kernel.apply(tuple(Remove(op.object) for op in reversed(mine)))
    kernel.apply((Remove(Namespace(namespace="blue1", path=theirs.path)),))
    assert not namespaces.has_vanished(theirs.path, inode)
    assert ip("link show", theirs.path)[0]["ifname"] == "lo"


def test_a_stranger_in_the_place_of_a_foreign_namespace_is_refused(
    kernel: Kernel, netns: Callable[[str], Place]
) -> None:
    theirs = netns("theirs")
    with namespaces.opened(theirs.path) as descriptor:
        kernel.adopt("blue1", theirs.path, namespaces.identity(descriptor) + 1)
    with pytest.raises(NotFound, match="another one"):
        kernel.apply((Add(Link(namespace="blue1", name="lo", kind=Loopback(), up=True)),))


@pytest.mark.parametrize(
    "link",
    [
        Link(name="x0", kind=Macvlan(parent="br0", mode="private"), up=True),
        Link(name="x0", kind=Vxlan(vni=42, local="10.20.0.1", port=4789, learning=False)),
        Link(name="x0", kind=Vxlan(vni=43, remote="239.1.1.1", parent="br0", port=4789)),
        Link(name="x0", kind=Vxlan(vni=44, local="fd00::1", port=4789)),
        Link(name="x0", kind=Tun(tap=True), up=True, mtu=1300, alias="linkspan:x"),
        Link(name="x0", kind=Tun(tap=False), master=""),
        Link(name="x0", kind=Veth(peer_name="x1", peer_up=True, peer_mtu=1300), up=True),
        Link(name="x0", kind=Bridge(stp=True, ageing=30, multicast_snooping=False,
                                    netfilter_ip=True, netfilter_ip6=True, forward_delay=4)),
        Link(name="x0", kind=Other(name="ifb"), up=True, promiscuous=True),
        Link(name="x0", kind=Veth(peer_name="x1"), ipv6_link_local=False, up=True),
    ],
    ids=lambda link: type(link.kind).__name__,
)  # fmt: skip
def test_links_of_every_kind_are_made_seen_and_removed(kernel: Kernel, link: Link) -> None:
    kernel.apply(GROUND)
    kernel.apply((Add(link),))
    plane = DataPlane([link])
    seen = DataPlane(item for item in observe(places(kernel)) if item.key in plane)
    assert len(seen) == 1
    assert diff(seen, plane) == ()
    kernel.apply((Remove(link),))
    assert link.key not in observe(places(kernel))


@pytest.mark.parametrize(
    "item",
    [
        Route(destination="10.1.0.0/16", gateway="10.20.0.9", link="br0", metric=5, mtu=1400),
        Route(destination="10.1.0.0/16", link="br0", table=1000, protocol=0x6C, scope="link"),
        Route(destination="10.1.0.0/16", gateway="192.0.2.9", link="br0", onlink=True),
        Route(destination="10.1.0.0/16", type="blackhole"),
        Route(destination="10.1.0.0/16", type="unreachable", metric=7),
        Route(destination="10.1.0.0/16", type="prohibit"),
        Route(destination="10.1.0.0/16", type="throw", table=200),
        Route(destination="10.1.0.0/16", type="local", link="lo", table=255),
        Route(destination="10.1.0.0/16", source="10.20.0.1", link="br0"),
        Route(destination="10.1.0.0/16", hops=(
            NextHop(gateway="10.20.0.8", link="br0", weight=1),
            NextHop(gateway="10.20.0.9", link="br0", weight=3))),
        Route(destination="0.0.0.0/0", gateway="10.20.0.9", link="br0"),
        Route(destination="fd01::/64", link="br0", metric=1024),
        Route(destination="::/0", gateway="fd00::9", link="br0", metric=1024, table=1000),
        Route(destination="fd01::/64", type="blackhole", link="lo", metric=1024),
        Rule(priority=100, source="10.1.0.0/16", table=1000),
        Rule(priority=100, mark=0x10, mark_mask=0xF0, table=100, invert=True),
        Rule(priority=100, mark=0x10, table=100, protocol=0x6C),
        Rule(priority=100, input_link="br0", output_link="lo", table=100, tos=16),
        Rule(priority=100, family="ip6", destination="fd01::/64", table=100),
        Rule(priority=100, action="unreachable", source="10.3.0.0/16"),
        Rule(priority=100, table=100, suppress_prefix_length=0, uid_range=(1000, 1001),
             ip_protocol=6, source_ports=(1, 9), destination_ports=(80, 80)),
        Neighbour(link="br0", address="10.20.0.7", mac="02:00:00:00:00:07", state="permanent"),
        Neighbour(link="br0", address="fd00::7", mac="02:00:00:00:00:07"),
        Neighbour(link="br0", address="10.20.0.7", proxy=True),
        FdbEntry(link="v1", mac="02:00:00:00:00:07"),
        FdbEntry(link="vx", mac="02:00:00:00:00:07", remote="192.0.2.1", own=True),
        FdbEntry(link="vx", mac="00:00:00:00:00:00", remote="192.0.2.1", own=True),
        Sysctl(path="ipv4/conf/br0/route_localnet", value="1"),
        Sysctl(path="ipv4/conf/br0/forwarding", value="1"),
        Sysctl(path="ipv6/conf/br0/accept_ra", value="0"),
    ],
    ids=str,
)  # fmt: skip
def test_objects_on_links_are_made_seen_and_removed(kernel: Kernel, item: Object) -> None:
    kernel.apply(
        (
            *GROUND,
            Add(Address(link="br0", address="fd00::1/64", nodad=True)),
            Add(Link(name="lo", kind=Loopback(), up=True)),
            Add(Link(name="v1", kind=Veth(peer_name="v2", peer_up=True), master="br0", up=True)),
            Add(Link(name="vx", kind=Vxlan(vni=42, local="10.20.0.1", port=4789), up=True)),
        )
    )
    kernel.apply((Add(item),))
    plane = DataPlane([item])
    seen = DataPlane(held for held in observe(places(kernel)) if held.key in plane)
    assert len(seen) == 1
    assert diff(seen, plane) == ()
    kernel.apply((Remove(item),))
    if not isinstance(item, Sysctl):
        assert item.key not in observe(places(kernel))


def test_an_address_changes_in_place_or_is_put_on_again(kernel: Kernel, ip: Ip) -> None:
    kernel.apply(GROUND)
    for old, new in (
        (Address(link="br0", address="10.20.0.1/16"),
         Address(link="br0", address="10.20.0.1/16", broadcast="10.20.255.255")),
        (Address(link="br0", address="fd00::1/64"),
         Address(link="br0", address="fd00::1/64", noprefixroute=True)),
    ):  # fmt: skip
        kernel.apply((Remove(old), Add(old)))
        kernel.apply((Replace(old, new),))
        seen = observe(places(kernel)).get(new.key)
        assert seen is not None
        assert diff(DataPlane([seen]), DataPlane([new])) == ()


def test_a_route_and_a_neighbour_are_replaced(kernel: Kernel) -> None:
    kernel.apply(GROUND)
    for old, new in (
        (Route(destination="10.1.0.0/16", gateway="10.20.0.8", link="br0"),
         Route(destination="10.1.0.0/16", gateway="10.20.0.9", link="br0")),
        (Neighbour(link="br0", address="10.20.0.7", mac="02:00:00:00:00:07"),
         Neighbour(link="br0", address="10.20.0.7", mac="02:00:00:00:00:08")),
        (Rule(priority=5, table=7, protocol=3), Rule(priority=5, table=7, protocol=4)),
    ):  # fmt: skip
        kernel.apply((Add(old),))
        kernel.apply((Replace(old, new),))
        seen = observe(places(kernel)).get(new.key)
        assert seen is not None
        assert diff(DataPlane([seen]), DataPlane([new])) == ()


def test_a_table_inside_a_sandbox_does_not_keep_it_alive(kernel: Kernel) -> None:
    table = Table(namespace="blue1", family="inet", name="linkspan", sets=(PORTS,))
    kernel.apply((Add(Namespace(namespace="blue1")), Add(table)))
    path = kernel.place("blue1").path
    assert table.key in observe({"blue1": path}, ("firewall",))
    kernel.apply((Remove(table), Remove(Namespace(namespace="blue1"))))
    assert namespaces.has_vanished(path, None)
