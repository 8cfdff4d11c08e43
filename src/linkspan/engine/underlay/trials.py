"""What only the kernel can say about a parent: its answer to a link made on trial. Pure."""

from __future__ import annotations

import errno

from linkspan.dataplane import Ipvlan, Link, Macvlan
from linkspan.drivers.records import Network
from linkspan.drivers.underlay import leads_nowhere, mode_of, parent_of, split_vlan
from linkspan.errors import Conflict, KernelRefused, LinkspanError, Unsupported


def trials(network: Network, *, alone: bool) -> list[Link]:
    """Links on the parent, to be made and removed at once: what the kernel says to it counts.

    A new ipvlan link sets the mode of all links on a parent, so those that another program may
    have there are found by trying macvlan first. `alone` says that no network of ours is there.
    """
    name, parent = f"lst-{network.id[:10]}", parent_of(network)
    kinds: list[Macvlan | Ipvlan] = []
    if network.driver == "macvlan":
        kinds.append(Macvlan(parent=parent, mode=mode_of(network)))
    else:
        if alone:
            kinds.append(Macvlan(parent=parent, mode="private"))
        kinds.append(Ipvlan(parent=parent, mode=mode_of(network), flag=network.options["flag"]))
    return [Link(name=name, kind=kind, alias=f"linkspan:network:{network.id}") for kind in kinds]


def is_beside_the_point(network: Network, link: Link, error: KernelRefused) -> bool:
    """Whether a trial failed only because the kernel lacks what no container needs here."""
    other = network.driver == "ipvlan" and isinstance(link.kind, Macvlan)
    return other and error.errno == errno.EOPNOTSUPP


def refusal_of(network: Network, error: KernelRefused) -> LinkspanError:
    """What the kernel's refusal to make a network's links means."""
    parent = parent_of(network)
    if error.errno == errno.EOPNOTSUPP:
        what = "VLAN (802.1Q)" if split_vlan(network.interface) else network.driver
        if leads_nowhere(network):
            what = "dummy"
        return Unsupported(
            f"network {network.name}: this kernel may lack {what} links ({error}); "
            "`linkspan doctor` names what it has"
        )
    if error.errno == errno.EBUSY:
        return Conflict(
            f"parent {parent} is taken: a bridge, a bond or another program's macvlan or ipvlan "
            f"gets its frames ({error}); use another parent"
        )
    if error.errno == errno.EINVAL:
        return Conflict(
            f"the kernel makes no {network.driver} link (mode {mode_of(network)}) on {parent}: "
            f"another program has a link on it in mode passthru, or wants others beside one, or "
            f"it is no Ethernet interface ({error}); use another parent"
        )
    return error
