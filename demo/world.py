"""The private world: new network, mount and process namespaces, and somebody outside.

`scripts/demo` has already left the machine's own namespaces by unshare(1) when this runs; all
that is done here ends with the demo's processes. /run is a fresh tmpfs, so that named network
namespaces, the daemon's socket and its folders belong to the demo alone.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

OUTER = "LINKSPAN_DEMO_OUTER_NETNS"
"""Environment: the inode of the network namespace that scripts/demo was started in."""
STATE = "/run/linkspan/state"


class NotPrivate(Exception):
    """The demo was started in the machine's own network namespace."""


def enter_world() -> None:
    """Cut what is left of the machine's /run off, and put up the wire to the outside."""
    mine = str(os.stat("/proc/self/ns/net").st_ino)
    outer = os.environ.get(OUTER)
    if outer in (None, "", mine):
        raise NotPrivate("start scripts/demo, which makes the namespaces that this needs")
    resolv_conf = Path("/etc/resolv.conf")
    kept = resolv_conf.read_bytes() if resolv_conf.exists() else None
    command("mount -t tmpfs -o mode=755 linkspan-demo /run")
    target = resolv_conf.resolve()
    if kept is not None and target.is_relative_to("/run"):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(kept)
    for line in (
        "ip link set lo up",
        "ip netns add outside",
        "ip link add eth0 type veth peer name eth0 netns outside",
        "ip address add 192.0.2.10/24 dev eth0",
        "ip link set eth0 up",
        "ip route add default via 192.0.2.20",
        "ip -n outside link set lo up",
        "ip -n outside address add 192.0.2.20/24 dev eth0",
        "ip -n outside link set eth0 up",
    ):
        command(line)


def command(line: str) -> None:
    """Run a command of the set-up; raises with its own words."""
    done = subprocess.run(line.split(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{line}: {done.stderr.strip()}")


def is_real_root() -> bool:
    """Whether root here is root of the machine too (user_namespaces(7))."""
    words = Path("/proc/self/uid_map").read_text().split()
    return words[:3] == ["0", "0", "4294967295"]


def programs_running() -> list[str]:
    """Programs of the demo's own process namespace, its own ones excepted."""
    found = []
    mine = {os.getpid(), os.getppid(), 1}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in mine:
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[0]:
                found.append(" ".join(words).strip())
    return found
