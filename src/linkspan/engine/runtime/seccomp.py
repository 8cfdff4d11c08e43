"""The system calls that a container may not make, unless it is privileged.

A short list of refusals, not a list of permissions: what it keeps out are calls that reach the
whole host (modules, swap, kernel keyrings, BPF) or that widen the kernel's
attack surface from inside (new user namespaces, userfaultfd, io_uring). Most need a capability
that a container lacks anyway; this is the second lock.
"""

from __future__ import annotations

import errno
import platform
from typing import Any

CLONE_NEWUSER = 0x10000000
"""include/uapi/linux/sched.h"""

REFUSED = (
    "acct", "add_key", "bpf", "delete_module", "finit_module", "fsconfig", "fsmount", "fsopen",
    "fspick", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm",
    "iopl", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount",
    "mount_setattr", "move_mount", "name_to_handle_at", "nfsservctl", "open_by_handle_at",
    "open_tree", "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "reboot",
    "request_key", "setns", "swapoff", "swapon", "umount", "umount2", "userfaultfd", "vhangup",
)  # fmt: skip
"""Answered with EPERM."""

ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
"""With those that the same processor runs too, else a 32-bit program would slip past."""


def compose_seccomp(machine: str = platform.machine()) -> dict[str, Any]:
    """The `linux.seccomp` object of an OCI config for this machine (`uname -m`)."""
    new_user_namespace = {
        "index": 1 if machine == "s390x" else 0,  # its clone(2) takes the stack first
        "value": CLONE_NEWUSER,
        "valueTwo": CLONE_NEWUSER,
        "op": "SCMP_CMP_MASKED_EQ",
    }
    refuse = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}
    profile: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": list(REFUSED), **refuse},
            {"names": ["clone"], **refuse, "args": [new_user_namespace]},
            {"names": ["unshare"], **refuse, "args": [{**new_user_namespace, "index": 0}]},
            # Its flags are behind a pointer, so a filter cannot see them. "No such call" makes
            # the C library fall back to clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        ],
    }
    if machine in ARCHITECTURES:
        profile["architectures"] = ARCHITECTURES[machine]
    return profile
