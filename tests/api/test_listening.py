"""The socket: its mode from birth, stale ones replaced, living ones left alone."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from linkspan.api.listening import identify, open_listener, remove_own
from linkspan.api.readiness import notify
from linkspan.errors import Conflict, InvalidRequest


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int):
    path = tmp_path / "sock"
    before = os.umask(umask)
    try:
        listener = open_listener(str(path))
    finally:
        os.umask(before)
    with listener:
        assert mode_of(path) == 0o660


def test_the_socket_is_never_open_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "sock"
    seen: list[int] = []
    real = os.chmod
    monkeypatch.setattr(os, "chmod", lambda *a: (seen.append(mode_of(path)), real(*a)))
    before = os.umask(0)
    try:
        open_listener(str(path)).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_a_socket_that_nobody_answers_on_is_replaced(tmp_path: Path):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with open_listener(str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path):
    path = tmp_path / "sock"
    with open_listener(str(path)):
        with pytest.raises(Conflict, match="a daemon answers"):
            open_listener(str(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_is_never_replaced(tmp_path: Path):
    path = tmp_path / "precious"
    path.write_text("text")
    with pytest.raises(Conflict, match="is not a socket"):
        open_listener(str(path))
    assert path.read_text() == "text"


def test_a_path_that_does_not_fit_is_refused(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="longer than 107 bytes"):
        open_listener(str(tmp_path / ("x" * 108)))


def test_only_our_own_socket_is_removed(tmp_path: Path):
    path = tmp_path / "sock"
    first = open_listener(str(path))
    identity = identify(str(path))
    path.unlink()
    second = open_listener(str(path))
    remove_own(first, str(path), identity)
    assert path.exists()
    remove_own(second, str(path), identify(str(path)))
    assert not path.exists()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool):
    name = f"@linkspan-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        sent: list[bool] = []
        thread = threading.Thread(
            target=lambda: sent.append(notify("READY=1", {"NOTIFY_SOCKET": name}))
        )
        thread.start()
        assert manager.recv(100) == b"READY=1"
        thread.join()
    assert sent == [True]


def test_without_a_service_manager_nobody_is_told(tmp_path: Path):
    assert notify("READY=1", {}) is False
    assert notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")}) is False
