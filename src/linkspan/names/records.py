"""What the resolver knows, as values: zones, the hosts in them, and who may ask for them."""

from __future__ import annotations

import msgspec


class Service(msgspec.Struct, frozen=True, array_like=True):
    """A service of a host, for SRV: `name` as it is asked for, without its underscore."""

    name: str
    protocol: str
    port: int


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    """A network: whose addresses are ours to name, whether or not anybody names them."""

    id: str
    name: str
    subnets: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox is called on one network, and where it is.

    `names` starts with the one that reverse look-ups give. Addresses have no prefix length.
    """

    network: str
    sandbox: str
    names: tuple[str, ...]
    ipv4: str | None = None
    ipv6: str | None = None
    services: tuple[Service, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Identity: a sandbox is on a network once."""
        return self.network, self.sandbox


class Resolver(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox that may ask: where it is, and what it is told.

    `networks` are the ids of the zones that it sees; a name is looked up in this order.
    Outside names are asked of `servers` (none: those of the host), unless `external` is
    false: then only of servers inside its own networks.
    """

    id: str
    netns: str
    inode: int | None = None
    networks: tuple[str, ...] = ()
    external: bool = True
    servers: tuple[str, ...] = ()


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, or a part of it."""

    zones: tuple[Zone, ...] = ()
    hosts: tuple[Host, ...] = ()
    resolvers: tuple[Resolver, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is new or different, and what is no more: zones and resolvers by id, hosts by key.

    `resolvers_gone` are those whose namespace ends, so that there is nothing to clean up.
    """

    put: Names = Names()
    zones_dropped: tuple[str, ...] = ()
    hosts_dropped: tuple[tuple[str, str], ...] = ()
    resolvers_dropped: tuple[str, ...] = ()
    resolvers_gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Change()
