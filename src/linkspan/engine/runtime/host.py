"""What the host and this process offer a container. Reads /proc and /sys, changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By number: include/uapi/linux/capability.h."""

EVERY_ID = "0 0 4294967295"
"""/proc/self/uid_map of the first user namespace (user_namespaces(7))."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a container's configuration depends on.

    `capabilities` are those that this process could pass on. `own_user_namespace`: this process
    is root of a user namespace only. `cgroups`: it may make cgroups. `unified`: the host has
    cgroup version 2 alone.
    """

    capabilities: frozenset[str]
    file_systems: frozenset[str]
    cgroup_namespaces: bool
    cgroups: bool
    unified: bool
    own_user_namespace: bool
    tty_group: bool


def look_at_host() -> Host:
    """The facts of this host and process."""
    status = Path("/proc/self/status").read_text()
    bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    cgroup_root = Path("/sys/fs/cgroup")
    return Host(
        capabilities=name_capabilities(int(bounding.split()[1], 16)),
        file_systems=frozenset(
            line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()
        ),
        cgroup_namespaces=Path("/proc/self/ns/cgroup").exists(),
        cgroups=any(os.access(place, os.W_OK) for place in (cgroup_root, cgroup_root / "pids")),
        unified=(cgroup_root / "cgroup.controllers").exists(),
        own_user_namespace=read_id_map("uid_map") != [EVERY_ID],
        tty_group=maps_id(read_id_map("gid_map"), 5),
    )


def name_capabilities(mask: int) -> frozenset[str]:
    """The capabilities of a mask as /proc shows it, such as `NET_ADMIN`."""
    return frozenset(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)


def read_id_map(name: str) -> list[str]:
    """The lines of this process's uid_map or gid_map, single-spaced."""
    try:
        lines = Path("/proc/self", name).read_text().splitlines()
    except FileNotFoundError:  # a kernel without user namespaces
        return [EVERY_ID]
    return [" ".join(line.split()) for line in lines]


def maps_id(lines: list[str], wanted: int) -> bool:
    """Whether an id inside has a counterpart outside."""
    ranges = [tuple(map(int, line.split())) for line in lines]
    return any(first <= wanted < first + count for first, _, count in ranges)
