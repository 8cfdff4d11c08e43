"""Composing the OCI configuration (config.json) of a container. Values in, values out.

The defaults are those that people know from Docker, but for one: no container gets NET_ADMIN,
so none can change a network, its own or the host's, unless it is privileged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linkspan.engine.runtime.host import CAPABILITIES, Host
from linkspan.engine.runtime.rootfs import DEFAULT_PATH, Identity
from linkspan.engine.runtime.seccomp import compose_seccomp
from linkspan.engine.runtime.spec import ContainerSpec

CONFIG_VERSION = "1.0.2"
"""Of the OCI runtime specification."""

DEFAULT_CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip

MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
"""In a namespace of its own a program needs no right to use a low port or to ping."""

FILES = {"/etc/hosts": "hosts", "/etc/hostname": "hostname", "/etc/resolv.conf": "resolv.conf"}
"""Files in the container that are bind-mounted from the bundle, by their name there."""


def compose_config(
    spec: ContainerSpec,
    identity: Identity,
    host: Host,
    bundle: Path,
    *,
    files: tuple[str, ...],
    hidden: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The whole config.json of a container.

    `files` are those keys of FILES that the bundle holds; `hidden` are directories to cover, in
    privileged containers too.
    """
    linux: dict[str, Any] = {
        "namespaces": compose_namespaces(spec, host),
        "maskedPaths": [*hidden, *(() if spec.privileged else MASKED)],
        "readonlyPaths": [] if spec.privileged else list(READ_ONLY),
        "resources": {"devices": [{"allow": spec.privileged, "access": "rwm"}]},
    }
    if host.cgroups:
        linux["cgroupsPath"] = cgroup_of(spec.id)
    if spec.netns is not None:
        linux["sysctl"] = compose_sysctls(host)
    if not spec.privileged:
        linux["seccomp"] = compose_seccomp()
    rootfs = "rootfs" if spec.rootfs is None else spec.rootfs
    hostname = hostname_of(spec)
    return {
        "ociVersion": CONFIG_VERSION,
        "hostname": hostname,
        "root": {"path": rootfs, "readonly": False},
        "process": compose_process(
            command=spec.command,
            env=compose_env(spec.env, hostname, identity.home, spec.tty),
            identity=identity,
            workdir=spec.workdir,
            tty=spec.tty,
            capabilities=choose_capabilities(host, spec.privileged),
            may_gain_rights=spec.privileged,
        ),
        "mounts": compose_mounts(spec, host, bundle, files),
        "linux": linux,
    }


def hostname_of(spec: ContainerSpec) -> str:
    """The host name asked for, else the beginning of the id."""
    return spec.hostname or spec.id[:12]


def cgroup_of(id: str) -> str:
    """The cgroup of a container. Directly below the root: a shared parent would be left over."""
    return f"/linkspan-{id}"


def compose_process(
    *,
    command: tuple[str, ...],
    env: tuple[str, ...],
    identity: Identity,
    workdir: str,
    tty: bool,
    capabilities: tuple[str, ...],
    may_gain_rights: bool,
) -> dict[str, Any]:
    """The `process` object of a config, also the whole process.json of an exec."""
    names = [f"CAP_{name}" for name in capabilities]
    return {
        "terminal": tty,
        "args": list(command),
        "env": list(env),
        "cwd": workdir,
        "user": {
            "uid": identity.uid,
            "gid": identity.gid,
            "additionalGids": list(identity.groups),
        },
        # Neither inheritable nor ambient: a user other than root starts without any.
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
        "noNewPrivileges": not may_gain_rights,
    }


def compose_env(env: tuple[str, ...], hostname: str, home: str, tty: bool) -> tuple[str, ...]:
    """What was asked for, after PATH, HOSTNAME, HOME and on a terminal TERM; last one wins."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, "HOME": home}
    if tty:
        variables["TERM"] = "xterm"
    for variable in env:
        name, _, value = variable.partition("=")
        variables[name] = value
    return tuple(f"{name}={value}" for name, value in variables.items())


def choose_capabilities(host: Host, privileged: bool) -> tuple[str, ...]:
    """Without CAP_: all or the defaults, but no more than this process has."""
    wanted = CAPABILITIES if privileged else DEFAULT_CAPABILITIES
    return tuple(name for name in wanted if name in host.capabilities)


def compose_namespaces(spec: ContainerSpec, host: Host) -> list[dict[str, str]]:
    """The namespaces to make, and the network namespace to join, if it is not the daemon's."""
    kinds = ["pid", "mount", "ipc", "uts"]
    if host.cgroup_namespaces:
        kinds.append("cgroup")
    made = [{"type": kind} for kind in kinds]
    return made if spec.netns is None else [*made, {"type": "network", "path": spec.netns}]


def compose_sysctls(host: Host) -> dict[str, str]:
    """Settings of a network namespace of the container's own."""
    if host.own_user_namespace:  # the group range would name ids that do not exist there
        return {"net.ipv4.ip_unprivileged_port_start": "0"}
    return dict(SYSCTLS)


def compose_mounts(
    spec: ContainerSpec, host: Host, bundle: Path, files: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Kernel file systems, a fresh /run over a scratch overlay, and the files of the bundle."""
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    system = ["nosuid", "noexec", "nodev"]
    mounts = [
        mount("/proc", "proc", system),
        mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", [*terminals, *(["gid=5"] if host.tty_group else [])]),
        mount("/dev/shm", "tmpfs", [*system, "mode=1777", "size=65536k"], source="shm"),
        mount("/sys", "sysfs", [*system, "rw" if spec.privileged else "ro"]),
    ]
    if "mqueue" in host.file_systems:
        mounts.append(mount("/dev/mqueue", "mqueue", system))
    if host.unified and host.cgroup_namespaces:
        access = "rw" if spec.privileged else "ro"
        mounts.append(mount("/sys/fs/cgroup", "cgroup", [*system, "relatime", access]))
    if spec.rootfs is None:
        # Where the host's /run lies on the same file system as /, its contents would show. It
        # goes before the files: /etc/resolv.conf often is a link into /run.
        mounts.append(mount("/run", "tmpfs", ["nosuid", "nodev", "mode=755"]))
    mounts.extend(
        mount(target, "bind", ["rbind", "rprivate"], source=str(bundle / FILES[target]))
        for target in files
    )
    return mounts


def mount(target: str, kind: str, options: list[str], source: str = "") -> dict[str, Any]:
    """One entry of a config's `mounts`."""
    return {
        "destination": target,
        "type": kind,
        "source": source or kind,
        "options": options,
    }
