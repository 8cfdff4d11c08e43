"""What one apply holds open: namespaces, their sockets, and the numbers of their links."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

from linkspan.dataplane.objects import HOST
from linkspan.errors import KernelRefused, NotFound
from linkspan.kernel import namespaces
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket

_SIOCGIFNAME = 0x8910
_SIOCGIFINDEX = 0x8933
_ifreq = struct.Struct("=16si20x")


class Place(NamedTuple):
    """Where a namespace is found."""

    path: str
    inode: int | None
    """Its identity when it was registered; another one there is a stranger."""


def index_of_link(sock: NetlinkSocket, name: str) -> int | None:
    """The number of a link in the socket's namespace; None when there is none.

    The kernel answers this ioctl on a socket of any family (sock_do_ioctl), faster than a
    netlink query that has to describe the whole link.
    """
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFINDEX, _ifreq.pack(name.encode(), 0))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise KernelRefused(f"looking up link {name}", error.errno or 0) from error
    return int(_ifreq.unpack(answer)[1])


def name_of_link(sock: NetlinkSocket, index: int) -> str | None:
    """The name of a link by its number, in the socket's namespace; None when there is none."""
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFNAME, _ifreq.pack(b"", index))
    except OSError:
        return None
    return str(_ifreq.unpack(answer)[0].rstrip(b"\0").decode())


class Session:
    """Opens namespaces and sockets when they are first needed, and closes all at the end.

    `host` is the route socket of the host namespace; it stays open. `find` gives the place
    of a namespace by name.
    """

    def __init__(self, host: NetlinkSocket, find: Callable[[str], Place]) -> None:
        self._find = find
        self._host = host
        self._descriptors: dict[str, int] = {}
        self._sockets: dict[str, NetlinkSocket] = {HOST: host}
        self._indexes: dict[tuple[str, str], int] = {}
        self.fresh: set[str] = set()
        """Namespaces that were made in this session: lo is up in them."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        for name, sock in self._sockets.items():
            if name != HOST:
                sock.close()
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def welcome(self, name: str, sock: NetlinkSocket) -> None:
        """A namespace was made, and this is a socket in it."""
        self._sockets[name] = sock
        self.fresh.add(name)

    def forget(self, name: str) -> None:
        """A namespace is about to be deleted: hold nothing of it."""
        sock = self._sockets.pop(name, None)
        if sock is not None:
            sock.close()
        descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
        self.fresh.discard(name)

    def descriptor(self, name: str) -> int | None:
        """An open descriptor of a namespace; None for the host's, which every thread is in.

        Raises NotFound when the namespace is gone or another one is in its place.
        """
        if name == HOST:
            return None
        if name in self._descriptors:
            return self._descriptors[name]
        place = self._find(name)
        descriptor = namespaces.open_path(place.path)
        if place.inode is not None and namespaces.identity(descriptor) != place.inode:
            os.close(descriptor)
            raise NotFound(f"network namespace {name} is gone: {place.path} now holds another one")
        self._descriptors[name] = descriptor
        return descriptor

    def socket(self, name: str) -> NetlinkSocket:
        """A route socket in a namespace."""
        sock = self._sockets.get(name)
        if sock is None:
            sock = self._sockets[name] = NetlinkSocket(ROUTE, self.descriptor(name))
        return sock

    def index(self, namespace: str, link: str) -> int | None:
        """The number of a link, remembered until `link_changes`; None when there is none."""
        known = self._indexes.get((namespace, link))
        if known is None:
            known = index_of_link(self.socket(namespace), link)
            if known is not None:
                self._indexes[namespace, link] = known
        return known

    def link_changes(self, namespace: str, link: str) -> None:
        """A link is made or removed: its number is not what it was."""
        self._indexes.pop((namespace, link), None)
