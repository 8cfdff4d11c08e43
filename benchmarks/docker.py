"""The peer Docker: Debian's docker.io, its daemon in a network namespace of its own.

The daemon gets its own data, state and socket below the lab's folder and stays away from any
other Docker on the machine.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.client import Client, Failed
from lab import Lab, Namespace, path_of
from lab.processes import Process, wait_until

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def is_there() -> bool:
    """Whether Docker's daemon and program are installed."""
    return bool(shutil.which("dockerd", path=PATH) and shutil.which("docker", path=PATH))


def version() -> str:
    """What `dockerd --version` says."""
    done = subprocess.run(["dockerd", "--version"], capture_output=True, text=True)
    found = re.search(r"version ([^\s,]+)", done.stdout)
    return found[1] if found else "unknown"


def pack_files() -> bytes:
    """A tar archive with this machine's `sleep` and the libraries that it needs."""
    listed = subprocess.run(["ldd", "/bin/sleep"], capture_output=True, text=True).stdout
    files = ["/bin/sleep", *re.findall(r"(/\S+) \(0x", listed)]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in files:
            tar.add(Path(file).resolve(), arcname=file.lstrip("/"))
    return archive.getvalue()


class Docker:
    """A running dockerd. A context manager that ends it and everything that it started."""

    def __init__(self, lab: Lab, word: str = "docker") -> None:
        self.place: Namespace = lab.namespace(word)
        self._directory = lab.directory / word
        self._directory.mkdir()
        self.socket = self._directory / "docker.sock"
        self.command = [str(shutil.which("docker", path=PATH)), "-H", f"unix://{self.socket}"]
        self._cgroup = self.place.name
        self._process = self._start()

    def _start(self) -> Process:
        command = [
            *("nsenter", f"--net={path_of(self.place)}"),
            *("dockerd", "-H", f"unix://{self.socket}"),
            *("--data-root", str(self._directory / "data")),
            *("--exec-root", str(self._directory / "exec")),
            *("--pidfile", str(self._directory / "docker.pid")),
            *("--cgroup-parent", f"/{self._cgroup}"),
            *("--storage-driver", "vfs", "--log-level", "warn"),
        ]
        return Process(command, self._directory / "docker.log", {"PATH": PATH})

    def __enter__(self) -> Docker:
        try:
            wait_until(self._answers, "dockerd to answer", timeout=40, interval=0.1)
        except AssertionError as error:
            self.close()
            raise AssertionError(f"{error}\n{self._process.output[-2000:]}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answers(self) -> bool:
        if not self._process.running:
            raise AssertionError("dockerd ended")
        try:
            with Client(self.socket) as client:
                client.request("GET", "/version")
        except (OSError, Failed):
            return False
        return True

    def close(self) -> None:
        """Remove the containers, then end the daemon; containerd ends with it."""
        try:
            with Client(self.socket) as client:
                for one in client.request("GET", "/containers/json?all=1") or []:
                    client.request("DELETE", f"/containers/{one['Id']}?force=1")
        except (OSError, Failed):
            pass
        try:
            self._process.terminate(20)
        except subprocess.TimeoutExpired:
            self._process.end()
        for folder in Path("/sys/fs/cgroup").glob(f"**/{self._cgroup}"):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def processes(self) -> dict[str, int]:
        """The process ids of dockerd and of its containerd."""
        found = {"dockerd": self._process.pid}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[0].endswith(b"containerd") and str(self._directory).encode() in b" ".join(
                    words
                ):
                    found["containerd"] = int(entry.name)
        return found

    def import_image(self, name: str = "bench") -> None:
        """An image of `pack_files`."""
        subprocess.run(
            [*self.command, "import", "-", name],
            input=pack_files(),
            check=True,
            capture_output=True,
            timeout=60,
        )

    def run_container(self, name: str, network: str, dns: Sequence[str] = ()) -> None:
        """Start a container that sleeps; `dns` are the servers it asks outside names of."""
        body: Any = {
            "Image": "bench",
            "Cmd": ["/bin/sleep", "3600"],
            "HostConfig": {"NetworkMode": network, "Dns": list(dns)},
        }
        with Client(self.socket) as client:
            client.request("POST", f"/containers/create?name={name}", body)
            client.request("POST", f"/containers/{name}/start", {})

    def add_network(self, name: str, subnet: str) -> None:
        """A bridge network."""
        with Client(self.socket) as client:
            ipam = {"Config": [{"Subnet": subnet}]}
            body = {"Name": name, "Driver": "bridge", "IPAM": ipam}
            client.request("POST", "/networks/create", body)
