"""The bridge driver: a Linux bridge a network, a veth pair an endpoint, NAT on the way out."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping

import msgspec

from linkspan.dataplane import (
    Address,
    Bridge,
    BridgePort,
    DataPlane,
    Link,
    Object,
    Sysctl,
    Veth,
)
from linkspan.drivers import firewall
from linkspan.drivers.loopback6 import stand_in_route
from linkspan.drivers.options import (
    canonical_options,
    parse_boolean,
    parse_gateway_mode,
    parse_host_binding,
    parse_interface_name,
    parse_mtu,
)
from linkspan.drivers.records import Endpoint, Network, Sandbox, Subnet
from linkspan.errors import InvalidRequest

KNOWN_OPTIONS = {
    "bridge": parse_interface_name,
    "mtu": parse_mtu,
    "icc": parse_boolean,
    "masquerade": parse_boolean,
    "source_check": parse_boolean,
    "gateway_mode": parse_gateway_mode,
    "gateway_mode_ipv4": parse_gateway_mode,
    "gateway_mode_ipv6": parse_gateway_mode,
    "host_binding": parse_host_binding,
}
OPTION_ALIASES = {
    "com.docker.network.bridge.name": "bridge",
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.enable_icc": "icc",
    "com.docker.network.bridge.enable_ip_masquerade": "masquerade",
    "com.docker.network.bridge.gateway_mode_ipv4": "gateway_mode_ipv4",
    "com.docker.network.bridge.gateway_mode_ipv6": "gateway_mode_ipv6",
    "com.docker.network.bridge.host_binding_ipv4": "host_binding",
}
LEAST_IPV6_MTU = 1280


class BridgeDriver:
    """Containers on a bridge of this host."""

    name = "bridge"
    needs_subnet = True
    makes_endpoints = True

    def validate(self, network: Network) -> Network:
        """The network with canonical options and its bridge's name; InvalidRequest if wrong."""
        options = canonical_options(self.name, network.options, KNOWN_OPTIONS, OPTION_ALIASES)
        for subnet in network.subnets:
            if ipaddress.ip_network(subnet.subnet).prefixlen > (
                126 if ":" in subnet.subnet else 30
            ):
                raise InvalidRequest(
                    f"subnet {subnet.subnet} has no room for a gateway and a container"
                )
        mtu = parse_mtu(options["mtu"]) if "mtu" in options else network.mtu
        if network.has_ipv6 and mtu < LEAST_IPV6_MTU:
            raise InvalidRequest(
                f"IPv6 needs an MTU of at least {LEAST_IPV6_MTU} bytes (RFC 8200), not {mtu}; "
                "state a larger one with the option mtu, or leave the IPv6 subnet out"
            )
        return Network(
            **{
                **{name: getattr(network, name) for name in network.__struct_fields__},
                "options": options,
                "subnets": _settle_gateways(network, options),
                "interface": options.get("bridge") or f"ls-{network.id[:10]}",
                "mtu": mtu,
            }
        )

    def describe_network(self, network: Network) -> DataPlane:
        """The bridge, its gateway addresses and its place in the firewall."""
        name = network.interface
        objects: list[Object] = [
            Link(
                name=name,
                kind=Bridge(stp=False, forward_delay=0),
                mac=stable_mac(network.id),
                mtu=network.mtu,
                up=True,
                alias=f"linkspan:network:{network.id}",
                ipv6_link_local=False,
            ),
            Sysctl(path=f"ipv4/conf/{name}/forwarding", value="1"),
            # A port published on the host's loopback leads here with source 127.0.0.1.
            Sysctl(path=f"ipv4/conf/{name}/route_localnet", value="1"),
            firewall.inet("bridges", name),
        ]
        if network.internal:
            objects.append(firewall.inet("internal", name))
        if _is_on(network, "icc"):
            objects.append(firewall.inet("open", name, name))
        else:
            objects.append(firewall.inet("isolated", name))
        for subnet in network.subnets:
            objects.extend(_subnet_objects(network, subnet.subnet, subnet.gateway))
        if network.has_ipv6:
            # The host takes no routes from its containers.
            objects.append(Sysctl(path=f"ipv6/conf/{name}/accept_ra", value="0"))
        if network.gateway_ipv6 is not None:
            # What is forwarded asks for neighbours from here (ndisc_send_ns in net/ipv6/ndisc.c).
            # The kernel's own would be of no use until it was found unique, a second or two.
            own = f"{link_local(stable_mac(network.id))}/64"
            objects.append(Address(link=name, address=own, nodad=True))
        if _is_nat(network, 6):
            objects.append(stand_in_route(network.id, name))
        return DataPlane(objects)

    def describe_endpoint(
        self, network: Network, sandbox: Sandbox, endpoint: Endpoint
    ) -> DataPlane:
        """The veth pair, the addresses inside, and the sources that its port may use."""
        assert endpoint.mac is not None
        port, mac = endpoint.host_interface, endpoint.mac
        objects: list[Object] = [
            Link(
                name=port,
                kind=Veth(
                    peer_name=endpoint.interface,
                    peer_namespace=sandbox.namespace,
                    peer_mac=mac,
                    peer_mtu=network.mtu,
                    peer_up=True,
                    peer_ipv6_link_local=endpoint.ipv6 is not None,
                ),
                mtu=network.mtu,
                up=True,
                master=network.interface,
                alias=f"linkspan:endpoint:{endpoint.id}",
                port=BridgePort(hairpin=True),
                ipv6_link_local=False,
            ),
            firewall.bridge("macs", port, mac),
        ]
        if _is_on(network, "source_check"):
            objects.append(firewall.bridge("checked", port))
        if not _is_on(network, "icc"):
            objects.append(firewall.bridge("isolated", port))
        for with_length in (endpoint.ipv4, endpoint.ipv6):
            if with_length is None:
                continue
            address = with_length.split("/")[0]
            objects.append(
                Address(
                    namespace=sandbox.namespace,
                    link=endpoint.interface,
                    address=with_length,
                    nodad=True if ":" in address else None,
                )
            )
            sources = "sources6" if ":" in address else "sources"
            objects.append(firewall.bridge(sources, port, mac, address))
        if endpoint.ipv6 is not None:
            objects += _own_ipv6(sandbox, endpoint, port, mac)
        return DataPlane(objects)


def gateway_mode(options: Mapping[str, str], version: int) -> str:
    """How containers of a network reach the world by this IP version, and are reached.

    nat (translated both ways), routed (by their own addresses) or isolated (the host has no
    address on the bridge).
    """
    return options.get(f"gateway_mode_ipv{version}") or options.get("gateway_mode") or "nat"


def _settle_gateways(network: Network, options: Mapping[str, str]) -> tuple[Subnet, ...]:
    """The subnets, without a gateway where the host has no address."""
    settled = []
    for subnet in network.subnets:
        version = 6 if ":" in subnet.subnet else 4
        if gateway_mode(options, version) == "isolated":
            if not network.internal:
                raise InvalidRequest(
                    f"gateway mode isolated for IPv{version} leaves containers without a gateway, "
                    "so it is for internal networks; add internal, or choose nat or routed"
                )
            subnet = msgspec.structs.replace(subnet, gateway=None)
        settled.append(subnet)
    return tuple(settled)


def _is_nat(network: Network, version: int) -> bool:
    has_version = any((":" in s.subnet) == (version == 6) for s in network.subnets)
    return has_version and not network.internal and gateway_mode(network.options, version) == "nat"


def _own_ipv6(sandbox: Sandbox, endpoint: Endpoint, port: str, mac: str) -> list[Object]:
    """What an interface with IPv6 has besides its address: a link-local one of its own, and
    routes from us alone.
    """
    return [
        firewall.bridge("sources6", port, mac, link_local(mac)),
        # Groups are joined before there is an address (see check_unspecified).
        firewall.bridge("sources6", port, mac, "::"),
        Sysctl(
            namespace=sandbox.namespace,
            path=f"ipv6/conf/{endpoint.interface}/accept_ra",
            value="0",
        ),
    ]


def _is_on(network: Network, option: str) -> bool:
    return parse_boolean(network.options.get(option, "true"))


def _subnet_objects(network: Network, subnet: str, gateway: str | None) -> list[Object]:
    six = "6" if ":" in subnet else ""
    objects: list[Object] = [
        firewall.inet(f"members{six}", subnet, network.interface),
    ]
    if gateway is not None:
        length = subnet.split("/")[1]
        objects.append(
            Address(
                link=network.interface,
                address=f"{gateway}/{length}",
                nodad=True if six else None,
            )
        )
    if _is_on(network, "masquerade") and _is_nat(network, 6 if six else 4):
        objects.append(firewall.inet("masquerade6" if six else "masquerade4", subnet))
    return objects


def stable_mac(seed: str) -> str:
    """A locally administered unicast MAC derived from a text, the same each time."""
    digest = hashlib.blake2b(seed.encode(), digest_size=5).digest()
    return "02:" + ":".join(f"{byte:02x}" for byte in digest)


def mac_of(address: str) -> str:
    """The MAC that goes with a container's address, so that neighbours' caches stay right
    when the address moves to another container: 02:42 and the four bytes of an IPv4 one.
    """
    if ":" in address:
        return stable_mac(address)
    packed = ipaddress.IPv4Address(address).packed
    return "02:42:" + ":".join(f"{byte:02x}" for byte in packed)


def link_local(mac: str) -> str:
    """The link-local address that the kernel makes from a MAC (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return str(ipaddress.IPv6Address(bytes.fromhex("fe80000000000000") + identifier))
