"""The names of all networks, indexed as they are asked for."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable

from linkspan.names import wire
from linkspan.names.records import Host, Names, Zone

_Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network
_Index = dict[bytes, dict[str, Host]]
"""Hosts by a name in wire form, then by sandbox: in the order in which they came."""


class _ZoneIndex:
    """One network's hosts. `plain` are their names, `qualified` those with the network's."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.hosts: dict[str, Host] = {}
        self.plain: _Index = {}
        self.qualified: _Index = {}
        self.reverse: dict[bytes, Host] = {}

    def put(self, host: Host) -> None:
        self.drop(host.sandbox)
        self.hosts[host.sandbox] = host
        for index, name in self._keys(host):
            index.setdefault(name, {})[host.sandbox] = host
        for address in _addresses(host):
            self.reverse[wire.reverse_name(address)] = host

    def drop(self, sandbox: str) -> None:
        host = self.hosts.pop(sandbox, None)
        if host is None:
            return
        for index, name in self._keys(host):
            rows = index.get(name, {})
            rows.pop(sandbox, None)
            if not rows:
                index.pop(name, None)
        for address in _addresses(host):
            name = wire.reverse_name(address)
            if self.reverse.get(name) is host:
                del self.reverse[name]

    def _keys(self, host: Host) -> Iterable[tuple[_Index, bytes]]:
        for text in host.names:
            plain = wire.encode_name(text)
            qualified = wire.encode_name(f"{text}.{self.zone.name}")
            if plain is not None:
                yield self.plain, plain
            if qualified is not None:
                yield self.qualified, qualified


class Directory:
    """All zones and hosts of one machine."""

    def __init__(self) -> None:
        self._zones: dict[str, _ZoneIndex] = {}
        self._prefixes: tuple[_Prefix, ...] = ()

    def put_zone(self, zone: Zone) -> bool:
        """Add a zone, or change it; its hosts stay. Whether that made a difference."""
        before = self._zones.get(zone.id)
        if before is not None and before.zone == zone:
            return False
        index = self._zones[zone.id] = _ZoneIndex(zone)
        for host in before.hosts.values() if before else ():
            index.put(host)
        self._collect_prefixes()
        return True

    def drop_zone(self, id: str) -> None:
        """Forget a zone and everybody in it."""
        if self._zones.pop(id, None) is not None:
            self._collect_prefixes()

    def put_host(self, host: Host) -> None:
        """Add a host, or change it; its zone must be there."""
        self._zones[host.network].put(host)

    def drop_host(self, network: str, sandbox: str) -> None:
        """Forget a host; one that is not there is fine."""
        with contextlib.suppress(KeyError):
            self._zones[network].drop(sandbox)

    def _collect_prefixes(self) -> None:
        self._prefixes = tuple(
            ipaddress.ip_network(subnet)
            for index in self._zones.values()
            for subnet in index.zone.subnets
        )

    def contents(self) -> Names:
        """All zones and hosts."""
        return Names(
            zones=tuple(index.zone for index in self._zones.values()),
            hosts=tuple(host for index in self._zones.values() for host in index.hosts.values()),
        )

    # Looking up -----------------------------------------------------------------------

    def find(self, networks: Iterable[str], name: bytes) -> tuple[Host, ...]:
        """The hosts of a name, of the first network that knows it; () for none.

        A name of a host comes before a name with the network's name that reads the same.
        """
        seen = [self._zones[id] for id in networks if id in self._zones]
        for index in (*(zone.plain for zone in seen), *(zone.qualified for zone in seen)):
            if rows := index.get(name):
                return tuple(rows.values())
        return ()

    def find_address(self, networks: Iterable[str], name: bytes) -> bytes | None:
        """The full name, in wire form, of whose address a reverse name asks for."""
        for id in networks:
            zone = self._zones.get(id)
            host = zone.reverse.get(name) if zone else None
            if zone and host:
                return self.full_name(host)
        return None

    def full_name(self, host: Host) -> bytes | None:
        """A host's first name with its network's; None when DNS cannot say it."""
        return wire.encode_name(f"{host.names[0]}.{self._zones[host.network].zone.name}")

    def subnets(self, networks: Iterable[str]) -> tuple[_Prefix, ...]:
        """The subnets of some networks."""
        return tuple(
            ipaddress.ip_network(subnet)
            for id in networks
            if id in self._zones
            for subnet in self._zones[id].zone.subnets
        )

    def owns(self, prefix: _Prefix) -> bool:
        """Whether addresses, or a part of the reverse tree, lie inside one of our subnets."""
        return any(
            prefix.version == ours.version and prefix.subnet_of(ours)  # type: ignore[arg-type]
            for ours in self._prefixes
        )


def _addresses(host: Host) -> tuple[str, ...]:
    return tuple(address for address in (host.ipv4, host.ipv6) if address is not None)
