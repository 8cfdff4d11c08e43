"""The nouns of a Linux data plane, and the difference between two of them.

Everything here is a value: nothing reads or writes a kernel. Imports nothing of ours.
"""

from linkspan.dataplane.diff import (
    Add,
    Change,
    Operation,
    Remove,
    Replace,
    apply_to,
    creation_order,
    diff,
    overlay,
    satisfies,
)
from linkspan.dataplane.falling import falls_with
from linkspan.dataplane.links import (
    Bridge,
    Dummy,
    Ipvlan,
    LinkKind,
    Loopback,
    Macvlan,
    Other,
    Physical,
    Tun,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.dataplane.objects import (
    HOST,
    Address,
    BridgePort,
    Element,
    FdbEntry,
    Key,
    Link,
    Namespace,
    Neighbour,
    NextHop,
    Object,
    Part,
    Route,
    Rule,
    Sysctl,
)
from linkspan.dataplane.plane import DataPlane
from linkspan.dataplane.rules import Chain, FirewallRule, SetDefinition, Table
from linkspan.dataplane.sockets import Listener, Process

__all__ = [
    "HOST", "Add", "Address", "Bridge", "BridgePort", "Chain", "Change", "DataPlane", "Dummy",
    "Element", "FdbEntry", "FirewallRule", "Ipvlan", "Key", "Link", "LinkKind", "Listener",
    "Loopback", "Macvlan", "Namespace", "Neighbour", "NextHop", "Object", "Operation", "Other",
    "Part", "Physical", "Process", "Remove", "Replace", "Route", "Rule", "SetDefinition", "Sysctl", "Table", "Tun",
    "Veth", "Vlan", "Vxlan", "apply_to", "creation_order", "diff", "falls_with", "overlay",
    "satisfies",
]  # fmt: skip
