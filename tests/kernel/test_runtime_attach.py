"""A client's streams and terminal joined to a container, through conmon and no daemon."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Namespace
from lab.containers import Containers
from linkspan.engine.runtime import AttachClient
from linkspan.errors import NotFound

CLIENT = """
import sys
from pathlib import Path
from linkspan.engine.runtime import AttachClient
directory, terminal, stdin = sys.argv[1:]
with AttachClient(Path(directory)) as client:
    print("attached", file=sys.stderr, flush=True)
    sys.stdin.readline() if stdin == "wait" else None
    end = client.join(stdin=None if stdin == "none" else 0, terminal=terminal == "tty")
print(end.value, file=sys.stderr, flush=True)
"""
PATIENCE = 30.0


@pytest.fixture
def containers(
    tmp_path: Path, netns: Callable[[str], Namespace], require: Callable[..., None]
) -> Iterator[Containers]:
    require("runc", "conmon")
    made = Containers(tmp_path, netns("home"), netns("own"))
    yield made
    made.close()


def client_command(directory: Path, terminal: str = "no", stdin: str = "yes") -> list[str]:
    return [sys.executable, "-c", CLIENT, str(directory), terminal, stdin]


def client_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def join_pipes(
    containers: Containers, id: str, given: bytes, stdin: str = "yes"
) -> tuple[bytes, bytes]:
    """Attach a client with pipes, start the container, and answer what the client wrote."""
    client = subprocess.Popen(
        client_command(containers.runtime.paths(id).bundle, stdin=stdin),
        env=client_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert client.stderr is not None
        assert client.stderr.readline() == b"attached\n"
        containers.do(containers.runtime.start(id))
        return client.communicate(given, PATIENCE)
    finally:
        client.kill()
        client.wait()


class Screen:
    """A terminal with a client on it, and what the client has written so far."""

    def __init__(self, directory: Path, rows: int, columns: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.theirs)
        self.client = subprocess.Popen(
            client_command(directory, "tty"),
            env=client_environment(),
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.text = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def read_until(self, wanted: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.text:
            ready = select.select([self.ours], [], [], deadline - time.monotonic())[0]
            assert ready, f"{wanted!r} never came, only {self.text!r}"
            self.text += os.read(self.ours, 4096).decode(errors="replace")
        text, self.text = self.text, ""
        return text

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.client.kill()
        self.client.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def screen_of(containers: Containers) -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def open_screen(directory: Path, rows: int = 24, columns: int = 80) -> Screen:
        screens.append(Screen(directory, rows, columns))
        screens[-1].read_until("attached")
        return screens[-1]

    yield open_screen
    for screen in screens:
        screen.close()


def test_piped_input_reaches_the_program_and_its_end_too(containers: Containers):
    id = containers.create("cat", interactive=True)
    out, err = join_pipes(containers, id, b"hi\n")
    assert out == b"hi\n"
    assert err == b"ended\n"
    assert containers.wait(id) == 0


def test_a_megabyte_passes_whole_in_both_directions(containers: Containers):
    given = bytes(range(256)) * 4096
    id = containers.create("cat", interactive=True)
    out, _ = join_pipes(containers, id, given)
    assert out == given


def test_output_and_errors_stay_apart(containers: Containers):
    id = containers.create("sh", "-c", "echo fine; echo wrong >&2")
    out, err = join_pipes(containers, id, b"", stdin="none")
    assert out == b"fine\n"
    assert err == b"wrong\nended\n"


def test_input_that_nobody_reads_does_not_hold_the_client_up(containers: Containers):
    id = containers.create("sh", "-c", "exec <&-; echo closed", interactive=True)
    out, err = join_pipes(containers, id, b"x" * 300_000)
    assert out == b"closed\n"
    assert err == b"ended\n"


def test_a_client_whose_output_was_closed_says_so(containers: Containers):
    id = containers.create("sh", "-c", "while :; do echo more; done")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with AttachClient(containers.runtime.paths(id).bundle) as client:
            containers.do(containers.runtime.start(id))
            assert client.join(stdin=None, stdout=writing).value == "output closed"
    finally:
        os.close(writing)
    assert containers.runtime.state(id).status == "running"


def test_a_terminal_has_the_clients_size_and_follows_it(
    containers: Containers, screen_of: Callable[..., Screen]
):
    id = containers.create("sh", tty=True, interactive=True)
    screen = screen_of(containers.runtime.paths(id).bundle, 33, 99)
    containers.do(containers.runtime.start(id))
    screen.type("PS1=; test -t 0 && stty size; echo ready''.\n")
    assert "33 99" in screen.read_until("ready.")
    screen.resize(44, 111)
    screen.client.send_signal(signal.SIGWINCH)
    screen.type("until stty size | grep 44; do :; done; echo seen''.\n")
    assert "44 111" in screen.read_until("seen.")
    screen.type("exit 5\n")
    screen.read_until("ended")
    assert containers.wait(id) == 5
    assert screen.client.wait(PATIENCE) == 0
    assert termios.tcgetattr(screen.theirs) == screen.before


def test_an_interrupt_key_is_the_containers(
    containers: Containers, screen_of: Callable[..., Screen]
):
    id = containers.create(
        "sh", "-c", "trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.05; done",
        tty=True, interactive=True,
    )  # fmt: skip
    screen = screen_of(containers.runtime.paths(id).bundle)
    containers.do(containers.runtime.start(id))
    screen.read_until("up")
    screen.type("\x03")
    screen.read_until("caught")
    assert containers.wait(id) == 3


def test_leaving_does_not_kill_and_one_can_come_back(
    containers: Containers, screen_of: Callable[..., Screen]
):
    id = containers.create("sh", tty=True, interactive=True)
    directory = containers.runtime.paths(id).bundle
    screen = screen_of(directory)
    containers.do(containers.runtime.start(id))
    screen.type("word=kept; echo ready''.\n")
    screen.read_until("ready.")
    screen.type("\x10\x11")
    screen.read_until("detached")
    assert containers.runtime.state(id).status == "running"
    again = screen_of(directory)
    again.type("echo $word''.; exit\n")
    again.read_until("kept.")
    assert containers.wait(id) == 0


def test_a_killed_client_does_not_kill(containers: Containers, screen_of: Callable[..., Screen]):
    id = containers.create("sh", tty=True, interactive=True)
    screen = screen_of(containers.runtime.paths(id).bundle)
    containers.do(containers.runtime.start(id))
    screen.type("echo ready''.\n")
    screen.read_until("ready.")
    screen.client.kill()
    screen.client.wait()
    assert containers.runtime.state(id).status == "running"


def test_attaching_to_what_has_ended_is_refused(containers: Containers):
    id = containers.start("true")
    containers.wait(id)
    with pytest.raises(NotFound):
        AttachClient(containers.runtime.paths(id).bundle)
