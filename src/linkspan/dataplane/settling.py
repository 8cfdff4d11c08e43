"""What the kernel adds by itself when a plane was changed: a model for planes that are planned.

The far end of a veth pair, the settings of a new link, the routes of an address, loopback's
own addresses, link-local ones. What somebody stated is left as it is.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from linkspan.dataplane.links import Loopback, Veth
from linkspan.dataplane.objects import (
    HOST,
    Address,
    Key,
    Link,
    Namespace,
    Object,
    Route,
    Sysctl,
)
from linkspan.dataplane.plane import DataPlane

_LOCAL = 255
_KERNEL = 2
_BUILT_IN = {
    "ipv4/ip_forward": "0",
    "ipv4/ip_nonlocal_bind": "0",
    "ipv4/ip_local_port_range": "32768 60999",
    "ipv4/ip_local_reserved_ports": "",
    "ipv4/ip_unprivileged_port_start": "1024",
    "ipv6/bindv6only": "0",
    "bridge/bridge-nf-call-iptables": "1",
    "bridge/bridge-nf-call-ip6tables": "1",
    "bridge/bridge-nf-call-arptables": "1",
}
_BUILT_IN_ON = ("accept_ra", "autoconf")
_LOOPBACK = ("127.0.0.1/8", "::1/128")


def settle(before: DataPlane, after: DataPlane) -> DataPlane:
    """`after` with what the kernel makes of the changes since `before`, and without what it
    takes back with them.
    """
    held: dict[Key, Object] = {item.key: item for item in after}
    new = [item for item in after if item.key not in before]
    gone = [item for item in before if item.key not in held]

    def put(items: Iterable[Object]) -> list[Object]:
        fresh = [item for item in items if item.key not in held]
        held.update((item.key, item) for item in fresh)
        return fresh

    for item in gone:
        if isinstance(item, Address) and ("link", item.namespace, item.link) in held:
            _take_back(item, before, held)
    for item in new:
        if isinstance(item, Link) and isinstance(item.kind, Loopback) and item.mac is None:
            held[item.key] = msgspec.structs.replace(
                item, mac="00:00:00:00:00:00", mtu=item.mtu or 65536
            )
    links = [item for item in new if isinstance(item, Link)]
    for link in list(links):
        links += [far for far in put(_far_end(link)) if isinstance(far, Link)]
    for item in new:
        if isinstance(item, Namespace):
            put(_general_settings(item.namespace, before))
    settings = _settings_by_namespace(held.values())
    for link in links:
        put(_link_settings(link, settings[link.namespace]))
    for link in links:
        new += put(_own_addresses(link, settings[link.namespace]))
    # A plane that was described, not observed, leaves the kernel's routes out altogether.
    described = {item.namespace for item in before} - {
        item.namespace for item in before.of(Route) if item.table == _LOCAL
    }
    for item in new:
        if isinstance(item, Address) and item.namespace not in described:
            found = held.get(("link", item.namespace, item.link))
            if isinstance(found, Link) and found.up is not False:
                put(_routes(item))
    return DataPlane(held.values())


def _far_end(link: Link) -> Iterator[Link]:
    kind = link.kind
    if isinstance(kind, Veth) and kind.peer_name is not None:
        yield Link(
            namespace=kind.peer_namespace or link.namespace,
            name=kind.peer_name,
            kind=Veth(peer_name=link.name, peer_namespace=link.namespace),
            mac=kind.peer_mac,
            mtu=kind.peer_mtu if kind.peer_mtu is not None else link.mtu,
            up=bool(kind.peer_up),
            master="",
            ipv6_link_local=kind.peer_ipv6_link_local,
        )


def _settings_by_namespace(items: Iterable[Object]) -> defaultdict[str, dict[str, str]]:
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        if isinstance(item, Sysctl):
            found[item.namespace][item.path] = item.value
    return found


def _general_settings(namespace: str, before: DataPlane) -> Iterator[Sysctl]:
    """IPv4 settings come from the first namespace (devinet_init_net in net/ipv4/devinet.c with
    net.core.devconf_inherit_init_net 0), taken here for the host's; those of IPv6 are as built
    in. A new namespace has bridged packets pass iptables (br_netfilter's own default).
    """
    for item in before.of(Sysctl):
        scope = item.path.split("/")
        if item.namespace != HOST or len(scope) != 4 or scope[1] != "conf":
            continue
        if scope[2] in ("all", "default"):
            value = "0" if scope[3] == "forwarding" else item.value
            if scope[0] == "ipv6":
                value = "1" if scope[3] in _BUILT_IN_ON else "0"
            yield Sysctl(namespace=namespace, path=item.path, value=value)
    for path, value in _BUILT_IN.items():
        yield Sysctl(namespace=namespace, path=path, value=value)


def _link_settings(link: Link, settings: dict[str, str]) -> Iterator[Sysctl]:
    for path, value in list(settings.items()):
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "conf" and parts[2] == "default":
            parts[2] = link.name
            yield Sysctl(namespace=link.namespace, path="/".join(parts), value=value)


def _own_addresses(link: Link, settings: dict[str, str]) -> Iterator[Address]:
    """What a link that is up has without being told: loopback's, and link-local ones."""
    if link.up is False:
        return
    six = settings.get(f"ipv6/conf/{link.name}/disable_ipv6") != "1"
    if isinstance(link.kind, Loopback):
        for address in _LOOPBACK:
            if six or ":" not in address:
                yield Address(
                    namespace=link.namespace, link=link.name, address=address, scope="host"
                )
    elif six and link.mac and link.ipv6_link_local is not False and not link.master:
        yield Address(
            namespace=link.namespace,
            link=link.name,
            address=f"{_link_local(link.mac)}/64",
            scope="link",
        )


def _link_local(mac: str) -> str:
    """RFC 4291, appendix A."""
    raw = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return str(ipaddress.IPv6Address(bytes.fromhex("fe80000000000000") + identifier))


def _routes(address: Address) -> Iterator[Route]:
    """The routes of an address (fib_add_ifaddr in net/ipv4/fib_frontend.c, add_addr and
    addrconf_prefix_route in net/ipv6/addrconf.c).
    """
    interface = ipaddress.ip_interface(address.address)
    text, network = str(interface.ip), interface.network
    if address.peer:
        network = ipaddress.ip_network(f"{address.peer}/{network.prefixlen}", strict=False)
    whole = interface.max_prefixlen
    four = interface.version == 4
    local = Route(
        namespace=address.namespace, destination=f"{text}/{whole}", link=address.link,
        table=_LOCAL, type="local", source=text if four else None,
        scope="host" if four else None, protocol=_KERNEL,
    )  # fmt: skip
    yield local
    if network.prefixlen < whole and not address.noprefixroute:
        loopback = interface.is_loopback
        yield msgspec.structs.replace(
            local,
            destination=str(network),
            table=_LOCAL if loopback else 254,
            type="local" if loopback else "unicast",
            scope=("host" if loopback else "link") if four else None,
            metric=0 if four else 256,
        )
    if four and network.prefixlen < 31:
        yield msgspec.structs.replace(
            local, destination=f"{network.broadcast_address}/32", type="broadcast", scope="link"
        )
    if not four and not interface.is_loopback:
        yield msgspec.structs.replace(
            local, destination="ff00::/8", type="multicast", metric=256, source=None
        )


def _take_back(address: Address, before: DataPlane, held: dict[Key, Object]) -> None:
    """Routes go with the address that they are of, unless another one needs them."""
    still = {
        route.key
        for item in held.values()
        if isinstance(item, Address)
        and (item.namespace, item.link) == (address.namespace, address.link)
        for route in _routes(item)
    }
    for route in _routes(address):
        found = held.get(route.key)
        if route.key in still or not isinstance(found, Route) or found.protocol != _KERNEL:
            continue
        if route.key in before:
            del held[route.key]
