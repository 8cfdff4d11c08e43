"""Endpoints: an address, a MAC and two interface names for each network that is joined."""

from __future__ import annotations

import secrets

from linkspan.drivers.bridge import stable_mac
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.drivers.underlay import is_routed, is_underlay, mode_of, parent_of
from linkspan.engine.addresses import Addresses
from linkspan.engine.dhcp.drafting import is_leased
from linkspan.engine.drafts import Join, next_interface
from linkspan.engine.entries import holds
from linkspan.engine.register import Register
from linkspan.errors import AddressInUse, Conflict, InvalidRequest


def allocate_endpoints(
    register: Register, addresses: Addresses, sandbox: Sandbox, joins: list[Join], taken: set[str]
) -> tuple[Endpoint, ...]:
    """The endpoints of a sandbox, with addresses leased; none when one cannot be had.

    `taken` are names of interfaces that its namespace has already. Raises InvalidRequest,
    AddressInUse, Exhausted.
    """
    endpoints: list[Endpoint] = []
    names = set(taken)
    try:
        for join in joins:
            endpoint = allocate_endpoint(register, addresses, sandbox, join, names)
            names.add(endpoint.interface)
            endpoints.append(endpoint)
    except BaseException:
        for endpoint in endpoints:
            addresses.release_endpoint(endpoint)
        raise
    return tuple(endpoints)


def allocate_endpoint(
    register: Register, addresses: Addresses, sandbox: Sandbox, join: Join, taken: set[str]
) -> Endpoint:
    """One endpoint, with addresses leased. Raises as `allocate_endpoints` does."""
    network = join.network
    if is_underlay(network) and mode_of(network) == "passthru":
        _check_alone(register, sandbox, network)
    if join.mac is not None:
        holder = register.with_mac(network.id, join.mac)
        if holder is not None:
            raise AddressInUse(
                f"MAC address {join.mac} on network {network.name} belongs to {holder.name}; "
                "choose another, or leave it out"
            )
    if is_leased(network) and join.ipv4 is not None:
        raise InvalidRequest(
            f"address {join.ipv4} cannot be chosen on network {network.name}: its DHCP server "
            "chooses; reserve it there for a MAC, and ask for that MAC here"
        )
    identity = secrets.token_hex(32)
    ipv4 = addresses.lease(network, 4, sandbox.name, join.ipv4, join.preferred)
    try:
        ipv6 = addresses.lease(network, 6, sandbox.name, join.ipv6, join.preferred)
    except BaseException:
        if ipv4 is not None:
            addresses.release_address(network.id, ipv4[0].split("/")[0])
        raise
    mac = join.mac or _choose_mac(
        register, addresses, network, identity, ipv4 and ipv4[0], ipv6 and ipv6[0]
    )
    return Endpoint(
        id=identity,
        network=network.id,
        interface=next_interface(taken),
        # On a parent of its own there is no end in the host.
        host_interface="" if is_underlay(network) else _host_interface(register, identity),
        ipv4=ipv4[0] if ipv4 else None,
        ipv6=ipv6[0] if ipv6 else None,
        mac=mac,
        gateway=ipv4[1] if ipv4 and not network.internal else None,
        gateway_ipv6=ipv6[1] if ipv6 and not network.internal else None,
        device_route=is_routed(network) and not network.internal,
        gateway_priority=join.gateway_priority,
        aliases=join.aliases,
        fixed=join.fixed,
        awaits_lease=is_leased(network),
    )


def _choose_mac(
    register: Register,
    addresses: Addresses,
    network: Network,
    identity: str,
    ipv4: str | None,
    ipv6: str | None,
) -> str:
    mac = addresses.usual_mac(identity, ipv4, ipv6)
    if is_underlay(network):
        # Not the usual one: another host of the segment that tries the same address would have
        # the same MAC, and neither could hear the other's answer.
        mac = stable_mac(f"{network.id} {ipv4 or ipv6}")
    while register.with_mac(network.id, mac) is not None:  # somebody asked for this very one
        mac = stable_mac(identity + mac)
    return mac


def _check_alone(register: Register, sandbox: Sandbox, network: Network) -> None:
    others = [m for m in register.members(network.id) if m.id != sandbox.id and holds(m)]
    if others:
        raise Conflict(
            f"network {network.name} is passthru: {others[0].name} has its parent "
            f"{parent_of(network)} to itself; remove that one first, or use mode bridge"
        )


def _host_interface(register: Register, identity: str) -> str:
    """A name that no other endpoint has, at most the 15 characters of IFNAMSIZ."""
    start = 0
    while register.at_host_interface(name := f"lsv{identity[start : start + 11]}") is not None:
        start += 1
    return name
