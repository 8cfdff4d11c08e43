"""The control socket when the other end says nothing."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkspan.names import control
from linkspan.names.connection import Connection, Lost

PATIENCE = 0.2
MUTE = """
import socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[2])
listening.listen()
print("listens", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A names process, to judge by its arguments, that accepts nothing and says nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", MUTE, control.MODULE, str(tmp_path / "sock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        yield process
        process.kill()


def ask(path: Path) -> None:
    async def connect() -> None:
        connection = await Connection.open(str(path))
        try:
            await connection.request(control.Hello(), PATIENCE)
        finally:
            assert connection.lost
            await connection.close()

    asyncio.run(asyncio.wait_for(connect(), 10))


def test_a_process_that_hangs_is_killed(mute: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(Lost, match=r"did not reply within 0\.2 s"):
        ask(tmp_path / "sock")
    assert mute.wait(5) == -9


def test_somebody_else_at_the_socket_is_let_live(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:  # it is this process that listens
        listening.bind(str(tmp_path / "sock"))
        listening.listen()
        with pytest.raises(Lost, match="did not reply"):
            ask(tmp_path / "sock")
