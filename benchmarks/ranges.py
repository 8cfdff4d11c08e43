"""Publishing many ports of one container: what the ports cost on top of the attach.

The API publishes ports when it makes a sandbox, so the cost is the difference between an
attach with the ports and the attaches without that ran beside it.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.floor import FloorHost
from benchmarks.measure import (
    Goal,
    Measured,
    Row,
    Size,
    Subject,
    Timed,
    absolute,
    alternate,
    timed,
)
from benchmarks.places import Resident, run_program
from benchmarks.stage import (
    QUIET,
    OurHost,
    floor_host,
    prepare_attach,
    prepare_detach,
)
from lab import Lab
from linkspan.drivers.records import PublishedPort

SAME_1K = PublishedPort(host_port=20000, host_port_end=20999, port=20000)
SAME_10K = PublishedPort(host_port=20000, host_port_end=29999, port=20000)
SHIFTED_10K = PublishedPort(host_port=20000, host_port_end=29999, port=40000)
ADDRESS = "10.20.200.1"


def run(lab: Lab, size: Size) -> Subject:
    """Ranges of 1,000 and 10,000 ports, the same inside and shifted; the nft program beside."""
    rounds = size.choose(20, 5)
    ours = OurHost(lab)
    host, floor = floor_host(lab)
    jobs = {
        "1,000 ports, same numbers": (SAME_1K, Goal(at_least=10, aim=3)),
        "10,000 ports, same numbers": (SAME_10K, Goal(at_least=10, aim=3)),
        "10,000 ports, shifted": (SHIFTED_10K, Goal(at_least=300, aim=150)),
    }
    without = attacher(ours, ())
    rows: list[Row] = []
    floors: list[str] = []
    plain: list[float] = []
    for job, (port, goal) in jobs.items():
        words = f"{port.host_port}-{port.host_port_end}:{port.port}-{port.port_end}"
        contenders: dict[str, Timed] = {
            "without": without,
            "with": attacher(ours, (words,)),
            "nft": nft_runner(host.resident, host.folder(job), port),
            "floor": element_sender(floor, port),
        }
        alternate(contenders, 2)
        samples = alternate(contenders, rounds)
        plain += samples["without"]
        base = statistics.median(samples["without"])
        mine = Measured.of("linkspan", [taken - base for taken in samples["with"]])
        theirs = Measured.of("`nft`, the whole program", samples["nft"])
        rows.append(absolute(f"publish {job}", mine, goal, theirs))
        floors.append(f"{job} {Measured.of('floor', samples['floor']).median:.1f} ms")
    notes = (
        f"Publishing is the attach with the ports less the median of the attaches without, "
        f"{Measured.of('without', plain).median:.1f} ms.",
        f"The kernel's share of publishing, by prepared bytes: {', '.join(floors)}.",
    )
    return Subject(rows=tuple(rows), notes=notes)


def attacher(ours: OurHost, ports: tuple[str, ...]) -> Timed:
    """Attaches a sandbox with these ports, and detaches it off the clock."""
    attach, detach = prepare_attach("box", ports), prepare_detach("box")

    def once(_: int) -> float:
        taken = timed(lambda: ours.client.ask(attach))
        ours.client.ask(detach)
        time.sleep(QUIET)
        return taken

    return once


def nft_runner(resident: Resident, path: Path, port: PublishedPort) -> Timed:
    """Adds the same elements with the nft program, and takes them away off the clock."""
    name, elements = elements_in_words(port)
    path.mkdir()
    add, delete = path / "add.nft", path / "delete.nft"
    add.write_text(f"add element inet linkspan {name} {{ {elements} }}\n")
    delete.write_text(f"flush map inet linkspan {name}\n")

    def once(_: int) -> float:
        taken = timed(lambda: resident.do(lambda: run_program(["nft", "-f", str(add)])))
        resident.do(lambda: run_program(["nft", "-f", str(delete)]))
        return taken

    return once


def elements_in_words(port: PublishedPort) -> tuple[str, str]:
    """The map and the elements that publish a port, in nft's words."""
    if port.host_port == port.port:
        return "ranges", f"tcp . {port.host_port}-{port.host_port_end} : {ADDRESS}"
    count = port.host_port_end - port.host_port + 1
    each = (f"tcp . {port.host_port + n} : {ADDRESS} . {port.port + n}" for n in range(count))
    return "ports", ", ".join(each)


def element_sender(floor: FloorHost, port: PublishedPort) -> Timed:
    """Adds the same elements by prepared bytes, and takes them away off the clock."""
    add, delete = floor.prepare_ports(port, ADDRESS)

    def once(_: int) -> float:
        taken = floor.set_elements(add)
        floor.set_elements(delete)
        return taken

    return once
