"""Docker's operations that put a sandbox on a network, and take it off one."""

from __future__ import annotations

import msgspec

from linkspan.api.docker.containers import find_sandbox
from linkspan.api.docker.endpoint import empty_answer, refuse
from linkspan.api.docker.networks import find_network
from linkspan.api.docker.shown_networks import implied_network
from linkspan.api.operation import Answer, Call, Operation
from linkspan.engine.requests import NetworkAttachment
from linkspan.errors import Exhausted, InvalidRequest, NotFound, Unsupported


class EndpointIPAMRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses to have. Clients write null or "" for what they do not state."""

    ipv4: str | None = msgspec.field(name="IPv4Address", default=None)
    ipv6: str | None = msgspec.field(name="IPv6Address", default=None)
    link_local: list[str] | None = msgspec.field(name="LinkLocalIPs", default=None)


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox wishes on a network. What only Docker can know is ignored, as by Docker."""

    ipam: EndpointIPAMRequest | None = msgspec.field(name="IPAMConfig", default=None)
    links: list[str] | None = msgspec.field(name="Links", default=None)
    aliases: list[str] | None = msgspec.field(name="Aliases", default=None)
    driver_options: dict[str, str] | None = msgspec.field(name="DriverOpts", default=None)
    gateway_priority: int | None = msgspec.field(name="GwPriority", default=None)
    mac: str | None = msgspec.field(name="MacAddress", default=None)


class ConnectRequest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A sandbox, by name or id, and its wishes."""

    container: str
    endpoint_config: EndpointRequest | None = None


class DisconnectRequest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A sandbox, by name or id; with `force` also where the kernel refuses."""

    container: str
    force: bool | None = None


async def connect(call: Call) -> Answer:
    """Put a sandbox on one more network, while it runs."""
    body: ConnectRequest = call.body
    sandbox = find_sandbox(call.engine, body.container)
    network = find_network(call)
    if any(endpoint.network == network.id for endpoint in sandbox.endpoints):
        message = f"endpoint with name {sandbox.name} already exists in network {network.name}"
        return refuse(403, message)
    wishes = compose_attachment(network.id, body.endpoint_config or EndpointRequest())
    try:
        await call.engine.connect(sandbox.id, wishes)
    except Exhausted as error:
        # moby's ErrNoAvailableIPs is unavailable.
        return refuse(503, error.message)
    return empty_answer()


def compose_attachment(network: str, wishes: EndpointRequest) -> NetworkAttachment:
    """Our request for what Docker's asks.

    Raises:
        Unsupported: links, or link-local addresses.
        InvalidRequest: an option that no driver of ours has.
    """
    ipam = wishes.ipam or EndpointIPAMRequest()
    if wishes.links:
        raise Unsupported(
            f"Links ({wishes.links[0]}): linkspan has none; members of a network find each other "
            "by name, and by Aliases"
        )
    if ipam.link_local:
        raise Unsupported(
            f"LinkLocalIPs ({ipam.link_local[0]}): linkspan gives no link-local address by wish"
        )
    if wishes.driver_options:
        option = next(iter(wishes.driver_options))
        raise InvalidRequest(f"an endpoint has no option {option!r}; it knows none")
    return NetworkAttachment(
        network=network,
        ip=ipam.ipv4 or None,
        ipv6=ipam.ipv6 or None,
        mac=wishes.mac or None,
        gateway_priority=wishes.gateway_priority or 0,
        aliases=wishes.aliases or [],
    )


async def disconnect(call: Call) -> Answer:
    """Take a sandbox off a network, while it runs."""
    body: DisconnectRequest = call.body
    sandbox = find_sandbox(call.engine, body.container)
    network = find_network(call)
    if network.name == "none" and implied_network(sandbox) == "none":
        # Being there is being on no network at all; Docker wants it left before any connect.
        return empty_answer()
    if not sandbox.host_mode and all(e.network != network.id for e in sandbox.endpoints):
        raise NotFound(f"container {sandbox.name} is not connected to network {network.name}")
    await call.engine.disconnect(sandbox.id, network.id, force=bool(body.force))
    return empty_answer()


OPERATIONS = (
    Operation(
        method="POST",
        path="/networks/{id}/connect",
        name="dockerConnect",
        summary="Put a sandbox on one more network",
        handler=connect,
        takes=ConnectRequest,
        answers={200: None},
        errors=(400, 403, 404, 409, 501, 503),
    ),
    Operation(
        method="POST",
        path="/networks/{id}/disconnect",
        name="dockerDisconnect",
        summary="Take a sandbox off a network",
        handler=disconnect,
        takes=DisconnectRequest,
        answers={200: None},
        errors=(404, 409),
    ),
)
