"""The ipvlan driver: containers on a physical segment behind the MAC of their parent.

Modes (drivers/net/ipvlan): l2 resolves addresses like any host of the segment, l3 and l3s
have the parent route for them: no broadcast, no gateway; l3s passes the host's netfilter
hooks. Flags say what members do with packets for each other: bridge hands them over,
private drops them, vepa sends them out. Mode and flag are the parent's, so all networks on
it have the same.
"""

from __future__ import annotations

from linkspan.dataplane import HOST, DataPlane, Ipvlan
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.drivers.underlay import (
    canonical_underlay,
    choice,
    describe_host,
    describe_inside,
    mode_of,
    parent_of,
)

MODES = ("l2", "l3", "l3s")
FLAGS = ("bridge", "private", "vepa")


class IpvlanDriver:
    """Containers behind the MAC of an interface of the host."""

    name = "ipvlan"
    needs_subnet = True
    makes_endpoints = True

    def validate(self, network: Network) -> Network:
        """The network with canonical options; InvalidRequest if one is wrong."""
        return canonical_underlay(
            network,
            {"mode": choice(*MODES), "flag": choice(*FLAGS)},
            {"ipvlan_mode": "mode", "ipvlan_flag": "flag"},
            {"mode": "l2", "flag": "bridge"},
        )

    def describe_network(self, network: Network) -> DataPlane:
        """The parent where it is ours to make, and the host's own access."""
        return DataPlane(describe_host(network))

    def describe_endpoint(
        self, network: Network, sandbox: Sandbox, endpoint: Endpoint
    ) -> DataPlane:
        """The link on the parent, in the sandbox, with its addresses."""
        kind = Ipvlan(
            parent=parent_of(network),
            mode=mode_of(network),
            flag=network.options["flag"],
            parent_namespace=HOST,
        )
        return DataPlane(describe_inside(network, sandbox, endpoint, kind))
