"""What the host's own interfaces need so that containers can be reached through them.

Forwarding is switched on per interface, never for the whole host. On a host that is not a
router itself, an interface that forwards only because of us is listed in the `uplinks`
set, and the firewall drops what it would forward to anything but our networks.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkspan.dataplane import DataPlane, Object, Sysctl
from linkspan.drivers import firewall


def describe_uplinks(interfaces: Iterable[str], *, host_is_router: bool) -> DataPlane:
    """Forwarding for `interfaces` (names of the host's); guarded unless the host routes anyway."""
    objects: list[Object] = []
    for name in interfaces:
        if not host_is_router:
            objects.append(Sysctl(path=f"ipv4/conf/{name}/forwarding", value="1"))
            objects.append(firewall.inet("uplinks", name))
    return DataPlane(objects)
