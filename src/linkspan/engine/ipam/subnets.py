"""Subnets as they are asked for: checked, and completed with what was left out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from linkspan.drivers.records import Subnet
from linkspan.errors import AddressInUse, InvalidRequest

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_THIS_HOST: dict[int, IPNetwork] = {
    4: ipaddress.IPv4Network("0.0.0.0/8"),
    6: ipaddress.IPv6Network("::/127"),
}
"""RFC 1122, section 3.2.1.3; RFC 4291, section 2.5."""


class Occupied(msgspec.Struct, frozen=True):
    """A prefix that is taken, and by what: "network web", "a route by eth0".

    A default route (length 0) occupies nothing.
    """

    prefix: str
    holder: str


def complete_subnet(
    subnet: str,
    *,
    gateway: str | None = None,
    ip_range: str | None = None,
    reserved: Mapping[str, str] | None = None,
    choose_gateway: bool = True,
) -> Subnet:
    """One subnet, checked, in canonical spelling; the gateway is the first free address of it.

    Raises:
        InvalidRequest: a value is wrong; says which, and what would be right.
    """
    network = parse_subnet(subnet)
    names = {
        str(_parse_member(network, address, f"reserved address {name}")): name
        for name, address in (reserved or {}).items()
    }
    if len(names) < len(reserved or {}):
        raise InvalidRequest(f"subnet {network}: an address is reserved under two names")
    if gateway is not None:
        gateway = str(_parse_member(network, gateway, "gateway"))
        if gateway in names:
            raise InvalidRequest(
                f"gateway {gateway} is also reserved for {names[gateway]}; leave one of them out"
            )
    elif choose_gateway:
        gateway = _first_free(network, names)
    if ip_range is not None:
        ip_range = str(_parse_range(network, ip_range))
    return Subnet(
        subnet=str(network),
        gateway=gateway,
        ip_range=ip_range,
        reserved={name: address for address, name in names.items()},
    )


def parse_subnet(text: str) -> IPNetwork:
    """A subnet from "10.20.0.0/24" or "fd00:20::/64".

    Raises:
        InvalidRequest: it is none, has host bits set, or is no place for containers.
    """
    network = _parse_prefix(text, "subnet")
    if network.is_loopback or network.is_multicast or network.overlaps(_THIS_HOST[network.version]):
        raise InvalidRequest(
            f"subnet {text} is not for containers (loopback, multicast or this host itself); "
            "choose a private one, 10.20.0.0/24 for example"
        )
    if network.version == 6 and network.is_link_local:
        raise InvalidRequest(
            f"subnet {text} is link-local, which every interface has; "
            "choose a unique local one, fd00:20::/64 for example"
        )
    if network.prefixlen < (8 if network.version == 4 else 16):
        raise InvalidRequest(
            f"subnet {text} is too large; the largest are /8 for IPv4 and /16 for IPv6"
        )
    return network


def parse_address(text: str, what: str = "address") -> IPAddress:
    """An IP address without a prefix length or zone; `what` it is goes into the message.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        hint = "leave the prefix length out" if "/" in text else "expected one like 10.20.0.5"
        raise InvalidRequest(f"{what} {text!r} is no IP address; {hint}") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise InvalidRequest(f"{what} {text!r} has a zone; leave out %{address.scope_id}")
    return address


def find_overlap(subnet: str, occupied: Iterable[Occupied]) -> Occupied | None:
    """The first occupied prefix that shares an address with `subnet`."""
    network = ipaddress.ip_network(subnet)
    for one in occupied:
        other = ipaddress.ip_network(one.prefix, strict=False)
        if other.version == network.version and other.prefixlen and other.overlaps(network):
            return one
    return None


def refuse_overlap(subnet: str, occupied: Iterable[Occupied]) -> None:
    """Raise AddressInUse, naming the holder, when `subnet` overlaps something occupied."""
    found = find_overlap(subnet, occupied)
    if found is None:
        return
    what = (
        f"is that of {found.holder}"
        if found.prefix == subnet
        else (f"overlaps {found.prefix} of {found.holder}")
    )
    raise AddressInUse(f"subnet {subnet} {what}; choose another, or none to have a free one chosen")


def _parse_prefix(text: str, what: str) -> IPNetwork:
    if "/" not in text:
        raise InvalidRequest(f"{what} {text!r} has no prefix length; write it like 10.20.0.0/24")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        right = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidRequest(
            f"{what} {text!r} is no prefix; write it like 10.20.0.0/24 or fd00:20::/64"
        ) from None
    raise InvalidRequest(f"{what} {text} has host bits set; the network address would be {right}")


def _parse_member(network: IPNetwork, text: str, what: str) -> IPAddress:
    address = parse_address(text, what)
    if address.version != network.version or address not in network:
        raise InvalidRequest(f"{what} {address} is not inside subnet {network}")
    role = special_role(network, address)
    if role:
        raise InvalidRequest(f"{what} {address} is the {role} address of subnet {network}")
    return address


def _parse_range(network: IPNetwork, text: str) -> IPNetwork:
    wanted = _parse_prefix(text, "address range")
    inside = wanted.version == network.version and (
        wanted.prefixlen >= network.prefixlen and wanted.network_address in network
    )
    if not inside:
        raise InvalidRequest(f"address range {wanted} is not inside subnet {network}")
    return wanted


def special_role(network: IPNetwork, address: IPAddress) -> str | None:
    """Whether an address of a subnet is one that no host can have: "network", "broadcast".

    A /31 or /127 has none (RFC 3021, RFC 6164); IPv6 has no broadcast, and its first address
    means any router there (RFC 4291, section 2.6.1).
    """
    if network.prefixlen >= network.max_prefixlen - 1:
        return None
    if address == network.network_address:
        return "network"
    if network.version == 4 and address == network.broadcast_address:
        return "broadcast"
    return None


def _first_free(network: IPNetwork, reserved: Mapping[str, str]) -> str:
    for offset in range(min(network.num_addresses, len(reserved) + 3)):
        address = network[offset]
        if special_role(network, address) is None and str(address) not in reserved:
            return str(address)
    raise InvalidRequest(
        f"subnet {network} has no address left for a gateway; reserve fewer, or make it larger"
    )
