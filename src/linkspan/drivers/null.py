"""The null driver: a namespace of its own with loopback, and nothing else."""

from __future__ import annotations

from linkspan.dataplane import DataPlane
from linkspan.drivers.options import canonical_options
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.errors import InvalidRequest


class NullDriver:
    """No network. A sandbox here can be connected to others later."""

    name = "null"
    needs_subnet = False
    makes_endpoints = False

    def validate(self, network: Network) -> Network:
        """Refuses subnets and options: there is nothing they could apply to."""
        if network.subnets:
            raise InvalidRequest("a network of driver null has no addresses; leave out --subnet")
        canonical_options(self.name, network.options, {}, {})
        return network

    def describe_network(self, network: Network) -> DataPlane:
        """Nothing."""
        return DataPlane()

    def describe_endpoint(
        self, network: Network, sandbox: Sandbox, endpoint: Endpoint
    ) -> DataPlane:
        """Nothing: loopback comes with every sandbox."""
        return DataPlane()
