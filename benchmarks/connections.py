"""New TCP connections to a published port, beside many other published ports."""

from __future__ import annotations

import socket
import struct
import time

from benchmarks import cni
from benchmarks.measure import Goal, Measured, Row, Size, Subject, Timed, alternate, as_long
from benchmarks.stage import ADDRESS, Host, OurHost, cni_host
from lab import Lab, open_socket

PORT = 39999
_RESET = struct.pack("ii", 1, 0)


def run(lab: Lab, size: Size) -> Subject:
    """The last of 10,000 published ports against the only one; CNI's portmap beside."""
    ports, portmap_ports = 10_000, size.choose(1000, 50)
    rounds = size.choose(3000, 300)
    first = PORT - ports + 1
    alone, crowded = OurHost(lab, "alone"), OurHost(lab, "crowded")
    small = alone.attach("box", [f"{PORT}:80"])
    # Shifted, so that each port is an element of its own.
    large = crowded.attach("box", [f"{first}-{PORT}:{first - 20000}-{PORT - 20000}"])
    lab.listener_tcp(small["netns"], "0.0.0.0", 80)
    lab.listener_tcp(large["netns"], "0.0.0.0", PORT - 20000)
    notes: tuple[str, ...] = ()
    contenders = {"only": connector(alone), "last": connector(crowded)}
    if cni.is_there():
        only = add_portmap(lab, "cni-alone", 1)
        start = time.monotonic()
        last = add_portmap(lab, "cni-crowded", portmap_ports)
        notes = (
            f"CNI's portmap has no ranges: to publish {portmap_ports:,} ports took it "
            f"{time.monotonic() - start:.1f} s.",
        )
        contenders |= {"cni only": only, "cni last": last}
    alternate(contenders, rounds // 10)
    samples = alternate(contenders, rounds)

    def measured(name: str, key: str) -> Measured:
        return Measured.of(name, samples[key], "us")

    rows: list[Row] = [
        as_long(
            f"connect to the last of {ports:,} published ports",
            measured("linkspan, the last", "last"),
            measured("linkspan, the only one", "only"),
            Goal(at_least=1.1, aim=1.05),
        )
    ]
    if "cni only" in contenders:
        rows.append(
            as_long(
                f"the peer: connect to the last of {portmap_ports:,} published ports",
                measured("CNI portmap, the last", "cni last"),
                measured("CNI portmap, the only one", "cni only"),
            )
        )
    return Subject(rows=tuple(rows), notes=notes)


def add_portmap(lab: Lab, word: str, count: int) -> Timed:
    """Connects to PORT, the last of `count` ports that CNI's portmap publishes on a new host."""
    host, peer = cni_host(lab, word)
    peer.attach(0, [(PORT - count + 1 + n, 10000 + n) for n in range(count)])
    lab.listener_tcp(peer.path(0), "0.0.0.0", 10000 + count - 1)
    return connector(host)


def connector(host: Host) -> Timed:
    """Connects from outside and closes with a reset, so that no old connections pile up."""

    def once(_: int) -> float:
        with open_socket(host.outside, socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            start = time.perf_counter()
            client.connect((ADDRESS, PORT))
            taken = time.perf_counter() - start
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return taken

    return once
