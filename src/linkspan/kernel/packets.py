"""A packet socket for the DHCP client of an interface: whole frames, before there is an address.

Only UDP datagrams to port 68 come in: a filter of the kernel drops the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import entered

_ETHERTYPE_IPV4 = 0x0800
_SO_ATTACH_FILTER = 26
_LARGEST_FRAME = 2048
_CLIENT_PORT = 68

# Classic BPF (filter.h): the protocol is UDP, it is no fragment, and the port is the client's.
_LOAD_BYTE, _LOAD_HALF, _LOAD_INDEX, _LOAD_HALF_AT = 0x30, 0x28, 0xB1, 0x48
_JUMP_EQUAL, _JUMP_SET, _RETURN = 0x15, 0x45, 0x06
_ANSWERS_ONLY = (
    (_LOAD_BYTE, 0, 0, 23),
    (_JUMP_EQUAL, 0, 6, socket.IPPROTO_UDP),
    (_LOAD_HALF, 0, 0, 20),
    (_JUMP_SET, 4, 0, 0x1FFF),
    (_LOAD_INDEX, 0, 0, 14),
    (_LOAD_HALF_AT, 0, 0, 16),
    (_JUMP_EQUAL, 0, 1, _CLIENT_PORT),
    (_RETURN, 0, 0, 0x40000),
    (_RETURN, 0, 0, 0),
)


class PacketSocket:
    """Frames of one link, in the namespace of an open descriptor.

    A second socket holds port 68, so that the kernel does not answer servers that the port is
    closed; where a program of the container has it, that one does. Closing waits until no
    processor uses the sockets any more, about 20 ms. Raises KernelRefused.
    """

    def __init__(self, link: str, namespace: int) -> None:
        self._link = link
        self._holder: socket.socket | None = None
        self._frames: socket.socket | None = None
        try:
            with entered(namespace):
                self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self._frames.setblocking(False)
                _attach_filter(self._frames)
                self._frames.bind((link, _ETHERTYPE_IPV4))
                self._holder = _hold_port(link)
        except OSError as error:
            self.close()
            raise KernelRefused(f"listening for DHCP on {link}", error.errno or 0) from error

    def fileno(self) -> int:
        """Readable when a frame came."""
        return self._frames.fileno() if self._frames is not None else -1

    def send(self, frame: bytes) -> None:
        """Send one frame. Raises KernelRefused: the link is down or away."""
        assert self._frames is not None
        try:
            self._frames.send(frame)
        except OSError as error:
            raise KernelRefused(f"asking for a lease on {self._link}", error.errno or 0) from error

    def receive(self) -> bytes | None:
        """The next frame that came; None for none. Raises KernelRefused."""
        assert self._frames is not None
        try:
            return self._frames.recv(_LARGEST_FRAME)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise KernelRefused(f"listening for DHCP on {self._link}", error.errno or 0) from error

    def close(self) -> None:
        """End it."""
        for opened in (self._frames, self._holder):
            if opened is not None:
                opened.close()
        self._frames = self._holder = None


def _attach_filter(opened: socket.socket) -> None:
    program = b"".join(struct.pack("=HBBI", *line) for line in _ANSWERS_ONLY)
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HL", len(_ANSWERS_ONLY), ctypes.addressof(held))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


def _hold_port(link: str) -> socket.socket | None:
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        holder.bind(("", _CLIENT_PORT))
        return holder
    holder.close()
    return None
