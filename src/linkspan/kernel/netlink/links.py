"""Network interfaces on the wire (RTM_*LINK; linux/if_link.h, net/core/rtnetlink.c)."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable

from linkspan.dataplane.links import Bridge, Veth, Vxlan
from linkspan.dataplane.objects import BridgePort, Link
from linkspan.kernel.netlink import linkkinds, wire
from linkspan.kernel.netlink.text import mac_bytes

NEWLINK = 16
DELLINK = 17
GETLINK = 18

ADDRESS = 1
IFNAME = 3
MTU = 4
LINK = 5
MASTER = 10
LINKINFO = 18
IFALIAS = 20
AF_SPEC = 26
_GROUP = 27
NET_NS_FD = 28
EXT_MASK = 29
CARRIER = 33
LINK_NETNSID = 37
XDP = 43
INFO_KIND = 1
INFO_DATA = 2
INFO_SLAVE_KIND = 4
INFO_SLAVE_DATA = 5
_VETH_INFO_PEER = 1
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS

UP = 0x1
LOOPBACK = 0x8
PROMISCUOUS = 0x100

AF_INET6 = 10
ADDR_GEN_MODE = 8
_EUI64 = 0
NONE = 1
LEAST_IPV6_MTU = 1280
"""RFC 8200, section 5; a link with less has no IPv6 (IPV6_MIN_MTU)."""

# struct ifinfomsg: family, hardware type, index, flags, mask of the flags to change
info = struct.Struct("=BxHiII")
INFO_SIZE = info.size

IndexOf = Callable[[str], int]
"""The index of a link by its name, in the namespace of the message."""

PORT_FLAGS = (("hairpin", 4), ("learning", 8), ("flood", 9), ("isolated", 33))
PORT_STATE = 1


def create(
    link: Link,
    index_of: IndexOf,
    peer_namespace: int | None = None,
    own_namespace: int | None = None,
) -> list[bytes]:
    """The messages that make a link, in order.

    The kernel takes an alias, port settings and the link-local mode only for a link that
    exists (rtnl_create_link leaves them out), so they follow in a message of their own,
    and the link is brought up last when it must not get a link-local address.
    `peer_namespace` is an open file descriptor of the namespace that a veth's peer is
    born in; None is the link's own. A bridge's MTU is set afterwards too: one that it was
    born with the kernel lets follow its ports (br_mtu_auto_adjust). A peer is born down
    (veth_open refuses it while the pair is being tied): in another namespace bring it up
    with `bring_up_peer` there.
    With `own_namespace`, an open descriptor, the link is born there, while its parent is in
    the namespace of the first message; all others are for the link's own.
    """
    late_up = link.ipv6_link_local is not None
    late_mtu = isinstance(link.kind, Bridge)
    parts = [wire.attribute_text(IFNAME, link.name)]
    if link.mac is not None:
        parts.append(wire.attribute(ADDRESS, mac_bytes(link.mac)))
    if link.mtu is not None and not late_mtu:
        parts.append(wire.attribute_u32(MTU, link.mtu))
    if link.master:
        parts.append(wire.attribute_u32(MASTER, index_of(link.master)))
    parent = getattr(link.kind, "parent", None)
    if parent is not None and not isinstance(link.kind, Vxlan):
        parts.append(wire.attribute_u32(LINK, index_of(parent)))
    if own_namespace is not None:
        parts.append(wire.attribute_u32(NET_NS_FD, own_namespace))
    if link.kind is not None:
        described = [wire.attribute_text(INFO_KIND, linkkinds.name_of(link.kind))]
        if isinstance(link.kind, Veth):
            data = _peer(link.kind, peer_namespace)
        else:
            data = linkkinds.encode(link.kind, index_of)
        if data:
            described.append(wire.nested(INFO_DATA, data))
        parts.append(wire.nested(LINKINFO, *described))
    flags = _flags(link)
    header = bytes(INFO_SIZE) if late_up else info.pack(0, 0, 0, *flags)
    messages = [wire.pack_message(NEWLINK, wire.CREATE | wire.EXCLUDE, 0, header + b"".join(parts))]
    settings = _settings(link)
    if late_mtu and link.mtu is not None:
        settings.append(wire.attribute_u32(MTU, link.mtu))
    if settings:
        messages.append(_set(link.name, settings))
    if late_up and flags[1]:
        messages.append(_set(link.name, (), flags))
    if isinstance(link.kind, Veth) and peer_namespace is None and link.kind.peer_up:
        messages += bring_up_peer(link.kind)
    return messages


def bring_up_peer(veth: Veth) -> list[bytes]:
    """The messages, in the peer's namespace, that bring the far end of a new pair up.

    Whether it makes a link-local address is settled before.
    """
    born = Link(name=veth.peer_name or "", mtu=veth.peer_mtu)
    wanted = Link(name=born.name, mtu=born.mtu, up=True, ipv6_link_local=veth.peer_ipv6_link_local)
    return change(born, wanted, lambda _: 0)


def change(old: Link, new: Link, index_of: IndexOf) -> list[bytes]:
    """The messages that turn `old` into `new` as far as `new` states it."""
    messages: list[bytes] = []
    parts: list[bytes] = []
    if new.mac is not None and new.mac != old.mac:
        parts.append(wire.attribute(ADDRESS, mac_bytes(new.mac)))
    if new.mtu is not None and new.mtu != old.mtu:
        parts.append(wire.attribute_u32(MTU, new.mtu))
    if new.master is not None and new.master != old.master:
        parts.append(wire.attribute_u32(MASTER, index_of(new.master) if new.master else 0))
    if new.kind is not None and new.kind != old.kind:
        data = linkkinds.encode_change(old.kind, new.kind)
        if data:
            kind = wire.attribute_text(INFO_KIND, linkkinds.name_of(new.kind))
            parts.append(wire.nested(LINKINFO, kind, wire.nested(INFO_DATA, data)))
    if parts:
        messages.append(_set(new.name, parts))
    settings = _settings(new, old)
    if settings:
        messages.append(_set(new.name, settings))
    flags = _flags(new, old)
    if flags[1]:
        messages.append(_set(new.name, (), flags))
    return messages


def remove(link: Link) -> bytes:
    """The message that deletes a link, by name."""
    return wire.pack_message(
        DELLINK, 0, 0, bytes(INFO_SIZE) + wire.attribute_text(IFNAME, link.name)
    )


def put_in_group(link: Link, group: int) -> bytes:
    """The message that puts a link in a group of links."""
    return _set(link.name, [wire.attribute_u32(_GROUP, group)])


def remove_group(group: int) -> bytes:
    """The message that deletes all links of a group at once.

    Deleting waits until no processor can see the links any more, 15 to 20 ms each time
    (synchronize_net), for one link or for a hundred.
    """
    return wire.pack_message(DELLINK, 0, 0, bytes(INFO_SIZE) + wire.attribute_u32(_GROUP, group))


def _set(name: str, parts: list[bytes] | tuple[()], flags: tuple[int, int] = (0, 0)) -> bytes:
    header = info.pack(0, 0, 0, *flags)
    return wire.pack_message(
        NEWLINK, 0, 0, b"".join((header, wire.attribute_text(IFNAME, name), *parts))
    )


def _flags(link: Link, old: Link | None = None) -> tuple[int, int]:
    """The flags that are stated, otherwise than in `old`, and which of them are."""
    flags = mask = 0
    for value, held, bit in (
        (link.up, old and old.up, UP),
        (link.promiscuous, old and old.promiscuous, PROMISCUOUS),
    ):
        if value is not None and value != held:
            mask |= bit
            flags |= bit if value else 0
    return flags, mask


def _settings(link: Link, old: Link | None = None) -> list[bytes]:
    """What can only be set on a link that exists, as far as `old` has it otherwise."""
    parts: list[bytes] = []
    if link.alias is not None and not (old and old.alias == link.alias):
        parts.append(wire.attribute_text(IFALIAS, link.alias))
    # A port's settings are gone when it has moved to another bridge.
    stays = old is not None and old.port == link.port and link.master in (None, old.master)
    if link.port is not None and not stays:
        data = _port(link.port)
        if data:
            kind = wire.attribute_text(INFO_SLAVE_KIND, "bridge")
            parts.append(wire.nested(LINKINFO, kind, wire.nested(INFO_SLAVE_DATA, data)))
    mode = link.ipv6_link_local
    if mode is not None and not (old and old.ipv6_link_local == mode) and _can_have_ipv6(link):
        number = wire.attribute_u8(ADDR_GEN_MODE, _EUI64 if mode else NONE)
        parts.append(wire.nested(AF_SPEC, wire.nested(AF_INET6, number)))
    return parts


def _can_have_ipv6(link: Link) -> bool:
    """Whether the kernel has IPv6 settings of the link; without, it takes none."""
    return (link.mtu is None or link.mtu >= LEAST_IPV6_MTU) and _has_ipv6()


@functools.cache
def _has_ipv6() -> bool:
    # Missing with ipv6.disable=1 on the kernel's command line, and without the module.
    return os.path.exists("/proc/sys/net/ipv6")


def _port(port: BridgePort) -> bytes:
    parts = [
        wire.attribute_u8(type, value)
        for name, type in PORT_FLAGS
        if (value := getattr(port, name)) is not None
    ]
    if port.state is not None:
        parts.append(wire.attribute_u8(PORT_STATE, port.state))
    return b"".join(parts)


def _peer(veth: Veth, namespace: int | None) -> bytes:
    parts = []
    if veth.peer_name is not None:
        parts.append(wire.attribute_text(IFNAME, veth.peer_name))
    if veth.peer_mac is not None:
        parts.append(wire.attribute(ADDRESS, mac_bytes(veth.peer_mac)))
    if veth.peer_mtu is not None:
        parts.append(wire.attribute_u32(MTU, veth.peer_mtu))
    if namespace is not None:
        parts.append(wire.attribute_u32(NET_NS_FD, namespace))
    return wire.attribute(_VETH_INFO_PEER, bytes(INFO_SIZE) + b"".join(parts))


def list_all() -> bytes:
    """The message whose dump is every link, without statistics."""
    return wire.pack_message(
        GETLINK, 0, 0, bytes(INFO_SIZE) + wire.attribute_u32(EXT_MASK, _SKIP_STATISTICS)
    )


def get(name: str) -> bytes:
    """The message that asks for one link by name."""
    return wire.pack_message(
        GETLINK, 0, 0,
        bytes(INFO_SIZE)
        + wire.attribute_text(IFNAME, name)
        + wire.attribute_u32(EXT_MASK, _SKIP_STATISTICS),
    )  # fmt: skip
