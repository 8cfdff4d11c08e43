"""DHCP messages: records and their bytes (RFC 2131, section 2; options of RFC 2132)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping

import msgspec

# Message types (RFC 2132, section 9.6).
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)

# Options that are used here, by number.
SUBNET_MASK, ROUTER, DNS_SERVERS, HOST_NAME, DOMAIN_NAME = 1, 3, 6, 12, 15
MTU, REQUESTED_ADDRESS, LEASE_TIME, OVERLOAD, MESSAGE_TYPE = 26, 50, 51, 52, 53
SERVER_IDENTIFIER, WANTED_OPTIONS, MESSAGE, RENEWAL_TIME, REBINDING_TIME = 54, 55, 56, 58, 59
CLIENT_IDENTIFIER = 61

NO_ADDRESS = "0.0.0.0"
FOREVER = 0xFFFFFFFF
"""The lease time that means no end (RFC 2131, section 3.3)."""

_PAD, _END = 0, 255
_header = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_COOKIE = bytes((99, 130, 83, 99))
_ETHERNET, _MAC_LENGTH = 1, 6
_FROM_CLIENT = 1
_BROADCAST = 0x8000
_LEAST_SIZE = 300
"""Bytes of a BOOTP message, which old relays insist on (RFC 1542, section 2.1)."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One DHCP message. Addresses as text, options as the bytes of their values."""

    transaction: int
    mac: str
    """The client's."""
    from_client: bool = True
    seconds: int = 0
    broadcast: bool = False
    """The client asks for answers to everybody."""
    client_address: str = NO_ADDRESS
    """Set by a client that uses it."""
    your_address: str = NO_ADDRESS
    """Set by a server: what the client gets."""
    relay_address: str = NO_ADDRESS
    options: Mapping[int, bytes] = {}

    @property
    def type(self) -> int:
        """DISCOVER to RELEASE; 0 when it does not say (BOOTP)."""
        value = self.options.get(MESSAGE_TYPE, b"")
        return value[0] if len(value) == 1 else 0

    def number(self, option: int) -> int | None:
        """The value of an option that is a number of 32 or 16 bits; None without it."""
        value = self.options.get(option)
        return int.from_bytes(value, "big") if value is not None and len(value) in (2, 4) else None

    def addresses(self, option: int) -> tuple[str, ...]:
        """The values of an option that is a list of addresses."""
        value = self.options.get(option, b"")
        whole = range(0, len(value) - len(value) % 4, 4)
        return tuple(str(ipaddress.IPv4Address(value[at : at + 4])) for at in whole)

    def text(self, option: int) -> str | None:
        """The value of an option that is text; None without it. Nothing in it can steer a
        terminal.
        """
        value = self.options.get(option)
        if value is None:
            return None
        decoded = value.rstrip(b"\0").decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in decoded)


def pack_message(message: Message) -> bytes:
    """The bytes of a message. An option is at most 255 bytes."""
    head = _header.pack(
        _FROM_CLIENT if message.from_client else 2,
        _ETHERNET,
        _MAC_LENGTH,
        0,
        message.transaction,
        min(message.seconds, 0xFFFF),
        _BROADCAST if message.broadcast else 0,
        _bytes_of(message.client_address),
        _bytes_of(message.your_address),
        bytes(4),
        _bytes_of(message.relay_address),
        bytes.fromhex(message.mac.replace(":", "")),
        b"",
        b"",
    )
    options = b"".join(
        bytes((number, len(value))) + value for number, value in message.options.items()
    )
    return (head + _COOKIE + options + bytes((_END,))).ljust(_LEAST_SIZE, b"\0")


def unpack_message(data: bytes) -> Message:
    """A message from its bytes. Raises ValueError when it is none."""
    if len(data) < _header.size + len(_COOKIE):
        raise ValueError(f"a DHCP message of {len(data)} bytes")
    fields = _header.unpack_from(data)
    operation, kind, length, _, transaction, seconds, flags = fields[:7]
    client, yours, _, relay, hardware, server_name, file_name = fields[7:]
    if operation not in (1, 2) or (kind, length) != (_ETHERNET, _MAC_LENGTH):
        raise ValueError("not a message of an Ethernet host")
    if data[_header.size : _header.size + 4] != _COOKIE:
        raise ValueError("no options")
    options: dict[int, bytes] = {}
    _read_options(data[_header.size + 4 :], options)
    # Options may go on in fields that have another use otherwise (RFC 2132, section 9.3).
    overload = options.get(OVERLOAD, b"\0")[0:1]
    if overload in (b"\1", b"\3"):
        _read_options(file_name, options)
    if overload in (b"\2", b"\3"):
        _read_options(server_name, options)
    return Message(
        transaction=transaction,
        mac=hardware[:_MAC_LENGTH].hex(":"),
        from_client=operation == _FROM_CLIENT,
        seconds=seconds,
        broadcast=bool(flags & _BROADCAST),
        client_address=str(ipaddress.IPv4Address(client)),
        your_address=str(ipaddress.IPv4Address(yours)),
        relay_address=str(ipaddress.IPv4Address(relay)),
        options=options,
    )


def _read_options(data: bytes, found: dict[int, bytes]) -> None:
    """Take in options; one that comes in parts is put together (RFC 3396)."""
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise ValueError("an option that goes past the end")
        number, length = data[at], data[at + 1]
        found[number] = found.get(number, b"") + data[at + 2 : at + 2 + length]
        at += 2 + length


def _bytes_of(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed
