"""A Podman of its own: in a network namespace of the lab, its files out of everybody's sight."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from benchmarks.docker import pack_files

from lab import Lab, Namespace
from lab.processes import wait_until

_FOLDERS = (
    "/var/lib/containers", "/run/containers", "/run/libpod", "/run/netns", "/var/lib/cni",
    "/etc/cni/net.d", "/run/lock", "/dev/shm",
)  # fmt: skip
_READY = "/run/libpod/ready"
IMAGE = "localhost/bench"


class Podman:
    """Podman with one backend for networks, "netavark" or "cni". A context manager.

    A process holds a mount namespace in which the folders that Podman always uses are empty.
    """

    def __init__(self, lab: Lab, backend: str) -> None:
        self.lab = lab
        self.place: Namespace = lab.namespace("podman")
        mounts = "; ".join(f"mkdir -p {one}; mount -t tmpfs none {one}" for one in _FOLDERS)
        script = f"mount --make-rprivate /; {mounts}; touch {_READY}; exec sleep 600"
        self._holder = lab.spawn(self.place, ["unshare", "--mount", "sh", "-ec", script])
        root = f"/proc/{self._holder.pid}/root"
        wait_until(lambda: os.path.exists(root + _READY), "Podman's folders to be there")
        self.enter = [
            "nsenter", f"--net={self.place.path}", f"--mount=/proc/{self._holder.pid}/ns/mnt",
            f"--wd={os.getcwd()}",
        ]  # fmt: skip
        with open(f"{root}/etc/cni/net.d/87-podman.conflist", "w") as file:
            json.dump(_CNI_NETWORK, file)
        self._options = ["--runtime", "runc", "--cgroup-manager", "cgroupfs",
                         "--network-backend", backend]  # fmt: skip

    def __enter__(self) -> Podman:
        self("import", "-", IMAGE, stdin=pack_files())
        return self

    def __exit__(self, *_: object) -> None:
        # Those that use another's namespace go first, and Podman's own order is by chance.
        names = self("ps", "--all", "--format", "{{.Names}}", "--sort", "created").split()
        for name in reversed(names):
            self("rm", "--force", "--time", "0", name)

    def __call__(self, *words: str, stdin: bytes = b"") -> str:
        """What a command writes; it must succeed."""
        done = subprocess.run(
            [*self.enter, "podman", *self._options, *words],
            input=stdin, capture_output=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def run(self, name: str, *options: str) -> Any:
        """Start a container that sleeps; what `podman inspect` says of it."""
        # Limits that the machine's own do not allow would be asked for by default.
        limits: Sequence[str] = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000")
        self("run", "--detach", "--name", name, *limits, *options, IMAGE, "/bin/sleep", "600")
        (found,) = json.loads(self("inspect", name))
        return found


_CNI_NETWORK = {
    "cniVersion": "0.4.0", "name": "podman",
    "plugins": [
        {"type": "bridge", "bridge": "cni-podman0", "isGateway": True, "ipMasq": True,
         "hairpinMode": True,
         "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
                  "ranges": [[{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}]]}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "firewall"}, {"type": "tuning"},
    ],
}  # fmt: skip
