"""The numbers by which one namespace knows others (RTM_GETNSID; linux/net_namespace.h).

The kernel gives such a number when a link's other end or parent is in another namespace.
"""

from __future__ import annotations

from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import NetlinkSocket, Refusal

GETNSID = 90

_NSID = 1
_FD = 3
_rtgenmsg = bytes(4)


def find(sock: NetlinkSocket, namespace: int) -> int | None:
    """The number that the socket's namespace knows `namespace` (a descriptor) by.

    None when it has given none.
    """
    answer = sock.query(
        wire.pack_message(GETNSID, 0, 0, _rtgenmsg + wire.attribute_u32(_FD, namespace))
    )
    if isinstance(answer, Refusal):
        return None
    data = wire.parse_attributes(answer[1], len(_rtgenmsg)).get(_NSID)
    number = -1 if data is None else wire.read_s32(data)
    return None if number < 0 else number
