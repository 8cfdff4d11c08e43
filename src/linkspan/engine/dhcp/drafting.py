"""Networks whose addresses come by DHCP, from a request: which can be, and which cannot. Pure."""

from __future__ import annotations

import msgspec

from linkspan.drivers.records import Endpoint, Network
from linkspan.drivers.underlay import is_routed, is_underlay, leads_nowhere
from linkspan.engine.ipam import parse_address
from linkspan.engine.requests import NetworkRequest, SubnetRequest
from linkspan.errors import InvalidRequest

DEFAULT, DHCP = "default", "dhcp"
IPAMS = (DEFAULT, DHCP)


def is_leased(network: Network) -> bool:
    """Whether IPv4 addresses of a network come from a DHCP server."""
    return network.ipam == DHCP


def awaits_lease(endpoints: tuple[Endpoint, ...]) -> bool:
    """Whether any of these has not had its first lease yet."""
    return any(endpoint.awaits_lease for endpoint in endpoints)


def check_ipam(request: NetworkRequest, draft: Network) -> None:
    """Raise InvalidRequest unless the driver goes with who shall choose addresses."""
    if request.ipam not in IPAMS:
        raise InvalidRequest(f"there is no ipam {request.ipam!r}; choose {' or '.join(IPAMS)}")
    if request.ipam == DHCP and not is_underlay(draft):
        raise InvalidRequest(
            f"ipam dhcp asks the DHCP server of a physical segment, and a network of driver "
            f"{request.driver} is on none; use driver macvlan, or ipvlan in mode l2"
        )


def take_dhcp(request: NetworkRequest, network: Network) -> tuple[NetworkRequest, Network]:
    """The request without what the DHCP server decides, and the network that says so.

    Raises InvalidRequest for what the server would have to know.
    """
    if is_routed(network):
        raise InvalidRequest(
            f"ipam dhcp needs broadcasts, which ipvlan in mode {network.options['mode']} has not; "
            "use mode l2, or driver macvlan"
        )
    if leads_nowhere(network):
        raise InvalidRequest("ipam dhcp needs a segment with a server; add -o parent=INTERFACE")
    gateway: str | None = None
    kept: list[SubnetRequest | str] = []
    for wish in request.subnets:
        one = SubnetRequest(subnet=wish) if isinstance(wish, str) else wish
        if one.subnet and ":" in one.subnet:
            kept.append(wish)
        elif one.subnet or one.ip_range or one.reserved:
            what = one.subnet or one.ip_range or ", ".join(one.reserved)
            raise InvalidRequest(
                f"{what} cannot be stated with ipam dhcp: the segment's DHCP server knows the "
                "subnet and chooses the addresses; leave it out"
            )
        elif one.gateway:
            address = parse_address(one.gateway)
            if address.version != 4:
                raise InvalidRequest(f"gateway {one.gateway} needs an IPv6 subnet; state it")
            gateway = str(address)
    return (
        msgspec.structs.replace(request, subnets=kept),
        msgspec.structs.replace(network, ipam=DHCP, dhcp_gateway=gateway),
    )
