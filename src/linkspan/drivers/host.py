"""The host driver: no namespace of its own; the container uses the host's network as it is.

Consequences, also in docs/networks/host.md: it shares the host's ports and its loopback,
nothing is published or filtered for it, and it cannot be on another network as well.
"""

from __future__ import annotations

from linkspan.dataplane import DataPlane
from linkspan.drivers.options import canonical_options
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.errors import InvalidRequest


class HostDriver:
    """The host's own network."""

    name = "host"
    needs_subnet = False
    makes_endpoints = False

    def validate(self, network: Network) -> Network:
        """Refuses subnets and options: the host's addresses are not ours to set."""
        if network.subnets:
            raise InvalidRequest(
                "a network of driver host has the host's addresses; leave out --subnet"
            )
        canonical_options(self.name, network.options, {}, {})
        return network

    def describe_network(self, network: Network) -> DataPlane:
        """Nothing."""
        return DataPlane()

    def describe_endpoint(
        self, network: Network, sandbox: Sandbox, endpoint: Endpoint
    ) -> DataPlane:
        """Nothing."""
        return DataPlane()
