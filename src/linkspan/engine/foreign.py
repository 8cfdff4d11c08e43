"""Namespaces that others made: looked at before they are attached, and found again later."""

from __future__ import annotations

import os

import msgspec

from linkspan.dataplane import DataPlane, Link, Route
from linkspan.engine.host import Host
from linkspan.engine.register import Register
from linkspan.engine.requests import SandboxRequest
from linkspan.errors import Conflict, InvalidRequest, NotFound

_INSIDE = "inside"


class ForeignNamespace(msgspec.Struct, frozen=True):
    """A namespace as it was found: where, which one, and what it has."""

    path: str
    inode: int
    plane: DataPlane
    pid: int | None = None

    @property
    def interfaces(self) -> set[str]:
        """Names of the links in it."""
        return {link.name for link in self.plane.of(Link)}

    def default_route(self, version: int) -> Route | None:
        """A default route that is there already."""
        destination = "0.0.0.0/0" if version == 4 else "::/0"
        return next(
            (
                route
                for route in self.plane.of(Route)
                if route.destination == destination
                and route.table == 254
                and route.type == "unicast"
            ),
            None,
        )


def find_foreign(request: SandboxRequest, host: Host) -> ForeignNamespace:
    """The namespace that a request brings along, by path or process.

    Blocks. Raises InvalidRequest, NotFound and PermissionRefused.
    """
    if request.netns is not None and request.pid is not None:
        raise InvalidRequest("give either a path or a process for the namespace, not both")
    if request.pid is not None:
        if request.pid <= 0 or not os.path.exists(f"/proc/{request.pid}"):
            raise NotFound(f"there is no process {request.pid}")
        path = f"/proc/{request.pid}/ns/net"
    else:
        path = request.netns or ""
        if not os.path.isabs(path):
            raise InvalidRequest(
                f"network namespace {path!r}: give an absolute path, like /run/netns/{path}"
            )
    inode = host.identify(path)
    return ForeignNamespace(path, inode, host.observe({_INSIDE: path}), request.pid)


def check_foreign(found: ForeignNamespace, own_inode: int, register: Register) -> None:
    """Raise Conflict for the host's own namespace and for one that is attached already."""
    if found.inode == own_inode:
        raise Conflict(
            f"{found.path} is the host's own network namespace; "
            "use the network host for a sandbox there"
        )
    holder = register.in_namespace(found.inode)
    if holder is not None:
        raise Conflict(
            f"the network namespace at {found.path} is already attached as {holder.name}; "
            "connect that one to more networks, or remove it first"
        )


def find_process_in(inode: int, own_inode: int) -> int | None:
    """A process that is in this namespace, for one whose path has gone. Reads all of /proc."""
    if inode == own_inode:
        return None
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if os.stat(f"/proc/{entry.name}/ns/net").st_ino == inode:
                    return int(entry.name)
            except OSError:
                continue
    return None
