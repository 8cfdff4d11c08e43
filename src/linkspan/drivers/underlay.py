"""What macvlan and ipvlan networks have in common: a parent, and what the host has of them.

The parent is an interface of the host that leads to a physical segment. Containers have a
link of their own on it, in their own namespace: frames pass neither a bridge of the host
nor its firewall. A parent named like eth1.20 is made by us where it is not there, and so
is one where none is named (a dummy, which leads nowhere).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import msgspec

from linkspan.dataplane import (
    Address,
    Dummy,
    Ipvlan,
    Link,
    Macvlan,
    Object,
    Route,
    Sysctl,
    Vlan,
)
from linkspan.drivers.marks import ROUTE_PROTOCOL
from linkspan.drivers.options import (
    Parser,
    canonical_options,
    parse_boolean,
    parse_interface_name,
    parse_mtu,
)
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.errors import InvalidRequest

UNDERLAY = ("macvlan", "ipvlan")
"""Drivers whose networks are on a parent."""
DAD_WAYS = ("probe", "full", "off")
_VLAN = re.compile(r"(?P<base>.+)\.(?P<number>[1-9][0-9]{0,3})")
_LARGEST_VLAN = 4094


def parse_dad(text: str) -> str:
    """How addresses are tried before they are used: probe, full or off."""
    if text in DAD_WAYS:
        return text
    raise ValueError("probe (100 ms), full (the times of RFC 5227 and RFC 4862) or off")


def parse_host_addresses(text: str) -> tuple[str, ...]:
    """Addresses of the host, one an IP version, with a comma between them."""
    try:
        found = [ipaddress.ip_address(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ValueError("an address, or an IPv4 and an IPv6 one with a comma") from None
    if len({address.version for address in found}) < len(found):
        raise ValueError("one address an IP version")
    return tuple(map(str, found))


COMMON_OPTIONS: Mapping[str, Parser] = {
    "parent": parse_interface_name,
    "mtu": parse_mtu,
    "dad": parse_dad,
    "host_access": parse_boolean,
    "host_address": parse_host_addresses,
}
COMMON_ALIASES = {"com.docker.network.driver.mtu": "mtu"}


def choice(*words: str) -> Parser:
    """A parser that takes one of these words."""

    def parse(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"one of {', '.join(words)}")

    return parse


def is_underlay(network: Network) -> bool:
    """Whether a network is on a parent."""
    return network.driver in UNDERLAY


def parent_of(network: Network) -> str:
    """The parent's name; "" for a network that is on none."""
    return network.options.get("parent", "") if is_underlay(network) else ""


def mode_of(network: Network) -> str:
    """bridge, private, vepa, passthru; l2, l3, l3s."""
    return network.options["mode"]


def shares_parent_mac(network: Network) -> bool:
    """Whether members have the parent's MAC, not one of their own."""
    return network.driver == "ipvlan" or (is_underlay(network) and mode_of(network) == "passthru")


def is_routed(network: Network) -> bool:
    """Whether the parent routes for its members (ipvlan l3, l3s): there is no gateway then,
    and nobody resolves addresses.
    """
    return network.driver == "ipvlan" and mode_of(network) != "l2"


def leads_nowhere(network: Network) -> bool:
    """Whether the parent is a dummy that we make: no physical segment is behind it."""
    return is_underlay(network) and bool(network.interface) and not split_vlan(network.interface)


def has_host_access(network: Network) -> bool:
    """Whether the host has an interface of its own there."""
    return parse_boolean(network.options.get("host_access", "false"))


def split_vlan(name: str) -> tuple[str, int] | None:
    """The interface and the 802.1Q number in a name like eth1.20; None for any other name."""
    found = _VLAN.fullmatch(name)
    if found is None or int(found["number"]) > _LARGEST_VLAN:
        return None
    return found["base"], int(found["number"])


def shim_name(network: Network) -> str:
    """The host's own interface on a network."""
    return f"lsh-{network.id[:10]}"


def made_links(network: Network) -> tuple[str, ...]:
    """The links that the host has for a network of any driver."""
    own = (network.interface,) if network.interface else ()
    return (*own, shim_name(network)) if has_host_access(network) else own


def made_parent_name(network_id: str) -> str:
    """The parent that is made where none is named."""
    return f"lsd-{network_id[:10]}"


def canonical_underlay(
    network: Network,
    known: Mapping[str, Parser],
    aliases: Mapping[str, str],
    defaults: dict[str, str],
) -> Network:
    """The network with canonical options, defaults included. InvalidRequest if one is wrong."""
    given = canonical_options(
        network.driver,
        network.options,
        {**COMMON_OPTIONS, **known},
        {**COMMON_ALIASES, **aliases},
    )
    options = {**defaults, "dad": "probe", **given}
    if "host_address" in options and not parse_boolean(options.get("host_access", "false")):
        raise InvalidRequest("option host_address is the host's for host_access=true; add that")
    if parse_boolean(options.get("host_access", "false")):
        _check_host_access(network.driver, options)
    mtu = parse_mtu(options["mtu"]) if "mtu" in options else network.mtu
    return msgspec.structs.replace(network, options=options, mtu=mtu)


def _check_host_access(name: str, options: Mapping[str, str]) -> None:
    how = options["mode"] if name == "macvlan" else options["flag"]
    if how != "bridge":
        raise InvalidRequest(
            f"host_access needs members that exchange frames on their parent (bridge), not {how}; "
            "leave host_access out, or choose bridge"
        )
    if name == "ipvlan" and "host_address" not in options:
        raise InvalidRequest(
            "host_access on ipvlan needs an address of the subnet for the host: "
            "add -o host_address=ADDRESS (links on one parent are told apart by their addresses)"
        )


# Descriptions ---------------------------------------------------------------------------


def describe_host(network: Network) -> list[Object]:
    """What the host has of a network: the parent if it is ours to make, and its own access."""
    objects: list[Object] = []
    parent = parent_of(network)
    if network.interface:
        vlan = split_vlan(parent)
        objects.append(
            Link(
                name=parent,
                kind=Vlan(parent=vlan[0], vlan=vlan[1]) if vlan else Dummy(),
                up=True,
                # Several networks may be on one VLAN: the mark is the parent's, not a network's.
                alias=f"linkspan:parent:{parent}",
            )
        )
    if has_host_access(network):
        shim = shim_name(network)
        objects.append(
            Link(
                name=shim,
                kind=_shim_kind(network),
                up=True,
                alias=f"linkspan:network:{network.id}",
            )
        )
        if network.has_ipv6:
            objects.append(Sysctl(path=f"ipv6/conf/{shim}/accept_ra", value="0"))
        for address in parse_host_addresses(network.options.get("host_address", "0.0.0.0")):
            if address != "0.0.0.0":
                objects.append(
                    Address(
                        link=shim,
                        address=f"{address}/{_host_length(address)}",
                        nodad=True if ":" in address else None,
                    )
                )
    return objects


def _shim_kind(network: Network) -> Macvlan | Ipvlan:
    parent = parent_of(network)
    if network.driver == "macvlan":
        return Macvlan(parent=parent, mode="bridge")
    return Ipvlan(parent=parent, mode=mode_of(network), flag=network.options["flag"])


def host_source(network: Network, address: str) -> str | None:
    """The host's own address towards a member; None where the kernel chooses one."""
    stated = network.options.get("host_address") or network.options.get("host_source")
    if stated is None:
        return None
    same = [a for a in parse_host_addresses(stated) if (":" in a) == (":" in address)]
    return same[0] if same else None


def describe_inside(
    network: Network, sandbox: Sandbox, endpoint: Endpoint, kind: Macvlan | Ipvlan
) -> list[Object]:
    """The link in the sandbox, its addresses, and the host's way to exactly those."""
    space, name = sandbox.namespace, endpoint.interface
    objects: list[Object] = [
        Link(
            namespace=space,
            name=name,
            kind=kind,
            mac=None if shares_parent_mac(network) else endpoint.mac,
            # Without a stated one it has its parent's, and follows when that shrinks.
            mtu=network.mtu if "mtu" in network.options else None,
            up=True,
            alias=f"linkspan:endpoint:{endpoint.id}",
        ),
        # The segment's routers announce prefixes and routes: an interface has what is in its
        # record and nothing else.
        Sysctl(namespace=space, path=f"ipv6/conf/{name}/accept_ra", value="0")
        if endpoint.ipv6 is not None
        else Sysctl(namespace=space, path=f"ipv6/conf/{name}/disable_ipv6", value="1"),
    ]
    for with_length in (endpoint.ipv4, endpoint.ipv6):
        if with_length is None:
            continue
        address = with_length.split("/")[0]
        six = ":" in address
        objects.append(
            # Whether anybody has it was found out before.
            Address(namespace=space, link=name, address=with_length, nodad=True if six else None)
        )
        if has_host_access(network):
            objects.append(
                Route(
                    destination=f"{address}/{_host_length(address)}",
                    link=shim_name(network),
                    source=host_source(network, address),
                    scope=None if six else "link",
                    metric=1024 if six else 0,
                    protocol=ROUTE_PROTOCOL,
                )
            )
    return objects


def _host_length(address: str) -> int:
    return 128 if ":" in address else 32
