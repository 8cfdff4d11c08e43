"""The macvlan driver: containers on a physical segment, each with a MAC of its own.

Modes say what members of one parent do with frames for each other (drivers/net/macvlan.c):
bridge hands them over, private drops them, vepa sends them to the switch, which may send
them back, and passthru gives the parent to one member alone.
"""

from __future__ import annotations

from linkspan.dataplane import HOST, DataPlane, Macvlan
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.drivers.underlay import (
    canonical_underlay,
    choice,
    describe_host,
    describe_inside,
    mode_of,
    parent_of,
    parse_host_addresses,
)

MODES = ("bridge", "private", "vepa", "passthru")


class MacvlanDriver:
    """Containers beside the host on its physical network."""

    name = "macvlan"
    needs_subnet = True
    makes_endpoints = True

    def validate(self, network: Network) -> Network:
        """The network with canonical options; InvalidRequest if one is wrong."""
        return canonical_underlay(
            network,
            {"mode": choice(*MODES), "host_source": parse_host_addresses},
            {"macvlan_mode": "mode"},
            {"mode": "bridge"},
        )

    def describe_network(self, network: Network) -> DataPlane:
        """The parent where it is ours to make, and the host's own access."""
        return DataPlane(describe_host(network))

    def describe_endpoint(
        self, network: Network, sandbox: Sandbox, endpoint: Endpoint
    ) -> DataPlane:
        """The link on the parent, in the sandbox, with its addresses."""
        kind = Macvlan(parent=parent_of(network), mode=mode_of(network), parent_namespace=HOST)
        return DataPlane(describe_inside(network, sandbox, endpoint, kind))
