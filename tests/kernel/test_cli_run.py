"""`linkspan run` and what follows it: streams, signals, exit status, restarts of the daemon."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import Lab
from lab.daemon import Daemon
from lab.processes import wait_until


@pytest.fixture
def daemon(lab: Lab, require: Callable[..., None]) -> Daemon:
    require("runc", "conmon")
    return lab.daemon(lab.namespace("host"))


def test_none_has_loopback_only_and_host_has_the_hosts_interfaces(lab: Lab, daemon: Daemon):
    alone = daemon.cli("run", "--rm", "--network", "none", "--", "ip", "-br", "address")
    assert [line.split()[0] for line in alone.stdout.splitlines()] == ["lo"]
    hosts = daemon.cli("run", "--rm", "--network", "host", "--", "ip", "-br", "address")
    there = lab.run(daemon.place, "ip -br address")
    # Not the second column: states settle by themselves meanwhile.
    seen, known = (
        [(line.split()[0], line.split()[2:]) for line in done.stdout.splitlines()]
        for done in (hosts, there)
    )
    assert seen == known
    assert len(known) > 1
    assert daemon.cli_json("ps", "-a") == []


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 42", 42)])
def test_the_exit_status_is_the_programs(daemon: Daemon, script: str, status: int):
    done = daemon.cli("run", "--rm", "--", "sh", "-c", script, check=False)
    assert (done.returncode, done.stderr) == (status, "")


def test_output_errors_and_input_are_the_programs(daemon: Daemon):
    script = "cat; echo to-errors >&2"
    done = daemon.cli("run", "--rm", "-i", "--", "sh", "-c", script, stdin="to-output\n")
    assert (done.stdout, done.stderr) == ("to-output\n", "to-errors\n")


def test_a_program_that_is_not_there_leaves_nothing(daemon: Daemon):
    done = daemon.cli("run", "--name", "shop", "--", "no-such-program", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("linkspan: command 'no-such-program'")
    assert done.stderr.count("\n") == 1
    assert daemon.cli_json("ps", "-a") == []


def test_options_reach_the_container(daemon: Daemon):
    done = daemon.cli(
        *("run", "--rm", "--hostname", "quay", "-e", "A=1", "-u", "65534", "-w", "/usr"),
        *("--", "sh", "-c", "hostname; echo $A; id -u; pwd"),
    )
    assert done.stdout.split() == ["quay", "1", "65534", "/usr"]


def test_a_container_in_the_background_serves_and_is_looked_into(lab: Lab, daemon: Daemon):
    daemon.cli("network", "create", "web", "--subnet", "10.20.0.0/24")
    daemon.cli(
        *("run", "-d", "--name", "shop", "--network", "web", "-p", "8080:80"),
        *("--", "python3", "-u", "-m", "http.server", "80"),
    )
    request = b"GET / HTTP/1.0\r\n\r\n"
    wait_until(lambda: lab.fetch(daemon.place, "127.0.0.1", 8080, request=request).ok, "the server")
    route = daemon.cli("exec", "shop", "--", "ip", "route").stdout
    assert "default via 10.20.0.1 dev eth0" in route
    assert daemon.cli("exec", "shop", "sh", "-c", "exit 3", check=False).returncode == 3
    wait_until(lambda: "GET /" in daemon.cli("logs", "shop").stderr, "the log")
    assert daemon.cli("logs", "--tail", "1", "shop").stderr.count("\n") == 1
    assert daemon.cli_json("inspect", "shop")["container"]["status"] == "running"
    refused = daemon.cli("rm", "shop", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    daemon.cli("stop", "-t", "1", "shop")
    ended = daemon.cli_json("inspect", "shop")
    assert (ended["state"], ended["container"]["status"]) == ("exited", "exited")
    daemon.cli("start", "shop")
    wait_until(
        lambda: lab.fetch(daemon.place, "127.0.0.1", 8080, request=request).ok, "it to be back"
    )
    daemon.cli("rm", "-f", "shop")
    assert daemon.cli_json("ps", "-a") == []


def test_logs_are_followed_to_the_end(daemon: Daemon):
    script = "echo one; sleep 0.3; echo two; sleep 0.3; echo three"
    daemon.cli("run", "-d", "--name", "talker", "--", "sh", "-c", script)
    followed = daemon.cli("logs", "-f", "talker").stdout
    assert followed.split() == ["one", "two", "three"]


def foreground(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        daemon.cli_command("run", *arguments),
        env=daemon._environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


TRAP = "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done"


def test_signals_are_passed_on(daemon: Daemon):
    with foreground(daemon, "--rm", "--", "sh", "-c", TRAP) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9
        assert process.stdout.read() == "got\n"


def test_a_program_that_does_not_listen_is_left_after_the_third(daemon: Daemon):
    script = "trap '' INT; echo up; sleep 60"
    with foreground(daemon, "--name", "deaf", "--", "sh", "-c", script) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "up\n"
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        assert process.returncode == 128 + signal.SIGINT
        assert "linkspan rm -f deaf" in process.stderr.read()
    assert daemon.cli_json("inspect", "deaf")["container"]["status"] == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_the_daemon_may_be_restarted_meanwhile(daemon: Daemon, number: int, ends_meanwhile: bool):
    script = "echo up; read line; echo $line; exit 4"
    process = subprocess.Popen(
        daemon.cli_command("run", "--rm", "-i", "--", "sh", "-c", script),
        env=daemon._environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        assert daemon.process
        daemon.process.send_signal(number)
        daemon.process.wait(10)
        if ends_meanwhile:
            process.stdin.write("later\n")
            process.stdin.flush()
            assert process.stdout.readline() == "later\n"
            daemon.start()
        else:
            daemon.start()
            process.stdin.write("later\n")
            process.stdin.flush()
            assert process.stdout.readline() == "later\n"
        assert process.wait(15) == 4


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        self.seen = b""

    def wait_for(self, text: bytes, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.descriptor], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # it has ended, and this was all
                    self.seen += os.read(self.descriptor, 4096)
        self.seen = self.seen.partition(text)[2]

    def write(self, data: bytes) -> None:
        os.write(self.descriptor, data)

    def end(self) -> int:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if select.select([self.descriptor], [], [], 0.05)[0]:
                    os.read(self.descriptor, 4096)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.descriptor)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running: {self.seen!r}")


@pytest.fixture
def terminal(daemon: Daemon) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        one = Terminal(daemon.cli_command(*arguments), daemon._environment())
        made.append(one)
        return one

    yield open_terminal
    for one in made:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(one.pid, os.WNOHANG)[0] == 0:
                os.kill(one.pid, signal.SIGKILL)
                os.waitpid(one.pid, 0)


def test_a_shell_on_a_terminal(terminal: Any):
    shell = terminal("run", "-it", "--rm", "--", "sh")
    shell.wait_for(b"# ")
    shell.write(b"test -t 0 && echo on-a-$((1+1))-terminal; exit 5\n")
    shell.wait_for(b"on-a-2-terminal")
    assert shell.end() == 5


def test_leaving_with_the_keys_keeps_it_running(terminal: Any, daemon: Daemon):
    shell = terminal("run", "-it", "--name", "stays", "--", "sh")
    shell.wait_for(b"# ")
    shell.write(b"\x10\x11")
    assert shell.end() == 0
    assert daemon.cli_json("inspect", "stays")["container"]["status"] == "running"


def test_a_second_shell_by_exec(terminal: Any, daemon: Daemon):
    daemon.cli("run", "-d", "--name", "shop", "--hostname", "quay", "--", "sleep", "60")
    shell = terminal("exec", "-it", "shop", "sh")
    shell.wait_for(b"# ")
    shell.write(b"hostname; exit 6\n")
    shell.wait_for(b"\r\nquay\r\n")
    assert shell.end() == 6
