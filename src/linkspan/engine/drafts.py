"""From a request to what a sandbox shall be: checked and resolved, nothing taken yet. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import msgspec

from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.drivers.registry import driver
from linkspan.drivers.underlay import mode_of, shares_parent_mac
from linkspan.engine.ipam import parse_address
from linkspan.engine.register import Register
from linkspan.engine.requests import NetworkAttachment
from linkspan.errors import InvalidRequest

_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}")
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")
_LABEL = r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"  # RFC 1035, 2.3.1; _ as RFC 2782 does
_ALIAS = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LONGEST_ALIAS = 128


class Join(msgspec.Struct, frozen=True):
    """A network that a sandbox joins, and what it wishes there, in canonical spelling."""

    network: Network
    ipv4: str | None = None
    ipv6: str | None = None
    mac: str | None = None
    gateway_priority: int = 0
    aliases: tuple[str, ...] = ()
    preferred: tuple[str, ...] = ()
    """Addresses to take if they are free."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """What was asked for by value."""
        return tuple(name for name in ("ipv4", "ipv6", "mac") if getattr(self, name) is not None)


def check_hostname(text: str) -> str:
    """The host name itself; InvalidRequest when the kernel or a resolver would not take it."""
    if not _HOSTNAME.fullmatch(text):
        raise InvalidRequest(
            f"{text!r} is no host name: use up to 64 letters, digits, '-', '_' and '.', "
            "with a letter or digit at both ends"
        )
    return text


def check_alias(text: str) -> str:
    """The alias itself; InvalidRequest when it is no name that a program could look up."""
    if len(text) > _LONGEST_ALIAS or not _ALIAS.fullmatch(text):
        shown = text if len(text) <= _LONGEST_ALIAS else f"{text[:20]}..."
        raise InvalidRequest(
            f"{shown!r} is no alias: use up to {_LONGEST_ALIAS} letters, digits, '-' and '_', in "
            "parts of up to 63 with '.' between them"
        )
    return text


def parse_mac(text: str) -> str:
    """A MAC in canonical form. Raises InvalidRequest unless it is one that a host can have."""
    mac = text.lower()
    if not _MAC.fullmatch(mac):
        raise InvalidRequest(f"{text!r} is no MAC address; write it like 02:42:0a:14:00:02")
    mac = mac.replace("-", ":")
    if int(mac[:2], 16) & 1:
        raise InvalidRequest(
            f"MAC address {text} is a multicast one; the first byte must be even, like 02"
        )
    if mac == "00:00:00:00:00:00":
        raise InvalidRequest(f"MAC address {text} is nobody's; choose another")
    return mac


def resolve_networks(
    wanted: Sequence[NetworkAttachment | str] | None, default: str, register: Register
) -> list[Join]:
    """The networks of a request, in its order. Raises InvalidRequest, NotFound.

    Networks without interfaces (drivers null and host) come alone.
    """
    if wanted is None:
        wanted = [default]
    joins = [resolve_network(attachment, register) for attachment in wanted or ["none"]]
    alone = next((join.network for join in joins if not _has_interface(join.network)), None)
    if alone is not None and len(joins) > 1:
        others = ", ".join(join.network.name for join in joins if join.network is not alone)
        raise InvalidRequest(
            f"network {alone.name} cannot be combined with {others or 'itself'}: a sandbox there "
            + (
                "uses the host's own interfaces"
                if alone.driver == "host"
                else "has no interface but loopback"
            )
        )
    seen: set[str] = set()
    for join in joins:
        if join.network.id in seen:
            raise InvalidRequest(f"network {join.network.name} is named twice")
        seen.add(join.network.id)
    return joins


def resolve_network(attachment: NetworkAttachment | str, register: Register) -> Join:
    """One network of a request, with its wishes checked. Raises InvalidRequest, NotFound."""
    if isinstance(attachment, str):
        return Join(register.network(attachment))
    network = register.network(attachment.network)
    wishes = [name for name in ("ip", "ipv6", "mac") if getattr(attachment, name) is not None]
    if wishes and not _has_interface(network):
        raise InvalidRequest(
            f"network {network.name} (driver {network.driver}) gives no interface that could have "
            f"the {' and '.join(wishes)} asked for"
        )
    if attachment.mac is not None and shares_parent_mac(network):
        raise InvalidRequest(
            f"network {network.name} ({network.driver}, mode {mode_of(network)}) has its parent's "
            f"MAC address; leave MAC address {attachment.mac} out"
        )
    return Join(
        network=network,
        ipv4=_parse_version(attachment.ip, 4),
        ipv6=_parse_version(attachment.ipv6, 6),
        mac=None if attachment.mac is None else parse_mac(attachment.mac),
        gateway_priority=attachment.gateway_priority,
        aliases=tuple(map(check_alias, attachment.aliases)),
    )


def _has_interface(network: Network) -> bool:
    return driver(network.driver).makes_endpoints


def _parse_version(text: str | None, version: int) -> str | None:
    if text is None:
        return None
    address = parse_address(text)
    if address.version != version:
        field = "ipv6" if address.version == 6 else "ip"
        raise InvalidRequest(f"address {text} is IPv{address.version}; give it as {field}")
    return str(address)


def rejoin(sandbox: Sandbox, register: Register) -> list[Join]:
    """The networks of a sandbox whose addresses were released, with what stays fixed."""
    return [
        Join(
            network=register.network(endpoint.network),
            ipv4=endpoint.address if "ipv4" in endpoint.fixed else None,
            ipv6=endpoint.address_ipv6 if "ipv6" in endpoint.fixed else None,
            mac=endpoint.mac if "mac" in endpoint.fixed else None,
            gateway_priority=endpoint.gateway_priority,
            aliases=endpoint.aliases,
            preferred=endpoint.preferred,
        )
        for endpoint in sandbox.endpoints
    ]


def without_preferred(joins: Sequence[Join], avoided: Collection[str]) -> list[Join]:
    """The same wishes, without addresses that turned out to be others'."""
    if not avoided:
        return list(joins)
    return [
        msgspec.structs.replace(
            join, preferred=tuple(a for a in join.preferred if a not in avoided)
        )
        for join in joins
    ]


def without_addresses(endpoint: Endpoint) -> Endpoint:
    """An endpoint that holds nothing any more, but knows what was asked for."""
    return msgspec.structs.replace(
        endpoint,
        ipv4=endpoint.ipv4 if "ipv4" in endpoint.fixed else None,
        ipv6=endpoint.ipv6 if "ipv6" in endpoint.fixed else None,
        mac=endpoint.mac if "mac" in endpoint.fixed else None,
        host_interface="",
        gateway=None,
        gateway_ipv6=None,
        lease=None,
        awaits_lease=False,
        preferred=tuple(a for a in (endpoint.address, endpoint.address_ipv6) if a is not None),
    )


def next_interface(taken: Collection[str]) -> str:
    """The first of eth0, eth1, ... that is not taken."""
    number = 0
    while f"eth{number}" in taken:
        number += 1
    return f"eth{number}"
