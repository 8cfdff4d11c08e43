"""More processes in a running container."""

from __future__ import annotations

import os
import pty
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Namespace
from lab.containers import Containers
from linkspan.engine.runtime import AttachClient, Runtime
from linkspan.errors import Conflict, InvalidRequest, NotFound

PATIENCE = 30.0


@pytest.fixture
def containers(
    tmp_path: Path, netns: Callable[[str], Namespace], require: Callable[..., None]
) -> Iterator[Containers]:
    require("runc", "conmon")
    made = Containers(tmp_path, netns("home"), netns("own"))
    yield made
    made.close()


@pytest.fixture
def running(containers: Containers) -> str:
    id = containers.start("sh", "-c", "echo up; exec sleep 1000", env=("COLOUR=red",))
    containers.read_until(id, "up")
    return id


def run_exec(
    containers: Containers, id: str, *command: str, given: bytes = b"", **fields: Any
) -> tuple[int, bytes, bytes]:
    """Exit status, output and errors of a command that runs in a container to its end."""
    session = containers.do(containers.runtime.exec(id, command, **fields))
    streams = [os.pipe() for _ in range(3)]
    (stdin, feed), (out, stdout), (err, stderr) = streams
    with AttachClient(session.attach_directory) as client:
        containers.do(session.start())
        os.write(feed, given)
        os.close(feed)
        source = stdin if fields.get("interactive") else None
        client.join(stdin=source, stdout=stdout, stderr=stderr, terminal=False)
    os.close(stdout)
    os.close(stderr)
    status = containers.do(session.wait())
    containers.do(session.close())
    with open(out, "rb") as output, open(err, "rb") as errors:
        os.close(stdin)
        return status, output.read(), errors.read()


def test_a_command_runs_beside_the_first_one(containers: Containers, running: str):
    status, out, err = run_exec(
        containers, running, "sh", "-c", "cat /proc/1/comm; hostname; echo no >&2; exit 9"
    )
    assert (status, out, err) == (9, b"sleep\ncrate\n", b"no\n")


def test_it_has_the_containers_environment_and_rights(containers: Containers, running: str):
    script = "echo $COLOUR $SHAPE; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    _, out, _ = run_exec(containers, running, "sh", "-c", script, env=("SHAPE=round",))
    first, *rights = out.decode().splitlines()
    pid = containers.runtime.state(running).pid
    of_container = Path(f"/proc/{pid}/status").read_text().splitlines()
    assert first == "red round"
    assert len(rights) == 3
    assert set(rights) <= set(of_container)


def test_user_and_directory_can_differ(containers: Containers, running: str):
    status, out, _ = run_exec(
        containers, running, "sh", "-c", "id -un; pwd; echo $HOME", user="nobody", workdir="/usr"
    )
    assert (status, out) == (0, b"nobody\n/usr\n/nonexistent\n")


def test_input_reaches_it_and_ends(containers: Containers, running: str):
    assert run_exec(containers, running, "wc", "-c", given=b"12345", interactive=True) == (
        0, b"5\n", b"",
    )  # fmt: skip


def test_it_can_have_a_terminal(containers: Containers, running: str):
    session = containers.do(
        containers.runtime.exec(
            running, ("sh", "-c", "stty size; read x; echo got $x"), tty=True, interactive=True
        )
    )
    ours, theirs = pty.openpty()
    text, ends = b"", []
    with AttachClient(session.attach_directory) as client:
        client.resize(31, 77)
        containers.do(session.start())
        fields = {"stdin": theirs, "stdout": theirs, "terminal": True}
        thread = threading.Thread(target=lambda: ends.append(client.join(**fields)))
        thread.start()
        os.write(ours, b"this\n")
        while b"got this" not in text and select.select([ours], [], [], PATIENCE)[0]:
            text += os.read(ours, 4096)
        thread.join(PATIENCE)
    os.close(ours)
    os.close(theirs)
    assert [end.value for end in ends] == ["ended"]
    assert b"31 77" in text
    assert b"got this" in text
    assert containers.do(session.wait()) == 0
    containers.do(session.close())


def test_it_can_be_killed(containers: Containers, running: str):
    session = containers.do(containers.runtime.exec(running, ("sleep", "1000")))
    containers.do(session.start())
    containers.do(session.kill(signal.SIGTERM))
    assert containers.do(session.wait()) == 128 + signal.SIGTERM
    containers.do(session.close())
    assert containers.runtime.state(running).status == "running"


def test_a_later_daemon_reads_its_exit_status(containers: Containers, running: str):
    session = containers.do(containers.runtime.exec(running, ("sh", "-c", "exit 4")))
    containers.do(session.start())
    later = Runtime(containers.state_dir, containers.run_dir)
    found = later.find_exec(running, session.id)
    assert containers.do(found.wait()) == 4
    containers.do(found.close())
    with pytest.raises(NotFound):
        later.find_exec(running, session.id)


def test_one_that_is_not_wanted_after_all_never_runs(containers: Containers, running: str):
    session = containers.do(containers.runtime.exec(running, ("touch", "/opt/ran")))
    containers.do(session.close())
    assert not session.paths.bundle.exists()
    status, _, _ = run_exec(containers, running, "test", "-e", "/opt/ran")
    assert status == 1


@pytest.mark.parametrize(
    ("command", "fields", "said"),
    [
        (("no-such-program",), {}, "no-such-program"),
        (("true",), {"user": "stranger"}, "stranger"),
        (("true",), {"workdir": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_cannot_run_is_refused(
    containers: Containers,
    running: str,
    command: tuple[str, ...],
    fields: dict[str, str],
    said: str,
):
    with pytest.raises(InvalidRequest, match=said):
        containers.do(containers.runtime.exec(running, command, **fields))
    execs = containers.runtime.paths(running).execs
    assert not execs.exists() or not list(execs.iterdir())


def test_nothing_runs_in_what_has_ended(containers: Containers, running: str):
    containers.do(containers.runtime.kill(running, signal.SIGKILL))
    containers.wait(running)
    with pytest.raises(Conflict):
        containers.do(containers.runtime.exec(running, ("true",)))


def test_deleting_the_container_ends_its_sessions(containers: Containers, running: str):
    session = containers.do(containers.runtime.exec(running, ("sleep", "1000")))
    containers.do(session.start())
    waiting = containers.do(containers.runtime.exec(running, ("true",)))
    started = time.monotonic()
    containers.do(containers.runtime.delete(running))
    assert time.monotonic() - started < 5
    assert containers.leftovers(running) == []
    assert waiting.go is not None
    os.close(waiting.go)
