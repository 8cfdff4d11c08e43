"""BPF programs that are loaded, asked for by bpf(2). Nothing is loaded or attached here."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final, NamedTuple

TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
SCHED_CLS: Final = 3

TYPE_NAMES: Final = {
    8: "cgroup_skb", 9: "cgroup_sock", 18: "cgroup_sock_addr", 32: "netfilter",
}  # fmt: skip
"""Types (enum bpf_prog_type) besides those at links that may stop packets or connections."""

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_NEXT_ID, _OPEN, _INFO, _QUERY = 11, 13, 15, 16
_MOST = 64
"""Programs at one hook: BPF_MPROG_MAX."""
_libc = ctypes.CDLL(None, use_errno=True)


class LoadedProgram(NamedTuple):
    """A program by its number: its type (enum bpf_prog_type) and name."""

    id: int
    type: int
    name: str


def list_programs() -> list[LoadedProgram] | None:
    """All programs of the machine; None when that may not be asked (CAP_SYS_ADMIN)."""
    found: list[LoadedProgram] = []
    last = 0
    while True:
        attributes = bytearray(struct.pack("=III", last, 0, 0)) + bytes(116)
        if _call(_NEXT_ID, attributes) < 0:
            return found if ctypes.get_errno() == 2 else None
        last = struct.unpack_from("=I", attributes, 4)[0]
        program = describe_program(last)
        if program is not None:
            found.append(program)


def describe_program(id: int) -> LoadedProgram | None:
    """A program by its number; None when it is gone, or may not be asked for."""
    descriptor = _call(_OPEN, bytearray(struct.pack("=III", id, 0, 0)) + bytes(116))
    if descriptor < 0:
        return None
    try:
        # struct bpf_prog_info: type, id, ..., name at byte 64
        info = ctypes.create_string_buffer(256)
        request = struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))
        if _call(_INFO, bytearray(request) + bytes(112)) < 0:
            return None
        type, number = struct.unpack_from("=II", info.raw)
        name = info.raw[64:80].partition(b"\0")[0].decode(errors="replace")
        return LoadedProgram(number, type, name)
    finally:
        os.close(descriptor)


def list_attached(link: int, hook: int) -> tuple[int, ...]:
    """Numbers of the programs at a hook (TCX_*) of a link of the calling thread's namespace."""
    ids = (ctypes.c_uint32 * _MOST)()
    request = struct.pack("=IIIIQI", link, hook, 0, 0, ctypes.addressof(ids), _MOST)
    attributes = bytearray(request) + bytes(128 - len(request))
    if _call(_QUERY, attributes) < 0:
        return ()
    return tuple(ids[: struct.unpack_from("=I", attributes, 24)[0]])


def _call(command: int, attributes: bytearray) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        ctypes.set_errno(38)
        return -1
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    return int(_libc.syscall(number, command, ctypes.byref(buffer), len(attributes)))
