"""What becomes of containers when the daemon, conmon or the machine is gone, and of their logs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Namespace
from lab.containers import Containers
from linkspan.engine.runtime import Runtime
from linkspan.engine.runtime.spec import UNKNOWN_EXIT
from linkspan.errors import RuntimeFailed

DAEMON = """
import asyncio, os, signal, sys
from pathlib import Path
from linkspan.engine.runtime import ContainerSpec, Runtime
state, run, id, netns, stop = sys.argv[1:]
async def live():
    runtime = Runtime(Path(state), Path(run))
    spec = ContainerSpec(
        id=id, name="crate", hostname="crate", netns=netns, interactive=True,
        command=("sh", "-c", "echo up; read _; echo down; exit 21"),
    )
    await runtime.create(spec)
    if stop == "created":
        os.kill(os.getpid(), signal.SIGKILL)
    await runtime.start(id)
    async for entry in runtime.follow(id):
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(live())
"""


@pytest.fixture
def containers(
    tmp_path: Path, netns: Callable[[str], Namespace], require: Callable[..., None]
) -> Iterator[Containers]:
    require("runc", "conmon")
    made = Containers(tmp_path, netns("home"), netns("own"))
    yield made
    made.close()


def daemon_command(containers: Containers, id: str, stop: str) -> list[str]:
    places = [str(containers.state_dir), str(containers.run_dir)]
    inside = ["nsenter", f"--net={containers.home.path}", sys.executable, "-c", DAEMON]
    return [*inside, *places, id, containers.own.path, stop]


def daemon_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def run_daemon(containers: Containers, stop: str) -> str:
    """Let a daemon make a container and be killed with `kill -9`; answers the container's id."""
    id = containers.spec("true").id
    command = daemon_command(containers, id, stop)
    status = subprocess.run(command, env=daemon_environment(), timeout=60).returncode
    assert status == -signal.SIGKILL
    return id


def end_input(containers: Containers, id: str) -> None:
    from linkspan.engine.runtime import AttachClient

    AttachClient(containers.runtime.paths(id).bundle).close()


def test_a_container_outlives_its_daemon_and_the_next_one_awaits_it(containers: Containers):
    id = run_daemon(containers, "running")
    assert containers.runtime.found() == [id]
    assert containers.runtime.state(id).status == "running"
    waiting = asyncio.run_coroutine_threadsafe(containers.runtime.wait(id), containers.loop)
    end_input(containers, id)
    assert waiting.result(30) == 21
    assert containers.output(id) == "up\ndown\n"


def test_an_end_that_no_daemon_saw_is_told_to_the_next(containers: Containers):
    id = run_daemon(containers, "running")
    end_input(containers, id)
    containers.wait(id)
    later = Runtime(containers.state_dir, containers.run_dir)
    assert later.state(id).exit_code == 21
    assert containers.do(later.wait(id)) == 21
    containers.do(later.delete(id))
    assert containers.leftovers(id) == []


def test_a_container_that_was_created_can_still_be_started(containers: Containers):
    id = run_daemon(containers, "created")
    assert containers.runtime.state(id).status == "created"
    containers.do(containers.runtime.start(id))
    containers.read_until(id, "up")
    end_input(containers, id)
    assert containers.wait(id) == 21


@pytest.mark.parametrize("seen", ["", "config.json", "conmon.pid", "attach", "pid"])
def test_what_a_daemon_was_making_when_it_was_killed_can_be_removed(
    containers: Containers, seen: str
):
    id = containers.spec("true").id
    daemon = subprocess.Popen(daemon_command(containers, id, "running"), env=daemon_environment())
    deadline = time.monotonic() + 30
    while not (containers.runtime.paths(id).bundle / seen).exists():
        assert time.monotonic() < deadline
    daemon.kill()
    daemon.wait()
    assert containers.runtime.found() == [id]
    containers.do(containers.runtime.delete(id))
    assert containers.leftovers(id) == []


def test_cancelling_a_create_leaves_nothing(containers: Containers):
    spec = containers.spec("sleep", "1000")

    async def cancel() -> None:
        task = asyncio.ensure_future(containers.runtime.create(spec))
        while not containers.runtime.paths(spec.id).bundle.exists():  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    containers.do(cancel())
    assert containers.leftovers(spec.id) == []


def test_a_container_without_its_conmon_still_runs_and_can_be_deleted(containers: Containers):
    id = containers.start("sh", "-c", "echo up; exec sleep 1000")
    containers.read_until(id, "up")
    state = containers.runtime.state(id)
    assert state.conmon_pid
    os.kill(state.conmon_pid, signal.SIGKILL)
    while containers.runtime.state(id).conmon_pid is not None:
        pass
    orphan = containers.runtime.state(id)
    assert (orphan.status, orphan.pid) == ("running", state.pid)
    waiting = asyncio.run_coroutine_threadsafe(containers.runtime.wait(id), containers.loop)
    containers.do(containers.runtime.kill(id, signal.SIGKILL))
    assert waiting.result(30) == UNKNOWN_EXIT
    ended = containers.runtime.state(id)
    assert (ended.status, ended.exit_code) == ("exited", None)
    containers.do(containers.runtime.delete(id))
    assert containers.leftovers(id) == []


def test_an_orphan_is_deleted_while_it_runs(containers: Containers):
    id = containers.start("sh", "-c", "echo up; exec sleep 1000")
    containers.read_until(id, "up")
    state = containers.runtime.state(id)
    assert state.conmon_pid
    os.kill(state.conmon_pid, signal.SIGKILL)
    containers.do(containers.runtime.delete(id))
    assert containers.leftovers(id) == []


def test_after_a_reboot_a_container_is_exited_whoever_has_its_process_ids(containers: Containers):
    id = containers.create("true")
    containers.do(containers.runtime.delete(id, keep_files=True))
    bundle = containers.runtime.paths(id).bundle
    bundle.mkdir()
    containers.runtime.paths(id).exit.unlink()  # the power went before conmon could write it
    stranger = str(os.getpid())
    (bundle / "pid").write_text(stranger)
    (bundle / "conmon.pid").write_text(stranger)
    state = containers.runtime.state(id)
    assert (state.status, state.pid, state.conmon_pid) == ("exited", None, None)
    assert containers.wait(id) == UNKNOWN_EXIT
    containers.do(containers.runtime.delete(id))  # and we are still here
    assert containers.leftovers(id) == []


def test_a_mount_left_in_a_bundle_is_never_emptied(containers: Containers, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    id = containers.start("true")
    containers.wait(id)
    rootfs = containers.runtime.paths(id).rootfs
    subprocess.run(["mount", "--bind", precious, rootfs], check=True)
    try:
        with pytest.raises(RuntimeFailed, match="rootfs"):
            containers.do(containers.runtime.delete(id))
    finally:
        subprocess.run(["umount", rootfs], check=True)
    assert (precious / "file").read_text() == "kept"


def test_logs_keep_streams_parts_and_order(containers: Containers):
    id = containers.start(
        "sh", "-c", "echo one; echo two >&2; sleep 0.1; printf three; sleep 0.1; echo ' four'"
    )
    containers.wait(id)
    entries = list(containers.runtime.log_entries(id))
    assert sorted((entry.stream, entry.data) for entry in entries[:2]) == [
        ("stderr", b"two\n"), ("stdout", b"one\n"),
    ]  # fmt: skip
    assert [(entry.stream, entry.data) for entry in entries[2:]] == [
        ("stdout", b"three"), ("stdout", b" four\n"),
    ]  # fmt: skip
    last = list(containers.runtime.log_entries(id, tail=1))
    assert [entry.data for entry in last] == [b"three", b" four\n"]
    later = list(containers.runtime.log_entries(id, since=entries[2].time))
    assert [entry.data for entry in later] == [b" four\n"]


def test_following_goes_on_when_the_log_starts_afresh(containers: Containers):
    script = "i=0; while [ $i -lt 400 ]; do echo line $i of the log; i=$((i+1)); done; read _"
    id = containers.create("sh", "-c", script, log_size_max=4096, interactive=True)

    async def follow() -> list[bytes]:
        lines = []
        async for entry in containers.runtime.follow(id):
            lines.append(entry.data)
            if entry.data == b"line 399 of the log\n":
                await asyncio.to_thread(end_input, containers, id)
        return lines

    following = asyncio.run_coroutine_threadsafe(follow(), containers.loop)
    containers.do(containers.runtime.start(id))
    assert following.result(30)[-1] == b"line 399 of the log\n"
    assert containers.runtime.log_path(id).stat().st_size <= 4096
