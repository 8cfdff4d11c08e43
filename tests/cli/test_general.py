"""What holds for every command: where the daemon is, how failures look, how quick it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import pytest

from api.served import Served
from linkspan.cli import cli
from linkspan.cli.group import COMMANDS


def leaf_commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli, info_name="linkspan")
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", one) for inner, one in command.commands.items()]
        else:
            found.append((name, command))
    return found


def options_of(command: click.Command) -> set[str]:
    return {word for one in command.params for word in one.opts}


def test_every_command_that_shows_something_takes_format():
    silent = {name for name, one in leaf_commands() if "--format" not in options_of(one)}
    assert silent == {
        "daemon", "completion", "detach", "exec", "kill", "network rm", "plan", "policy unset",
        "rm", "start", "stop",
    }  # fmt: skip


def test_every_command_that_changes_something_takes_dry_run():
    planned = {name for name, one in leaf_commands() if "--dry-run" in options_of(one)}
    assert planned == {
        "attach", "detach", "kill", "network connect", "network create", "network disconnect",
        "network prune", "network rm", "policy set", "policy unset", "publish", "purge", "rm",
        "run", "start", "stop", "unpublish",
    }  # fmt: skip


def test_every_command_has_an_example():
    without = [
        name
        for name, one in leaf_commands()
        if f"    linkspan {name}" not in (one.help or "").replace("\b\n", "    ")
        and f"linkspan {name}" not in (one.help or "")
    ]
    assert without == []


def test_every_command_takes_socket():
    assert [n for n, c in leaf_commands() if "--socket" not in options_of(c)] == ["completion"]


def test_the_socket_may_be_named_before_or_after_the_command(alone: Any, served: Served):
    before = alone("--socket", served.path, "network", "ls", "-q")
    after = alone("network", "ls", "-q", "--socket", served.path)
    assert before.status == after.status == 0
    assert before.out == after.out


def test_the_option_goes_before_the_variable(invoke: Any, tmp_path: Path):
    done = invoke("network", "ls", "--socket", str(tmp_path / "none"))
    assert done.status == 1
    assert str(tmp_path / "none") in done.err


def test_without_a_daemon_the_line_says_how_to_start_one(alone: Any, tmp_path: Path):
    done = alone("ps", "--socket", str(tmp_path / "none"))
    assert (done.status, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("linkspan: no daemon answers on ")
    assert "sudo linkspan daemon" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_without_permission_the_line_names_the_group(served: Served):
    for folder in Path(served.path).parents:
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to(tempfile.gettempdir()):
            os.chmod(folder, folder.stat().st_mode | 0o011)
    # Run once before, for the interpreter may lie where nobody else may read.
    code = (
        "import os\n"
        "from linkspan.cli import main\n"
        "try: main(['ps', '-q'])\n"
        "except SystemExit: pass\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "main(['ps'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(served.path),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert "no permission" in done.stderr
    assert "group `linkspan`" in done.stderr


def test_a_daemon_that_breaks_off_is_told_in_one_line(alone: Any, tmp_path: Path):
    import threading

    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)

        def break_off() -> None:
            connection, _ = listener.accept()
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=break_off)
        thread.start()
        done = alone("ps", "--socket", path)
        thread.join()
    assert done.status == 1
    assert done.err.startswith("linkspan: the daemon on ")
    assert done.err.count("\n") == 1


def test_the_end_of_the_daemon_ends_a_follower(served: Served):
    process = subprocess.Popen(
        [sys.executable, "-m", "linkspan", "events", "--since", "0"],
        env=environment(served.path),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        run_program("network", "create", "web", socket_path=served.path)
        assert process.stdout
        assert "network web created" in process.stdout.readline()
        began = time.monotonic()
        served.end()
        assert process.wait(5) == 0
        assert time.monotonic() - began < 2


def test_output_that_nobody_reads_is_no_failure(served: Served):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "linkspan", "network", "ls"],
            env=environment(served.path),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_a_failure(served: Served):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "linkspan", "network", "ls"],
            env=environment(served.path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("linkspan: ")
    assert "No space left" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_us(alone: Any, shell: str):
    script = alone("completion", shell)
    assert script.status == 0
    assert "_LINKSPAN_COMPLETE" in script.out


def test_names_are_completed(served: Served):
    words = {"COMP_WORDS": "linkspan network inspect br", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", "from linkspan.cli import main; main()"],
        env={**environment(served.path), **words, "_LINKSPAN_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout.split() == ["plain,bridge"]


def test_what_a_quick_command_does_not_need_is_not_imported(served: Served):
    code = (
        "import sys\n"
        "from linkspan.cli import main\n"
        "try: main(['network', 'ls', '--format', 'json'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in "
        "{'rich', 'asyncio', 'msgspec', 'starlette', 'uvicorn', 'http', 'urllib', 'ssl'}), "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(served.path),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr.strip() == "[]"


def environment(socket_path: str) -> dict[str, str]:
    return {
        **os.environ,
        "LINKSPAN_SOCKET": socket_path,
        "PYTHONPATH": ":".join(path for path in sys.path if path),
    }


def run_program(*arguments: str, socket_path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "linkspan", *arguments],
        env=environment(socket_path),
        capture_output=True,
        text=True,
        timeout=20,
    )
