"""To a neighbour on the wire: a container on macvlan, one on a bridge, and the host itself."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.measure import Goal, Measured, Row, Size, Subject, Timed, alternate, as_long, faster
from benchmarks.stage import OurHost
from lab import Lab, Place, open_socket

NEIGHBOUR = "192.0.2.20"
RANGE = {"subnet": "192.0.2.0/24", "gateway": NEIGHBOUR, "ip_range": "192.0.2.64/26"}
PIECE = 1 << 20
SINK, ECHO = 5001, 5002


def run(lab: Lab, size: Size) -> Subject:
    """One TCP stream, and one byte to and fro, from each of the three places."""
    host = OurHost(lab, "wire")
    network = {
        "name": "lan",
        "driver": "macvlan",
        "options": {"parent": "uplink"},
        "subnets": [RANGE],
    }
    host.daemon.post("/v1/networks", network)
    direct = host.daemon.post("/v1/sandboxes", {"name": "direct", "networks": ["lan"]})
    bridged = host.attach("bridged")
    places: dict[str, Place] = {
        "macvlan": direct["netns"],
        "bridge": bridged["netns"],
        "host": host.place,
    }
    serve(host.outside, SINK, swallow)
    serve(host.outside, ECHO, echo)
    count = size.choose(256, 32) * PIECE
    rounds = size.choose(15, 3)
    streams = alternate({name: sender(place, count) for name, place in places.items()}, rounds)
    trips = size.choose(3000, 300)
    pings = {name: round_trips(place) for name, place in places.items()}
    alternate(pings, trips // 10)
    waits = alternate(pings, trips)
    return Subject(rows=tuple(rows(count, streams, waits)), notes=tuple(rates(count, streams)))


def rows(
    count: int, streams: dict[str, list[float]], waits: dict[str, list[float]]
) -> Sequence[Row]:
    """A macvlan beside the host itself, and beside a bridge."""
    names = {"macvlan": "linkspan, macvlan", "bridge": "linkspan, bridge", "host": "the host"}
    stream = {key: Measured.of(names[key], found) for key, found in streams.items()}
    wait = {key: Measured.of(names[key], found, "us") for key, found in waits.items()}
    amount = f"send {count >> 20} MiB to a neighbour"
    trip = "one byte to a neighbour and back"
    near = Goal(at_least=1.3, aim=1.1)
    ahead = Goal(at_least=1.0, aim=1.1, higher_is_better=True)
    return (
        as_long(f"{amount}, beside the host", stream["macvlan"], stream["host"], near),
        faster(f"{amount}, beside a bridge", stream["macvlan"], stream["bridge"], ahead),
        as_long(f"{trip}, beside the host", wait["macvlan"], wait["host"], near),
        faster(f"{trip}, beside a bridge", wait["macvlan"], wait["bridge"], ahead),
    )


def rates(count: int, streams: dict[str, list[float]]) -> Sequence[str]:
    """The medians as rates."""
    found = []
    for name, samples in streams.items():
        middle = sorted(samples)[len(samples) // 2]
        found.append(f"{name} {count * 8 / middle / 1e9:.1f} Gbit/s")
    return (f"One TCP stream to a neighbour, sender and receiver here: {', '.join(found)}.",)


def sender(place: Place, count: int) -> Timed:
    """Sends `count` bytes and waits until the neighbour has read them all."""
    piece = bytes(PIECE)

    def once(_: int) -> float:
        with open_socket(place, socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.connect((NEIGHBOUR, SINK))
            start = time.perf_counter()
            for _piece in range(count // PIECE):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)
            return time.perf_counter() - start

    return once


def round_trips(place: Place) -> Timed:
    """One byte to the neighbour and back, on a connection that stays."""
    client = open_socket(place, socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(10)
    client.connect((NEIGHBOUR, ECHO))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def once(_: int) -> float:
        start = time.perf_counter()
        client.send(b"x")
        client.recv(1)
        return time.perf_counter() - start

    return once


def serve(place: Place, port: int, handle: Callable[[socket.socket], None]) -> None:
    """Answer connections in a thread each, until this process ends."""
    listener = open_socket(place, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def swallow(connection: socket.socket) -> None:
    """Read until the other end is done, then say so."""
    room = bytearray(PIECE)
    with connection:
        while connection.recv_into(room):
            pass
        connection.send(b"!")


def echo(connection: socket.socket) -> None:
    """Send back what comes."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while data := connection.recv(64):
            connection.send(data)
