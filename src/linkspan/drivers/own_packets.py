"""Ports that are handed nothing but packets to their own addresses.

A container routes or translates for others only what others hand to it. Where its ports get no
packet that is addressed to somebody else, it has nothing to pass on, whatever rights and rules
it has inside.
"""

from __future__ import annotations

from linkspan.dataplane import DataPlane
from linkspan.drivers import firewall
from linkspan.drivers.records import Sandbox


def describe_own_packets(sandbox: Sandbox) -> DataPlane:
    """The guard of every port of a sandbox that is on several networks.

    A namespace that somebody else made may have networks that we do not know, so it counts as
    such when it has one of ours.
    """
    ports = [e.host_interface for e in sandbox.endpoints if e.host_interface]
    if sandbox.state in ("gone", "exited") or (len(ports) < 2 and sandbox.made):
        return DataPlane()
    return DataPlane(firewall.bridge("own_only", port) for port in ports)
