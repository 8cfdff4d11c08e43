"""Which drivers there are. A driver validates a network and describes it; it touches no kernel."""

from __future__ import annotations

from typing import Protocol

from linkspan.dataplane import DataPlane
from linkspan.drivers.bridge import BridgeDriver
from linkspan.drivers.host import HostDriver
from linkspan.drivers.ipvlan import IpvlanDriver
from linkspan.drivers.macvlan import MacvlanDriver
from linkspan.drivers.null import NullDriver
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.errors import InvalidRequest


class Driver(Protocol):
    """One way of connecting containers."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    @property
    def needs_subnet(self) -> bool:
        """Whether its networks have addresses of their own."""
        ...

    @property
    def makes_endpoints(self) -> bool:
        """Whether a sandbox gets an interface on its networks."""
        ...

    def validate(self, network: Network) -> Network:
        """The network made canonical; InvalidRequest when the driver cannot make it."""
        ...

    def describe_network(self, network: Network) -> DataPlane:
        """What the network itself needs on the host."""
        ...

    def describe_endpoint(
        self, network: Network, sandbox: Sandbox, endpoint: Endpoint
    ) -> DataPlane:
        """What one endpoint needs, on the host and inside the sandbox, without routes."""
        ...


DRIVERS: dict[str, Driver] = {
    d.name: d for d in (NullDriver(), HostDriver(), BridgeDriver(), MacvlanDriver(), IpvlanDriver())
}


def driver(name: str) -> Driver:
    """The driver of this name; InvalidRequest when there is none."""
    try:
        return DRIVERS[name]
    except KeyError:
        raise InvalidRequest(
            f"there is no driver {name!r}; choose {', '.join(sorted(DRIVERS))}"
        ) from None
