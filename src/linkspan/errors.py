"""Every error that linkspan raises on purpose.

    LinkspanError
    ├── InvalidRequest        the request itself is wrong (HTTP 400)
    │   └── SnapshotUnreadable
    ├── PermissionRefused     the daemon or command lacks a right (403)
    ├── PolicyRefused         a policy of this host forbids it (403)
    ├── NotFound              the named thing does not exist (404)
    ├── Conflict              it clashes with something that exists (409)
    │   ├── NameInUse
    │   ├── AddressInUse
    │   ├── PortInUse
    │   ├── NetworkInUse
    │   └── Outdated
    ├── Exhausted             a pool has nothing left to give (409)
    ├── Unsupported           this kernel or host lacks a feature (501)
    ├── NoLease               a DHCP server gave no address (504)
    ├── KernelRefused         the kernel answered an operation with an errno (500)
    ├── StorageFailed         state could not be written or read (507)
    ├── RuntimeFailed         the container runtime failed (500)
    └── DaemonUnreachable     no daemon answers on the socket (client side)

An error's `code` is stable and part of the HTTP contract; its message names the thing,
the value, and what to do. Messages may change, codes may not.
"""

from __future__ import annotations

import errno as _errno
import os


class LinkspanError(Exception):
    """Base of all errors that a user can cause or must read.

    `code` names the situation for programs, `status` is the HTTP status that carries it.
    """

    code = "failed"
    status = 500

    @property
    def message(self) -> str:
        """One line for a person."""
        return str(self)


class InvalidRequest(LinkspanError):
    """The request itself is wrong: says which value, and what would be right."""

    code = "invalid"
    status = 400


class SnapshotUnreadable(InvalidRequest):
    """A file is no snapshot of a host, damaged, or of a later linkspan; says which part."""

    code = "snapshot"


class PermissionRefused(LinkspanError):
    """The daemon or the command lacks a right that the operation needs."""

    code = "permission"
    status = 403


class PolicyRefused(LinkspanError):
    """A policy of this host forbids it; the message names the policy and what it permits."""

    code = "policy"
    status = 403


class NotFound(LinkspanError):
    """The named network, sandbox or container does not exist."""

    code = "not_found"
    status = 404


class Conflict(LinkspanError):
    """The request clashes with something that exists; the message names it."""

    code = "conflict"
    status = 409


class NameInUse(Conflict):
    """Another network or sandbox has this name."""

    code = "name_in_use"


class AddressInUse(Conflict):
    """An address or subnet is taken by another endpoint, network or route of the host."""

    code = "address_in_use"


class PortInUse(Conflict):
    """A host port is published by another sandbox, or a process listens on it."""

    code = "port_in_use"


class NetworkInUse(Conflict):
    """A network still has endpoints, or is one that linkspan needs."""

    code = "network_in_use"


class Outdated(Conflict):
    """State changed between a decision and its writing; trying again decides anew."""

    code = "outdated"


class Exhausted(LinkspanError):
    """A pool (addresses, subnets, ports) has nothing left to give."""

    code = "exhausted"
    status = 409


class Unsupported(LinkspanError):
    """This kernel or host lacks a feature that the request needs."""

    code = "unsupported"
    status = 501


class NoLease(LinkspanError):
    """The segment's DHCP server gave no address in time; the message says who answered what."""

    code = "no_lease"
    status = 504


class KernelRefused(LinkspanError):
    """The kernel answered an operation with an errno.

    `errno` is the positive number; the message holds the object and the kernel's own
    extended acknowledgement text where it gave one.
    """

    code = "kernel"
    status = 500

    def __init__(self, what: str, errno: int, detail: str = "") -> None:
        name = _errno.errorcode.get(errno, str(errno))
        text = f"{what}: {os.strerror(errno)} ({name})"
        super().__init__(f"{text}: {detail}" if detail else text)
        self.what = what
        self.errno = errno
        self.detail = detail


class StorageFailed(LinkspanError):
    """State could not be written or read: disk full, no permission, damaged file."""

    code = "storage"
    status = 507


class RuntimeFailed(LinkspanError):
    """runc, crun or conmon refused to do what was asked; the message holds their reason."""

    code = "runtime"
    status = 500


class DaemonUnreachable(LinkspanError):
    """No daemon answers on the socket."""

    code = "unreachable"
    status = 503
