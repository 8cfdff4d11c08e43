"""A linkspan daemon in a namespace of the lab, with its own socket, state and run folders."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lab.places import Place, path_of
from lab.processes import SLOWER, Process

SOURCE = Path(__file__).resolve().parents[2] / "src"


class DaemonDied(AssertionError):
    """The daemon ended, or never answered; the message holds its log."""


class Refused(Exception):
    """The API answered with an error: status, code and message, as `{"error": ...}` gave them."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class Response(NamedTuple):
    """Status and decoded body (None when there was none)."""

    status: int
    body: Any


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """`linkspan daemon` and clients for it. Made by `Lab.daemon`, which also cleans up."""

    def __init__(
        self,
        place: Place,
        directory: Path,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.place = place
        self.directory = directory
        self.socket = directory / "linkspan.sock"
        self.state_dir = directory / "state"
        self.run_dir = directory / "run"
        self.log = directory / "daemon.log"
        self.arguments = arguments
        self.environment = dict(environment or {})
        self.process: Process | None = None

    # Life

    def start(self, environment: Mapping[str, str] | None = None, timeout: float = 20.0) -> None:
        """Start it and wait until the API answers, with these variables for this time only."""
        self.launch(environment)
        self.wait_ready(timeout)

    def launch(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it and do not wait."""
        if self.process and self.process.running:
            raise AssertionError("the daemon is already running")
        command = [
            *("nsenter", f"--net={path_of(self.place)}"),
            *(sys.executable, "-m", "linkspan", "daemon"),
            *("--socket", str(self.socket)),
            *("--state-dir", str(self.state_dir)),
            *("--run-dir", str(self.run_dir)),
            *self.arguments,
        ]
        self.process = Process(command, self.log, {**self._environment(), **(environment or {})})

    def wait_ready(self, timeout: float = 20.0) -> None:
        """Wait until the API answers."""
        assert self.process, "the daemon was not started"
        timeout *= SLOWER
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.request("GET", "/v1/networks", timeout=timeout)
                return
            if not self.process.running:
                raise DaemonDied(f"exit status {self.process.wait()}\n{self.process.output}")
            if time.monotonic() > deadline:
                raise DaemonDied(f"no answer within {timeout:g} s\n{self.process.output}")
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.running

    @property
    def pid(self) -> int:
        """The process id of the daemon."""
        assert self.process, "the daemon was not started"
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as a crash; what it made stays."""
        if self.process:
            self.process.kill()

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM and wait; returns the exit status."""
        assert self.process, "the daemon was not started"
        return self.process.terminate(timeout)

    def restart(
        self, number: int = signal.SIGTERM, environment: Mapping[str, str] | None = None
    ) -> None:
        """End it by a signal (SIGTERM or SIGKILL), start it again, wait until it answers."""
        assert self.process, "the daemon was not started"
        self.process.send_signal(number)
        self.process.wait(10)
        self.start(environment)

    # The API

    def request(self, method: str, path: str, body: Any = None, timeout: float = 20.0) -> Response:
        """One request on the socket; any status is returned, none raises."""
        with contextlib.closing(UnixConnection(self.socket, timeout * SLOWER)) as connection:
            content = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            data = response.read()
            return Response(response.status, json.loads(data) if data else None)

    def get(self, path: str) -> Any:
        """GET and decode; raises Refused for 4xx and 5xx."""
        return self._checked("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """POST a JSON body and decode the answer; raises Refused for 4xx and 5xx."""
        return self._checked("POST", path, body)

    def delete(self, path: str) -> Any:
        """DELETE; raises Refused for 4xx and 5xx."""
        return self._checked("DELETE", path)

    def stream(self, path: str, timeout: float = 10.0) -> Iterator[Any]:
        """Decode newline-delimited JSON as it arrives; a silence of `timeout` s ends it."""
        with contextlib.closing(UnixConnection(self.socket, timeout)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status >= 400:
                raise _refusal(response.status, json.loads(response.read() or b"null"))
            with contextlib.suppress(TimeoutError):
                while line := response.readline():
                    if line.strip():
                        yield json.loads(line)

    def _checked(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.request(method, path, body)
        if status >= 400:
            raise _refusal(status, answer)
        return answer

    # The command line

    def cli(
        self,
        *arguments: str,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 60.0,
        place: Place | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `linkspan ARGUMENTS` against this daemon, in its namespace or in another one."""
        done = subprocess.run(
            self.cli_command(*arguments, place=place),
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self._environment(),
        )
        if check and done.returncode:
            raise AssertionError(
                f"linkspan {' '.join(arguments)}: exit status {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def cli_json(self, *arguments: str) -> Any:
        """Run a command that lists or shows, with `--format json`, and decode its output."""
        return json.loads(self.cli(*arguments, "--format", "json").stdout)

    def cli_command(self, *arguments: str, place: Place | None = None) -> list[str]:
        """The argument vector of `cli`, for `Lab.spawn`-like uses of one's own."""
        where = self.place if place is None else place
        entered = ["nsenter", f"--net={path_of(where)}"]
        return [*entered, sys.executable, "-m", "linkspan", *arguments]

    def _environment(self) -> dict[str, str]:
        paths = [str(SOURCE), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PYTHONPATH": ":".join(path for path in paths if path),
            "LINKSPAN_SOCKET": str(self.socket),
            **self.environment,
        }

    # The end

    def purge(self, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """`linkspan purge`, which ends the daemon; never raises for its exit status."""
        return self.cli("purge", "--yes", check=False, timeout=timeout)


def _refusal(status: int, body: Any) -> Refused:
    error = (body or {}).get("error") or {}
    return Refused(status, error.get("code", ""), error.get("message", repr(body)))
