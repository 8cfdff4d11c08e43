"""What a look at a host gives: its data plane, whose namespaces they are, what stayed unseen."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from linkspan.dataplane import DataPlane


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container, sandbox or named namespace: who it is, and which namespace of the plane.

    `namespace` is the name that the plane uses; it is `name` unless two have one name.
    `runtime` is who made it: linkspan, docker, podman, containerd, cni, netns, process, host.
    """

    namespace: str
    name: str
    runtime: str
    id: str = ""
    pid: int | None = None
    image: str = ""
    aliases: tuple[str, ...] = ()
    """Other words that mean it: its id, a service's name, netns:PATH."""
    networks: tuple[str, ...] = ()
    """Names of the networks that its runtime says it is on."""
    published: tuple[str, ...] = ()
    """What its runtime says it published: "192.0.2.10:8080->80/tcp"."""


class Stored(msgspec.Struct, frozen=True):
    """What linkspan's own store on that host held: where a plan of a command begins.

    Networks, sandboxes, policies, leases, as the store keeps them; nothing of what containers
    run. `settings` is the daemon's settings as JSON.
    """

    entries: Mapping[str, bytes] = {}
    settings: bytes = b"{}"


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """A host at one moment: what questions are answered from, live or out of a file."""

    plane: DataPlane
    containers: tuple[Container, ...] = ()
    unseen: tuple[str, ...] = ()
    """What could not be read, and why; a sentence each."""
    changing: tuple[str, ...] = ()
    """Namespaces that still changed after they had been read several times."""
    paths: Mapping[str, str | None] = {}
    """Files of the namespaces by name, None for one's own. Empty when loaded from a file."""
    taken: float = 0.0
    """When: seconds since 1970."""
    host: str = ""
    kernel: str = ""
    stored: Stored | None = None
    """None: not read, or linkspan has never run there."""
