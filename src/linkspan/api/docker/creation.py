"""Docker's request for a network, put in our own terms."""

from __future__ import annotations

import msgspec

from linkspan.api.docker.endpoint import refuse
from linkspan.api.docker.written import check_labels, note_written
from linkspan.api.operation import Answer, Call, Operation
from linkspan.drivers.registry import DRIVERS
from linkspan.engine.dhcp.drafting import DEFAULT, IPAMS
from linkspan.engine.networks import PREDEFINED
from linkspan.engine.requests import NetworkRequest, SubnetRequest
from linkspan.errors import Exhausted, InvalidRequest, NameInUse, NotFound, Unsupported


class IPAMConfigRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet to have. Clients write null or "" for what they do not state."""

    subnet: str | None = msgspec.field(name="Subnet", default=None)
    ip_range: str | None = msgspec.field(name="IPRange", default=None)
    gateway: str | None = msgspec.field(name="Gateway", default=None)
    reserved: dict[str, str | None] | None = msgspec.field(name="AuxiliaryAddresses", default=None)


class IPAMRequest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The subnets to have."""

    driver: str | None = None
    config: list[IPAMConfigRequest] | None = None
    options: dict[str, str] | None = None


class ConfigFromRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """A network to take the configuration from."""

    network: str | None = None


class DockerNetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A network to create, as POST /networks/create takes it. Unknown fields are ignored, as by
    Docker; CheckDuplicate is one, because names are always unique.
    """

    name: str = msgspec.field(name="Name", default="")
    driver: str | None = msgspec.field(name="Driver", default=None)
    scope: str | None = msgspec.field(name="Scope", default=None)
    ipv4: bool | None = msgspec.field(name="EnableIPv4", default=None)
    ipv6: bool | None = msgspec.field(name="EnableIPv6", default=None)
    ipam: IPAMRequest | None = msgspec.field(name="IPAM", default=None)
    internal: bool | None = msgspec.field(name="Internal", default=None)
    attachable: bool | None = msgspec.field(name="Attachable", default=None)
    ingress: bool | None = msgspec.field(name="Ingress", default=None)
    config_only: bool | None = msgspec.field(name="ConfigOnly", default=None)
    config_from: ConfigFromRequest | None = msgspec.field(name="ConfigFrom", default=None)
    options: dict[str, str] | None = msgspec.field(name="Options", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)


class CreateResponse(msgspec.Struct, frozen=True, rename="pascal"):
    """The id of a network that was made."""

    id: str
    warning: str = ""


async def create_network(call: Call) -> Answer:
    """Make a network on the host."""
    body: DockerNetworkRequest = call.body
    if body.name in PREDEFINED:
        return refuse(
            403,
            f"operation is not permitted on predefined {body.name} network; choose another name",
        )
    request = compose_request(body)
    if request.driver not in DRIVERS:
        known = ", ".join(sorted(DRIVERS))
        raise NotFound(f"could not find network driver {request.driver!r}; choose {known}")
    try:
        made = await call.engine.create_network(request)
    except NameInUse:
        raise NameInUse(
            f"network with name {body.name} already exists; choose another name, or remove it"
        ) from None
    except Exhausted as error:
        # moby's ErrNoMoreSubnets is an invalid parameter.
        return refuse(400, error.message)
    return Answer(201, CreateResponse(made.id))


def compose_request(body: DockerNetworkRequest) -> NetworkRequest:
    """Our request for what Docker's asks.

    Raises:
        InvalidRequest: an IPAM option, or a label of ours.
        Unsupported: what needs swarm, or configuration-only networks.
    """
    _refuse_unsupported(body)
    labels = body.labels or {}
    check_labels(labels)
    options = body.options or {}
    configs = (body.ipam.config or []) if body.ipam is not None else []
    return NetworkRequest(
        name=body.name,
        driver=body.driver or "bridge",
        subnets=[_compose_subnet(one) for one in configs if one != IPAMConfigRequest()],
        options=options,
        labels={**labels, **note_written(options, bool(body.attachable))},
        internal=bool(body.internal),
        ipam=(body.ipam.driver if body.ipam is not None else None) or DEFAULT,
        # Docker's networks have IPv4 unless it is switched off, also beside IPv6 subnets.
        ipv4=body.ipv4 is not False,
        ipv6=bool(body.ipv6),
    )


def _refuse_unsupported(body: DockerNetworkRequest) -> None:
    if body.config_only:
        raise Unsupported("ConfigOnly: linkspan has no configuration-only networks; leave it out")
    if body.config_from is not None and body.config_from.network:
        raise Unsupported(
            f"ConfigFrom {body.config_from.network}: linkspan has no configuration-only networks; "
            "state the configuration itself"
        )
    if body.ingress:
        raise Unsupported("Ingress: linkspan has no swarm and no routing mesh; leave it out")
    if body.scope not in (None, "", "local"):
        raise Unsupported(f"Scope {body.scope}: linkspan's networks are of scope local")
    ipam = body.ipam
    if ipam is not None and ipam.driver not in (None, "", *IPAMS):
        known = " and ".join(IPAMS)
        raise Unsupported(f"IPAM driver {ipam.driver}: linkspan has its own, called {known}")
    if ipam is not None and ipam.options:
        option = next(iter(ipam.options))
        raise InvalidRequest(f"IPAM has no option {option!r}; it knows none")


def _compose_subnet(config: IPAMConfigRequest) -> SubnetRequest:
    reserved = {key: text for key, text in (config.reserved or {}).items() if text}
    return SubnetRequest(
        subnet=config.subnet or None,
        gateway=config.gateway or None,
        ip_range=config.ip_range or None,
        reserved=reserved,
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/networks/create",
        name="dockerCreateNetwork",
        summary="Create a network",
        handler=create_network,
        takes=DockerNetworkRequest,
        answers={201: CreateResponse},
        errors=(400, 403, 404, 409, 501),
    ),
)
