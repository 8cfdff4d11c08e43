"""What the kernel adds by itself to a plane that was changed."""

from __future__ import annotations

from linkspan.dataplane import (
    Address,
    DataPlane,
    Link,
    Loopback,
    Namespace,
    Object,
    Physical,
    Route,
    Sysctl,
    Veth,
    settle,
)


def observed(*more: Object) -> DataPlane:
    """A host as it is read: with its local routes and its settings."""
    own: tuple[Object, ...] = (
        Link(name="eth0", kind=Physical(), up=True),
        Address(link="eth0", address="192.0.2.10/24"),
        Route(destination="192.0.2.10/32", link="eth0", table=255, type="local", protocol=2),
        Sysctl(path="ipv4/conf/all/rp_filter", value="2"),
        Sysctl(path="ipv4/conf/default/rp_filter", value="2"),
    )
    return DataPlane((*own, *more))


def destinations(plane: DataPlane) -> set[tuple[str, str, str, int]]:
    return {(r.namespace, r.destination, r.type, r.table) for r in plane.of(Route)}


def test_nothing_changed_is_nothing_added():
    assert settle(observed(), observed()) == observed()


def test_an_address_brings_its_routes_and_takes_them_along():
    more = (
        Link(name="br0", up=True),
        Address(link="br0", address="10.0.0.1/24"),
        Address(link="br0", address="fd00::1/64"),
    )
    after = settle(observed(), observed(*more))
    assert destinations(after) - destinations(observed()) == {
        ("host", "10.0.0.1/32", "local", 255),
        ("host", "10.0.0.0/24", "unicast", 254),
        ("host", "10.0.0.255/32", "broadcast", 255),
        ("host", "fd00::1/128", "local", 255),
        ("host", "fd00::/64", "unicast", 254),
        ("host", "ff00::/8", "multicast", 255),
    }
    without = after.without(more[1].key)
    assert destinations(settle(after, without)) == {
        row for row in destinations(after) if not row[1].startswith("10.0.0.")
    }


def test_a_link_that_is_down_has_no_routes():
    more = (Link(name="br0", up=False), Address(link="br0", address="10.0.0.1/24"))
    assert destinations(settle(observed(), observed(*more))) == destinations(observed())


def test_a_described_plane_stays_without_the_kernels_routes():
    before = DataPlane((Link(name="eth0", up=True),))
    after = DataPlane((*before, Address(link="eth0", address="192.0.2.10/24")))
    assert destinations(settle(before, after)) == set()


def test_a_new_namespace_has_loopback_settings_and_the_far_end_of_its_cable():
    cable = Veth(
        peer_name="eth0", peer_namespace="shop", peer_mac="02:42:00:00:00:01", peer_up=True
    )
    more = (
        Namespace(namespace="shop"),
        Link(namespace="shop", name="lo", kind=Loopback(), up=True),
        Link(name="v0", kind=cable, up=True, mtu=1400),
    )
    after = settle(observed(), observed(*more))
    far = after.get(("link", "shop", "eth0"))
    assert isinstance(far, Link)
    assert (far.mac, far.mtu, far.up) == ("02:42:00:00:00:01", 1400, True)
    assert far.kind == Veth(peer_name="v0", peer_namespace="host")
    inside = {item.address for item in after.of(Address) if item.namespace == "shop"}
    assert inside == {"127.0.0.1/8", "::1/128", "fe80::42:ff:fe00:1/64"}
    assert after.get(("sysctl", "shop", "ipv4/conf/eth0/rp_filter")) == Sysctl(
        namespace="shop", path="ipv4/conf/eth0/rp_filter", value="2"
    )


def test_what_somebody_stated_is_left_as_it_is():
    own = Sysctl(path="ipv4/conf/br0/rp_filter", value="0")
    after = settle(observed(), observed(Link(name="br0", up=True), own))
    assert after.get(own.key) == own
