"""The real server on a real socket: streams, clients that leave, the end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.served import Served, serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path / "sock") as one:
        yield one


def send(served: Served, text: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(served.path)
    connection.sendall(text.replace("\n", "\r\n").encode() + b"\r\n")
    return connection


def read_all(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


GET = "GET {} HTTP/1.1\nHost: localhost\nConnection: close\n"


def test_an_answer_is_json_and_says_nothing_of_the_server(served: Served):
    head, _, body = read_all(send(served, GET.format("/v1/health"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"server:" not in head.lower()
    assert json.loads(body) == {"status": "ok"}


def test_a_follower_that_leaves_is_forgotten(served: Served):
    followers = [send(served, GET.format("/v1/events")) for _ in range(3)]
    wait_for(lambda: len(served.engine.events._readers) == 3)
    for follower in followers:
        follower.close()
    wait_for(lambda: not served.engine.events._readers)


def test_the_head_of_a_stream_has_no_body_and_ends(served: Served):
    asked = GET.format("/v1/events").replace("GET", "HEAD")
    answer = read_all(send(served, asked))
    assert answer.startswith(b"HTTP/1.1 204")
    assert answer.endswith(b"\r\n\r\n")
    assert not served.engine.events._readers


def test_a_body_that_is_cut_off_changes_nothing(served: Served):
    cut = "POST /v1/networks HTTP/1.1\nHost: localhost\nContent-Length: 100\n\n"
    connection = send(served, cut)
    connection.sendall(b'{"name": "web"}')
    connection.close()
    assert json.loads(read_all(send(served, GET.format("/v1/health"))).partition(b"\r\n\r\n")[2])
    assert len(served.engine.networks()) == 3


def test_the_end_closes_whoever_follows(served: Served):
    follower = send(served, GET.format("/v1/events"))
    wait_for(lambda: bool(served.engine.events._readers))
    began = time.monotonic()
    served.end()
    answer = read_all(follower)
    assert time.monotonic() - began < 1
    assert answer.endswith(b"0\r\n\r\n")  # the last chunk: an end, not a broken connection
