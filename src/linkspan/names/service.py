"""The whole resolver but for its process: the directory, a listener a sandbox, the forwarder."""

from __future__ import annotations

import ipaddress
import itertools
import logging
import socket
from collections import deque

from linkspan.errors import LinkspanError
from linkspan.names.directory import Directory
from linkspan.names.forward import Forwarder
from linkspan.names.listener import Listener
from linkspan.names.loop import Loop
from linkspan.names.records import Change, Names, Resolver
from linkspan.names.resolvconf import HOST_FILE, HostFile
from linkspan.names.sockets import Sockets
from linkspan.names.vanishing import Vanishing

log = logging.getLogger("linkspan.names")
SECOND = 1.0
LOOKED_AT = 50
"""Sandboxes a second that are looked for, beside those that the kernel tells of."""


class Service:
    """Answers all sandboxes. What it knows changes by `replace` and `update`."""

    def __init__(self, loop: Loop, host_file: str = HOST_FILE) -> None:
        self.directory = Directory()
        self.forwarder = Forwarder(loop)
        self.listeners: dict[str, Listener] = {}
        self.problems: dict[str, str] = {}
        self._awake: set[Listener] = set()
        self._to_look_at: deque[str] = deque()
        self._loop = loop
        self._host = HostFile(host_file)
        self._vanishing = Vanishing(loop, self._suspect)
        self._ports: dict[tuple[str, str], int | None] = {}
        loop.call_later(SECOND, self._tick)

    @property
    def host_servers(self) -> tuple[str, ...]:
        """Whom this host asks."""
        return self._host.configuration.servers

    def contents(self) -> Names:
        """Everything that it knows."""
        known = self.directory.contents()
        resolvers = tuple(listener.resolver for listener in self.listeners.values())
        return Names(zones=known.zones, hosts=known.hosts, resolvers=resolvers)

    # Change

    def replace(self, names: Names) -> dict[str, str]:
        """Know this and nothing else; gives the sandboxes that cannot be answered, and why."""
        known = self.directory.contents()
        hosts = {host.key for host in names.hosts}
        zones = {zone.id for zone in names.zones}
        resolvers = {resolver.id for resolver in names.resolvers}
        self.problems = {}
        self.update(
            Change(
                put=names,
                zones_dropped=tuple(zone.id for zone in known.zones if zone.id not in zones),
                hosts_dropped=tuple(host.key for host in known.hosts if host.key not in hosts),
                resolvers_dropped=tuple(id for id in self.listeners if id not in resolvers),
            )
        )
        for id, listener in self.listeners.items():
            try:
                listener.sockets.repair()
            except (LinkspanError, OSError) as error:
                self._note(id, error)
        return dict(self.problems)

    def update(self, change: Change) -> dict[str, str]:
        """Know more, and less; gives the sandboxes of the change that cannot be answered."""
        zones = [self.directory.put_zone(zone) for zone in change.put.zones]
        for network, sandbox in change.hosts_dropped:
            self.directory.drop_host(network, sandbox)
        for host in change.put.hosts:
            self.directory.put_host(host)
        for id in change.zones_dropped:
            self.directory.drop_zone(id)
        for id in change.resolvers_dropped:
            self._close(id, lives_on=True)
        for id in change.resolvers_gone:
            self._close(id, lives_on=False)
        for resolver in change.put.resolvers:
            self._open(resolver)
        self._forget(change, any(zones) or bool(change.zones_dropped))
        wanted = {resolver.id for resolver in change.put.resolvers}
        return {id: why for id, why in self.problems.items() if id in wanted}

    def _forget(self, change: Change, everybody: bool) -> None:
        networks = {host.network for host in change.put.hosts}
        networks |= {network for network, _ in change.hosts_dropped}
        for listener in list(self._awake):
            if everybody or not networks.isdisjoint(listener.resolver.networks):
                listener.forget()

    def _open(self, resolver: Resolver) -> None:
        before = self.listeners.get(resolver.id)
        if before is not None:
            same = (before.resolver.netns, before.resolver.inode) == (
                resolver.netns,
                resolver.inode,
            )
            if same and not before.sockets.vanished():
                before.become(resolver)
                return
            self._close(resolver.id, lives_on=False)
        try:
            self.adopt(Sockets.open(resolver))
        except (LinkspanError, OSError) as error:
            self._note(resolver.id, error)
        else:
            self.problems.pop(resolver.id, None)

    def adopt(self, sockets: Sockets) -> None:
        """Answer on sockets that are open already."""
        self._vanishing.watch(sockets.resolver.netns)
        self.listeners[sockets.resolver.id] = Listener(
            self._loop,
            sockets,
            self.directory,
            self.forwarder,
            self.find_servers,
            self._port_of,
            self._awake,
        )

    def _close(self, id: str, lives_on: bool) -> None:
        self.problems.pop(id, None)
        listener = self.listeners.pop(id, None)
        if listener is not None:
            self._vanishing.forget(listener.resolver.netns)
            listener.close(lives_on)

    def _note(self, id: str, error: Exception) -> None:
        self.problems[id] = str(error)
        log.warning("sandbox %s has no names: %s", id[:12], error)

    def close(self) -> None:
        """Answer nobody any more; nothing of ours stays in any namespace."""
        for id in list(self.listeners):
            self._close(id, lives_on=True)
        self.forwarder.close()

    # What listeners ask

    def find_servers(self, resolver: Resolver) -> tuple[str, ...]:
        """Whom to ask outside names of: () for nobody."""
        if resolver.external:
            return resolver.servers or self.host_servers
        inside = self.directory.subnets(resolver.networks)
        return tuple(
            server
            for server in resolver.servers
            if any(ipaddress.ip_address(server) in subnet for subnet in inside)
        )

    def _port_of(self, service: str, protocol: str) -> int | None:
        key = (service, protocol)
        if key not in self._ports:
            if len(self._ports) >= 1024:
                self._ports.clear()
            try:
                self._ports[key] = socket.getservbyname(service, protocol)
            except (OSError, ValueError):
                self._ports[key] = None
        return self._ports[key]

    # Time

    def _tick(self) -> None:
        self._loop.call_later(SECOND, self._tick)
        changed = self._host.refresh()
        if changed:
            self.forwarder.forget()
        for listener in list(self._awake):
            listener.tick()
            if changed:
                listener.forget()
        if not self._to_look_at:
            self._to_look_at.extend(self.listeners)
        for _ in itertools.repeat(None, min(LOOKED_AT, len(self._to_look_at))):
            id = self._to_look_at.popleft()
            if id in self.listeners:
                self._close_if_vanished(id, self.listeners[id])

    def _suspect(self, path: str) -> None:
        for id, listener in list(self.listeners.items()):
            if listener.resolver.netns == path:
                self._close_if_vanished(id, listener)

    def _close_if_vanished(self, id: str, listener: Listener) -> None:
        if listener.sockets.vanished():
            log.info("the namespace of sandbox %s has vanished", id[:12])
            self._close(id, lives_on=False)
