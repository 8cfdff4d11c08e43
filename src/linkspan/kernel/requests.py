"""Operations on objects of rtnetlink as messages, and what their refusals mean."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import NamedTuple

from linkspan.dataplane.diff import Add, Operation, Remove, overlay
from linkspan.dataplane.links import Ipvlan, Loopback, Macvlan, Physical, Tun, Veth, Vlan
from linkspan.dataplane.objects import (
    HOST,
    Address,
    FdbEntry,
    Link,
    Neighbour,
    Object,
    Route,
    Rule,
)
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import addresses, fdb, links, neighbours, routes, rules
from linkspan.kernel.netlink.socket import Refusal

IndexOf = Callable[[str], int]
DescriptorOf = Callable[[str], int | None]

_GONE: dict[type[Object], frozenset[int]] = {
    Link: frozenset((errno.ENODEV,)),
    Address: frozenset((errno.EADDRNOTAVAIL, errno.ENODEV)),
    Route: frozenset((errno.ESRCH, errno.ENODEV, errno.ENETUNREACH)),
    Rule: frozenset((errno.ENOENT, errno.ESRCH)),
    Neighbour: frozenset((errno.ENOENT, errno.ENODEV, errno.ENXIO)),
    FdbEntry: frozenset((errno.ENOENT, errno.ENODEV, errno.ENXIO)),
}


def is_gone_already(operation: Operation, refusal: Refusal) -> bool:
    """Whether a removal was refused because there is nothing left to remove."""
    return isinstance(operation, Remove) and refusal.errno in _GONE[type(operation.object)]


class Messages(NamedTuple):
    """The messages of one operation."""

    first: Sequence[bytes]
    after: Sequence[bytes] = ()
    """To be sent when all of `first` were carried out: settings of a link must not hit
    another's link that has the name already."""


def encode(
    operation: Operation, index_of: IndexOf, descriptor_of: DescriptorOf, fresh: bool
) -> Messages:
    """The messages that carry out one operation.

    `index_of` numbers links of the object's namespace, `descriptor_of` opens other
    namespaces, `fresh` says that the object's namespace was only just made.
    """
    if isinstance(operation, Add):
        item = operation.object
        if isinstance(item, Link):
            return _add_link(item, index_of, descriptor_of, fresh)
        add = _ADD.get(type(item))
        if add is None:
            raise InvalidRequest(f"a {type(item).__name__} cannot be added by rtnetlink")
        return Messages((add(item, index_of),))
    if isinstance(operation, Remove):
        item = operation.object
        if isinstance(item, Link):
            return Messages(() if is_given(item) else (links.remove(item),))
        remove = _REMOVE.get(type(item))
        if remove is None:
            raise InvalidRequest(f"a {type(item).__name__} cannot be removed by rtnetlink")
        return Messages((remove(item, index_of),))
    return Messages(_replace(operation.old, operation.new, index_of))


def _add_link(link: Link, index_of: IndexOf, descriptor_of: DescriptorOf, fresh: bool) -> Messages:
    if fresh and isinstance(link.kind, Loopback):
        return Messages(())  # it was brought up when its namespace was made
    if is_given(link) or isinstance(link.kind, Tun):
        return Messages(links.change(Link(name=link.name, kind=link.kind), link, index_of))
    first, *after = links.create(link, index_of, _peer_namespace(link, descriptor_of))
    return Messages((first,), after)


def birthplace(link: Link) -> str | None:
    """The namespace of a link's parent when that is another than the link's; None otherwise."""
    kind = link.kind
    if isinstance(kind, (Macvlan, Ipvlan, Vlan)) and kind.parent_namespace != link.namespace:
        return kind.parent_namespace
    return None


def encode_birth(link: Link, index_of: IndexOf, namespace: int | None) -> Messages:
    """The messages that make a link on a parent elsewhere: the first for the namespace of the
    parent, which `index_of` numbers, the others for the link's own, an open descriptor.
    """
    first, *after = links.create(link, index_of, own_namespace=namespace)
    return Messages((first,), after)


_ADD: dict[type[Object], Callable[..., bytes]] = {
    Address: addresses.add,
    Route: routes.add,
    Rule: lambda rule, _: rules.add(rule),
    Neighbour: neighbours.add,
    FdbEntry: fdb.add,
}
_REMOVE: dict[type[Object], Callable[..., bytes]] = {
    Address: addresses.remove,
    Route: routes.remove,
    Rule: lambda rule, _: rules.remove(rule),
    Neighbour: neighbours.remove,
    FdbEntry: fdb.remove,
}


def change_peer(old: Veth | None, new: Veth) -> list[bytes]:
    """The messages, in the peer's namespace, that set the far end of a pair as stated."""
    if new.peer_name is None:
        return []
    held = Link(name=new.peer_name)
    if old is not None:
        held = Link(
            name=new.peer_name, mac=old.peer_mac, mtu=old.peer_mtu, up=old.peer_up,
            ipv6_link_local=old.peer_ipv6_link_local,
        )  # fmt: skip
    wanted = Link(
        name=new.peer_name,
        mac=None if new.peer_mac == held.mac else new.peer_mac,
        mtu=None if new.peer_mtu == held.mtu else new.peer_mtu,
        up=None if new.peer_up == held.up else new.peer_up,
        ipv6_link_local=new.peer_ipv6_link_local,
    )
    return links.change(held, wanted, lambda _: 0)


def _peer_namespace(link: Link, descriptor_of: DescriptorOf) -> int | None:
    if not isinstance(link.kind, Veth):
        return None
    peer = link.kind.peer_namespace
    if peer is None or peer == link.namespace:
        return None
    if peer == HOST:
        raise InvalidRequest(f"describe the veth pair of {link.name} at its end in the host")
    return descriptor_of(peer)


def _replace(old: Object, new: Object, index_of: IndexOf) -> list[bytes]:
    whole = overlay(old, new)
    match old, new, whole:
        case Link(), Link(), _:
            return links.change(old, new, index_of)
        case Address(), _, Address():
            return addresses.change(old, whole, index_of)
        case Rule(), _, Rule():
            return [rules.remove(old), rules.add(whole)]
    return force(whole, index_of)


def force(item: Object, index_of: IndexOf) -> list[bytes]:
    """The messages that make an object as stated, whether or not one is there."""
    match item:
        case Address():
            return addresses.change(item, item, index_of)
        case Route():
            return [routes.change(item, index_of)]
        case Neighbour():
            return [neighbours.change(item, index_of)]
        case FdbEntry():
            return [fdb.change(item, index_of)]
    raise InvalidRequest(f"a {type(item).__name__} cannot be changed by rtnetlink")


def is_given(link: Link) -> bool:
    """Whether a link is one that is found, not made: lo, a network card, one of no stated
    kind. Adding it sets it up; removing it leaves it alone.
    """
    return link.kind is None or isinstance(link.kind, (Loopback, Physical))
