"""Addresses of links on the wire (RTM_*ADDR; linux/if_addr.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from linkspan.dataplane.objects import Address
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.text import address_bytes, address_text, family_of, split_prefix

NEWADDR = 20
DELADDR = 21
GETADDR = 22

_ADDRESS = 1
_LOCAL = 2
_BROADCAST = 4
_FLAGS = 8
_NODAD = 0x02
_NOPREFIXROUTE = 0x200

# struct ifaddrmsg: family, prefix length, flags, scope, index
_info = struct.Struct("=BBBBI")

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_SCOPE_NAMES = {number: name for name, number in SCOPES.items()}


def scope_number(scope: str) -> int:
    """The number of a scope given by name or as a number. Raises InvalidRequest."""
    if scope in SCOPES:
        return SCOPES[scope]
    if scope.isdecimal():
        return int(scope)
    raise InvalidRequest(f'"{scope}" is no scope: use one of {", ".join(SCOPES)}')


def scope_name(number: int) -> str:
    """The name of a scope; its number as text when it has none."""
    return _SCOPE_NAMES.get(number, str(number))


def add(address: Address, index_of: Callable[[str], int]) -> bytes:
    """The message that puts an address on its link."""
    return _message(NEWADDR, wire.CREATE | wire.EXCLUDE, address, index_of(address.link))


def change(old: Address, new: Address, index_of: Callable[[str], int]) -> list[bytes]:
    """The messages that turn `old` into `new`, which is complete.

    Only flags change in place (inet_rtm_newaddr, inet6_addr_modify); for the rest the
    address is taken off and put on again, and routes that need it fall.
    """
    index = index_of(new.link)
    if (old.scope, old.broadcast, old.peer) == (new.scope, new.broadcast, new.peer):
        return [_message(NEWADDR, wire.CREATE | wire.REPLACE, new, index)]
    return [
        _message(DELADDR, 0, old, index),
        _message(NEWADDR, wire.CREATE | wire.EXCLUDE, new, index),
    ]


def remove(address: Address, index_of: Callable[[str], int]) -> bytes:
    """The message that takes an address off its link."""
    return _message(DELADDR, 0, address, index_of(address.link))


def _message(type: int, flags: int, address: Address, index: int) -> bytes:
    local, length = split_prefix(address.address)
    parts = [wire.attribute(_LOCAL, local)]
    peer = local if address.peer is None else address_bytes(address.peer)
    parts.append(wire.attribute(_ADDRESS, peer))
    if address.broadcast is not None:
        parts.append(wire.attribute(_BROADCAST, address_bytes(address.broadcast)))
    settings = (_NODAD if address.nodad else 0) | (_NOPREFIXROUTE if address.noprefixroute else 0)
    if settings:
        parts.append(wire.attribute_u32(_FLAGS, settings))
    scope = 0 if address.scope is None else scope_number(address.scope)
    header = _info.pack(family_of(address.address), length, settings & 0xFF, scope, index)
    return wire.pack_message(type, flags, 0, header + b"".join(parts))


def list_all() -> bytes:
    """The message whose dump is every address of both families."""
    return wire.pack_message(GETADDR, 0, 0, _info.pack(0, 0, 0, 0, 0))


def decode(payload: bytes, namespace: str, name_of: Callable[[int], str]) -> Address:
    """An address from the payload of an RTM_NEWADDR message."""
    _, length, flags, scope, index = _info.unpack_from(payload)
    attributes = wire.parse_attributes(payload, _info.size)
    far = attributes.get(_ADDRESS)
    local = attributes.get(_LOCAL, far)
    broadcast = attributes.get(_BROADCAST)
    if _FLAGS in attributes:
        flags = wire.read_u32(attributes[_FLAGS])
    assert local is not None
    return Address(
        namespace=namespace,
        link=name_of(index),
        address=f"{address_text(local)}/{length}",
        scope=scope_name(scope),
        broadcast=address_text(broadcast) if broadcast else None,
        peer=address_text(far) if far is not None and far != local else None,
        nodad=bool(flags & _NODAD),
        noprefixroute=bool(flags & _NOPREFIXROUTE),
    )
