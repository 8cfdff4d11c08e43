"""TUN and TAP devices, which the kernel makes through /dev/net/tun and not by netlink."""

from __future__ import annotations

import fcntl
import os
import struct

from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import entered

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TUN = 0x0001
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_TUN_EXCL = 0x8000
_ifreq = struct.Struct("=16sH22x")


def create(name: str, tap: bool, namespace: int | None = None) -> None:
    """Make a device that stays until it is deleted; refused when the name is taken.

    `namespace` is an open file descriptor; None is the calling thread's own.
    """
    try:
        if namespace is None:
            _create(name, tap)
        else:
            with entered(namespace):
                _create(name, tap)
    except OSError as error:
        raise KernelRefused(f"creating link {name}", error.errno or 0) from error


def _create(name: str, tap: bool) -> None:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = (_IFF_TAP if tap else _IFF_TUN) | _IFF_NO_PI | _IFF_TUN_EXCL
        fcntl.ioctl(device, _TUNSETIFF, _ifreq.pack(name.encode(), flags))
        fcntl.ioctl(device, _TUNSETPERSIST, 1)
    finally:
        os.close(device)
