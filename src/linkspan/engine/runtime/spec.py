"""What a container is asked to be, and what it is found to be. Values only."""

from __future__ import annotations

import re

import msgspec

from linkspan.errors import InvalidRequest

ID = re.compile(r"[0-9a-f]{64}")
"""A container's id: 64 hex digits."""

UNKNOWN_EXIT = 255
"""What `Runtime.wait` gives when nobody saw the program end: conmon was killed, or a reboot."""

DEFAULT_LOG_SIZE = 10 * 1024 * 1024
"""Bytes after which conmon starts a container's log afresh; the older lines are lost."""


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A program, and the container around it.

    `env` holds "KEY=value"; `user` is `uid[:gid]` or `name[:group]`, looked up in the root file
    system's /etc/passwd and /etc/group; `rootfs` None means a scratch overlay of the host's /.
    `netns` is the path of a network namespace, None the namespace that the daemon runs in.
    `hosts` and `resolv_conf` are the texts of those files; an empty `hosts` means localhost and
    the host name, `resolv_conf` None means what the root file system has.
    """

    id: str
    name: str
    hostname: str
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = "/"
    rootfs: str | None = None
    tty: bool = False
    interactive: bool = False
    privileged: bool = False
    netns: str | None = None
    hosts: str = ""
    resolv_conf: str | None = None
    log_size_max: int = DEFAULT_LOG_SIZE


class Started(msgspec.Struct, frozen=True):
    """The processes of a container: its first one, and the conmon that watches over it."""

    pid: int
    conmon_pid: int


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a container, as its files and the kernel tell it.

    `status` is one of `missing`, `created` (waits for its start), `running`, `exited`. `pid` is
    None where the runtime did not get as far as making the first process. `conmon_pid` is None
    when conmon is gone. `exit_code` (128 + signal if killed) and `exited_at` (Unix seconds) are
    None when nobody saw the end.
    """

    status: str
    pid: int | None = None
    conmon_pid: int | None = None
    exit_code: int | None = None
    exited_at: float | None = None


def check_id(id: str) -> str:
    """The id, if it is one. It becomes a part of paths, so nothing else may pass.

    Raises:
        InvalidRequest: it is not 64 hex digits.
    """
    if not ID.fullmatch(id):
        raise InvalidRequest(f"container id {id!r}: must be 64 hex digits")
    return id


def check_spec(spec: ContainerSpec) -> None:
    """Refuse a spec that no host could run.

    Raises:
        InvalidRequest: names the field, its value, and what would be right.
    """
    check_id(spec.id)
    check_command(spec.command)
    check_env(spec.env)
    if not spec.workdir.startswith("/"):
        raise InvalidRequest(f"working directory {spec.workdir!r}: must be an absolute path")
    if spec.rootfs is not None and not spec.rootfs.startswith("/"):
        raise InvalidRequest(f"root file system {spec.rootfs!r}: must be an absolute path")
    if spec.log_size_max < 4096:
        raise InvalidRequest(f"log size {spec.log_size_max}: must be at least 4096 bytes")


def check_command(command: tuple[str, ...]) -> None:
    """Refuse a command that cannot be passed to a program.

    Raises:
        InvalidRequest: it is empty, or an argument holds a NUL.
    """
    if not command or not command[0]:
        raise InvalidRequest("no command: name the program to run after --")
    for argument in command:
        if "\0" in argument:
            raise InvalidRequest(f"argument {argument!r}: must not contain a NUL character")


def check_env(env: tuple[str, ...]) -> None:
    """Refuse an environment variable without a name or value.

    Raises:
        InvalidRequest: it is not "KEY=value", or holds a NUL.
    """
    for variable in env:
        name, equals, _ = variable.partition("=")
        if not name or not equals or "\0" in variable:
            raise InvalidRequest(f"environment variable {variable!r}: must be KEY=value")
