"""Objects of a data plane in words, a line each: for plans, differences and messages."""

from __future__ import annotations

from collections.abc import Callable

from linkspan.dataplane.links import Bridge, Ipvlan, Loopback, Macvlan, Veth, Vlan, Vxlan
from linkspan.dataplane.objects import (
    Address,
    Element,
    FdbEntry,
    Link,
    Namespace,
    Neighbour,
    Object,
    Route,
    Rule,
    Sysctl,
)
from linkspan.dataplane.programs import Program
from linkspan.dataplane.rules import Table
from linkspan.dataplane.sockets import Listener, PacketSocket, Process

Place = Callable[[str], str]
"""What a person calls a namespace."""


def describe(item: Object, place: Place = str) -> str:
    """An object in words, without the namespace that it is in."""
    match item:
        case Namespace(path=path):
            held = f", held by {path}" if path else ""
            return f"network namespace of {place(item.namespace)}{held}"
        case Link():
            return _describe_link(item, place)
        case Address(address=address, link=link):
            return f"address {address} on {link}"
        case Route():
            return _describe_route(item)
        case Rule(source=source, table=table, priority=priority):
            return f"routing rule {priority}: from {source or 'all'} look up table {table}"
        case Neighbour(address=address, link=link, mac=mac, proxy=proxy):
            text = f"neighbour {address} on {link}"
            return f"{text}, answered for" if proxy else f"{text} is {mac or 'not resolved'}"
        case FdbEntry(mac=mac, link=link, remote=remote):
            return f"forwarding entry {mac} by {link}" + (f" at {remote}" if remote else "")
        case Sysctl(path=path, value=value):
            return f"setting net/{path} = {value}"
        case Table(family=family, name=name, origin=origin):
            kept = "" if origin == "nft" else f" of {origin}"
            return f"firewall table {family} {name}{kept}"
        case Element():
            return _describe_element(item)
        case Listener():
            return _describe_listener(item)
        case PacketSocket(link=link, processes=processes):
            return f"packet socket on {link or 'every link'}{_who(processes)}"
        case Program():
            return str(item).removeprefix("the ")
    return f"{type(item).__name__.lower()} {' '.join(str(part) for part in item.key[1:])}"


def _describe_link(link: Link, place: Place) -> str:
    match link.kind:
        case Veth(peer_name=peer, peer_namespace=namespace):
            text = f"veth pair {link.name} to {peer}" if peer else f"veth {link.name}"
            if namespace is not None and namespace != link.namespace:
                text += f" in {place(namespace)}"
            if link.kind.peer_mac:
                text += f" (MAC {link.kind.peer_mac})"
        case Bridge():
            text = f"bridge {link.name}"
        case Loopback():
            text = "loopback interface lo"
        case Macvlan() | Ipvlan():
            text = f"{type(link.kind).__name__.lower()} {link.name} ({link.kind.mode}) on "
            text += link.kind.parent or "its parent"
            if link.kind.parent_namespace not in (None, link.namespace):
                text += f" of {place(str(link.kind.parent_namespace))}"
            text += f" (MAC {link.mac})" if link.mac else ""
        case Vlan():
            text = f"VLAN {link.kind.vlan} of {link.kind.parent} as {link.name}"
        case Vxlan():
            text = f"VXLAN {link.kind.vni} as {link.name}"
        case _:
            text = f"interface {link.name}"
    if link.mtu is not None:
        text += f", mtu {link.mtu}"
    if link.master:
        text += f", port of {link.master}"
    return text + (", up" if link.up else "")


def _describe_route(route: Route) -> str:
    default = route.destination in ("0.0.0.0/0", "::/0")
    text = "default route" if default else f"route to {route.destination}"
    text += f" via {route.gateway}" if route.gateway else ""
    text += f" dev {route.link}" if route.link else ""
    for hop in route.hops or ():
        text += f" nexthop {hop.gateway or ''} {hop.link or ''}".rstrip()
    if route.type not in ("unicast", "local", "broadcast"):
        text += f" ({route.type})"
    return text if route.table == 254 else f"{text}, table {route.table}"


def _describe_element(item: Element) -> str:
    key = " . ".join(str(part) for part in item.first)
    if item.last is not None:
        key += " to " + " . ".join(str(part) for part in item.last)
    data = f" : {' . '.join(str(part) for part in item.data)}" if item.data else ""
    kind = "map" if item.data else "set"
    return f"element {key}{data} of firewall {kind} {item.family} {item.table} {item.set}"


def _describe_listener(item: Listener) -> str:
    address = f"[{item.address}]" if ":" in item.address else item.address
    on = f" on {item.link}" if item.link else ""
    return f"socket {address}:{item.port}/{item.protocol}{on}{_who(item.processes)}"


def _who(processes: tuple[Process, ...]) -> str:
    names = dict.fromkeys(process.name for process in processes)
    return f" of {', '.join(names)}" if names else ""
