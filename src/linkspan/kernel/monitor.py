"""Hear of changes to links, addresses, routes and forwarding of a namespace, whoever makes them.

Events are small: they say what to look at again, not everything about it.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Collection

import msgspec

from linkspan.kernel.netlink import addresses, links, routes, seenlinks, wire
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket, Overrun
from linkspan.kernel.session import name_of_link

# RTNLGRP_* (linux/rtnetlink.h): links, addresses, routes and settings of IPv4 and IPv6.
_GROUPS = (1, 5, 9, 7, 11, 24, 25)
_NEWNETCONF = 80
_NETCONF_INDEX = 1
_ALL, _DEFAULT = -1, -2
_header = struct.Struct("=IHHII")
BURST = 0.01
"""Seconds from the first notification to reading: one change makes ten of them, and whoever
reads at once takes the interpreter from the thread that is making it.
"""


class LinkChanged(msgspec.Struct, frozen=True, kw_only=True, tag="link_changed"):
    """A link was made, changed or removed."""

    name: str
    index: int
    alias: str
    up: bool
    mtu: int
    removed: bool
    carrier: bool | None = None
    """None where the kernel does not say."""


class AddressChanged(msgspec.Struct, frozen=True, kw_only=True, tag="address_changed"):
    """An address ("10.0.0.1/24") came or went."""

    link: str
    address: str
    removed: bool


class RouteChanged(msgspec.Struct, frozen=True, kw_only=True, tag="route_changed"):
    """A route came or went."""

    destination: str
    table: int
    link: str | None
    gateway: str | None
    protocol: int
    removed: bool


class SettingsChanged(msgspec.Struct, frozen=True, kw_only=True, tag="settings_changed"):
    """Forwarding, rp_filter or the like of a link changed ("all" and "default" also)."""

    link: str


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """Notifications were lost: whatever is known must be observed again."""


Event = LinkChanged | AddressChanged | RouteChanged | SettingsChanged | Lost


class RouteMonitor:
    """A subscription to one namespace (an open file descriptor, None for the thread's own).

    `own_ports` has the port ids of our own sockets: it is looked at when a notification
    comes, so it may grow. What they change is left out, and so are the kernel's local and
    broadcast routes. Use `read` when `fileno` is readable, or iterate over `events`.
    """

    def __init__(self, own_ports: Collection[int] = (), namespace: int | None = None) -> None:
        self._own_ports = own_ports
        self._socket = NetlinkSocket(ROUTE, namespace, timeout=None)
        # A socket without a port id of its own is passed by (do_one_broadcast in af_netlink.c).
        self.portid = self._socket.portid
        for group in _GROUPS:
            self._socket.join(group)
        self._names: dict[int, str] = {}
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
                if port == 0 or port not in self._own_ports:
                    event = self._digest(type, data[start + wire.HEADER_SIZE : start + size])
                    if event is not None and (not found or event != found[-1]):
                        found.append(event)
                start += (size + 3) & ~3

    async def events(self) -> AsyncIterator[Event]:
        """What happens, as it happens, for ever; leave the loop to stop listening."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        descriptor = self.fileno()

        def hear() -> None:
            loop.remove_reader(descriptor)
            news.set()

        try:
            while True:
                loop.add_reader(descriptor, hear)
                await news.wait()
                news.clear()
                await asyncio.sleep(BURST)
                for event in self.read():
                    yield event
        finally:
            loop.remove_reader(descriptor)

    def _name_of(self, index: int) -> str:
        name = self._names.get(index)
        if name is None:
            name = name_of_link(self._socket, index)
            if name is None:
                return f"if{index}"
            self._names[index] = name
        return name

    def _digest(self, type: int, payload: bytes) -> Event | None:
        if type in (links.NEWLINK, links.DELLINK):
            return self._digest_link(payload, type == links.DELLINK)
        if type in (addresses.NEWADDR, addresses.DELADDR):
            address = addresses.decode(payload, "", self._name_of)
            return AddressChanged(
                link=address.link,
                address=address.address,
                removed=type == addresses.DELADDR,
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
            )
        if type == _NEWNETCONF:
            index = wire.parse_attributes(payload, 4).get(_NETCONF_INDEX)
            number = 0 if index is None else wire.read_s32(index)
            special = {_ALL: "all", _DEFAULT: "default"}
            return SettingsChanged(link=special.get(number) or self._name_of(number))
        return None

    def _digest_link(self, payload: bytes, removed: bool) -> Event | None:
        # A bridge reports its ports in messages of its own family, without most attributes.
        if payload[0] != 0:
            return None
        _, index, flags = seenlinks.read_info(payload)
        attributes = wire.parse_attributes(payload, links.INFO_SIZE)
        name = wire.read_text(attributes[links.IFNAME])
        if removed:
            self._names.pop(index, None)
        else:
            self._names[index] = name
        return LinkChanged(
            name=name,
            index=index,
            alias=wire.read_text(attributes.get(links.IFALIAS, b"")),
            up=bool(flags & links.UP),
            mtu=wire.read_u32(attributes.get(links.MTU, bytes(4))),
            removed=removed,
            carrier=bool(carrier[0]) if (carrier := attributes.get(links.CARRIER)) else None,
        )
