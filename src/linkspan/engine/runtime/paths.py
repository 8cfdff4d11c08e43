"""Where a container's files are.

    state_dir/containers/<id>/      kept while the container exists, also over a reboot
        log                         output, in the Kubernetes log format, written by conmon
        exit                        exit status, written by conmon; its time is the time of the end
        layers/<mount>/upper, work  what the container wrote over the host's files
    run_dir/containers/<id>/        the OCI bundle; lives as long as the processes
        config.json, rootfs/        rootfs is empty here: the overlay is in conmon's namespace
        hosts, hostname, resolv.conf
        pid, conmon.pid             process ids, written by the runtime and conmon
        attach, ctl, winsz          conmon's socket and pipes, see attach.py
        exec/<session>/             the same for one exec, with its process.json
    run_dir/oci/<id>/               the state of runc or crun (their --root)

Only root may enter: a container can leave set-user-id programs in its upper.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

LOG = "log"
EXIT = "exit"


class ContainerPaths(msgspec.Struct, frozen=True):
    """The paths of one container, or of one exec session in it."""

    state: Path
    bundle: Path
    oci: Path

    @property
    def log(self) -> Path:
        """The log file, in the Kubernetes log format."""
        return self.state / LOG

    @property
    def exit(self) -> Path:
        """The exit status, as decimal digits; conmon renames it into place at the end."""
        return self.state / EXIT

    @property
    def layers(self) -> Path:
        """The writable layers of a scratch overlay."""
        return self.state / "layers"

    @property
    def pid(self) -> Path:
        """The process id of the first process."""
        return self.bundle / "pid"

    @property
    def conmon_pid(self) -> Path:
        """The process id of conmon."""
        return self.bundle / "conmon.pid"

    @property
    def rootfs(self) -> Path:
        """Where a scratch overlay is mounted, in conmon's mount namespace only."""
        return self.bundle / "rootfs"

    @property
    def runtime_log(self) -> Path:
        """What runc or crun had to say, one JSON object a line."""
        return self.bundle / "runtime.json"

    @property
    def start_fifo(self) -> Path:
        """Exists while the container is created and not started (runc and crun alike)."""
        return self.oci / "exec.fifo"

    @property
    def execs(self) -> Path:
        """The exec sessions, a folder each."""
        return self.bundle / "exec"

    def exec_session(self, session: str) -> ContainerPaths:
        """The paths of one exec session; its log is never written."""
        directory = self.execs / session
        return ContainerPaths(state=directory, bundle=directory, oci=self.oci)
