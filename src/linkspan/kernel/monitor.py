"""Hear of changes to links, addresses, routes and forwarding of a namespace, whoever makes them.

Events are small: they say what to look at again, not everything about it.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Collection

import msgspec

from linkspan.kernel.netlink import addresses, links, routes, wire
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket, Overrun

# RTNLGRP_* (linux/rtnetlink.h): links, addresses, routes and settings of IPv4 and IPv6.
_GROUPS = (1, 5, 9, 7, 11, 24, 25)
_NEWNETCONF = 80
_NETCONF_INDEX = 1
_ALL, _DEFAULT = -1, -2
_header = struct.Struct("=IHHII")


class LinkChanged(msgspec.Struct, frozen=True, kw_only=True, tag="link_changed"):
    """A link was made, changed or removed. `own` when one of our sockets did it."""

    name: str
    index: int
    alias: str
    up: bool
    mtu: int
    removed: bool
    own: bool


class AddressChanged(msgspec.Struct, frozen=True, kw_only=True, tag="address_changed"):
    """An address ("10.0.0.1/24") came or went."""

    link: str
    address: str
    removed: bool
    own: bool


class RouteChanged(msgspec.Struct, frozen=True, kw_only=True, tag="route_changed"):
    """A route came or went."""

    destination: str
    table: int
    link: str | None
    gateway: str | None
    protocol: int
    removed: bool
    own: bool


class SettingsChanged(msgspec.Struct, frozen=True, kw_only=True, tag="settings_changed"):
    """Forwarding, rp_filter or the like of a link changed ("all" and "default" also)."""

    link: str


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """Notifications were lost: whatever is known must be observed again."""


Event = LinkChanged | AddressChanged | RouteChanged | SettingsChanged | Lost


class RouteMonitor:
    """A subscription to one namespace (an open file descriptor, None for the thread's own).

    `own_ports` has the port ids of our own sockets: it is looked at when a notification
    comes, so it may grow. Use `read` when `fileno` is readable, or iterate over `events`.
    The kernel's local and broadcast routes are left out.
    """

    def __init__(self, own_ports: Collection[int] = (), namespace: int | None = None) -> None:
        self._own_ports = own_ports
        self._socket = NetlinkSocket(ROUTE, namespace, timeout=None)
        # A socket without a port id of its own is passed by (do_one_broadcast in af_netlink.c).
        self.portid = self._socket.portid
        for group in _GROUPS:
            self._socket.join(group)
        with NetlinkSocket(ROUTE, namespace) as sock:
            rows = [links.decode(payload, "") for _, payload in sock.dump(links.list_all())]
        self._names = {row.index: row.link.name for row in rows}
        os.set_blocking(self._socket.fileno(), False)

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor that is readable when there is news."""
        return self._socket.fileno()

    def read(self) -> list[Event]:
        """What has happened since the last call, in order, without waiting."""
        found: list[Event] = []
        while True:
            try:
                data = self._socket.receive()
            except TimeoutError:
                return found
            except Overrun:
                if Lost() not in found:
                    found.append(Lost())
                continue
            start = 0
            while len(data) - start >= wire.HEADER_SIZE:
                size, type, _, _, port = _header.unpack_from(data, start)
                if size < wire.HEADER_SIZE:
                    break
                payload = data[start + wire.HEADER_SIZE : start + size]
                event = self._digest(type, payload, port != 0 and port in self._own_ports)
                if event is not None:
                    found.append(event)
                start += (size + 3) & ~3

    async def events(self) -> AsyncIterator[Event]:
        """What happens, as it happens, for ever; leave the loop to stop listening."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        descriptor = self.fileno()
        loop.add_reader(descriptor, news.set)
        try:
            while True:
                await news.wait()
                news.clear()
                for event in self.read():
                    yield event
        finally:
            loop.remove_reader(descriptor)

    def _name_of(self, index: int) -> str:
        return self._names.get(index) or f"if{index}"

    def _digest(self, type: int, payload: bytes, own: bool) -> Event | None:
        if type in (links.NEWLINK, links.DELLINK):
            return self._digest_link(payload, type == links.DELLINK, own)
        if type in (addresses.NEWADDR, addresses.DELADDR):
            address = addresses.decode(payload, "", self._name_of)
            return AddressChanged(
                link=address.link,
                address=address.address,
                removed=type == addresses.DELADDR,
                own=own,
            )
        if type in (routes.NEWROUTE, routes.DELROUTE):
            route = routes.decode(payload, "", self._name_of)
            if route is None or route.table == routes.LOCAL_TABLE:
                return None
            return RouteChanged(
                destination=route.destination,
                table=route.table,
                link=route.link,
                gateway=route.gateway,
                protocol=route.protocol or 0,
                removed=type == routes.DELROUTE,
                own=own,
            )
        if type == _NEWNETCONF:
            index = wire.parse_attributes(payload, 4).get(_NETCONF_INDEX)
            number = 0 if index is None else wire.read_s32(index)
            special = {_ALL: "all", _DEFAULT: "default"}
            return SettingsChanged(link=special.get(number) or self._name_of(number))
        return None

    def _digest_link(self, payload: bytes, removed: bool, own: bool) -> Event | None:
        # A bridge reports its ports in messages of its own family, without most attributes.
        if payload[0] != 0:
            return None
        seen = links.decode(payload, "")
        link = seen.link
        if removed:
            self._names.pop(seen.index, None)
        else:
            self._names[seen.index] = link.name
        return LinkChanged(
            name=link.name,
            index=seen.index,
            alias=link.alias or "",
            up=bool(link.up),
            mtu=link.mtu or 0,
            removed=removed,
            own=own,
        )
