"""A world: made in the kernel, observed, asked, compared."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from linkspan.analysis import Answer, Flow, Verdict, View, trace_flow
from linkspan.dataplane import Add, DataPlane, Listener, Object, Sysctl, diff
from linkspan.kernel import namespaces
from linkspan.kernel.apply import Kernel
from linkspan.kernel.observe import observe
from linkspan.kernel.sysctl import write as write_sysctl
from walks.probes import Probe, Servers, ask, ask_all
from walks.rulesets import PORTS, make_rulesets
from walks.topology import HOST, Topology, make_topology

SHORT, LONG = 0.35, 2.5
PARTS = ("links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctls", "firewall")


@dataclass(frozen=True)
class Difference:
    """A flow for which the walk said something else than the kernel did."""

    probe: Probe
    seen: str
    answer: Answer

    def __str__(self) -> str:
        lines = [f"{self.probe}", f"  kernel: {self.seen}", f"  walk: {self.answer.verdict}"]
        for trace in self.answer.traces[:4]:
            for word, leg in zip(("there", "back", "then"), trace.legs, strict=False):
                lines.append(f"  {word}: {leg.disposition} {leg.reason} {leg.assumed}")
                lines += [f"      {hop.namespace}: {hop.line}" for hop in leg.hops]
        return "\n".join(lines)


@dataclass
class World:
    """What was wished for: topology, firewalls and sockets."""

    topology: Topology
    firewall: list[Object]
    listeners: list[Listener]

    def objects(self) -> list[Object]:
        return [*self.topology.objects, *self.firewall]


def make_world(seed: int) -> World:
    rng = random.Random(seed)
    topology = make_topology(rng, 6 if rng.random() < 0.3 else 4)
    firewall = make_rulesets(rng, topology)
    anything = "0.0.0.0" if topology.version == 4 else "::"
    listeners = []
    for name in topology.namespaces:
        for port in rng.sample(PORTS, 3):
            for protocol in ("tcp", "udp"):
                address = anything
                if rng.random() < 0.25:
                    address = rng.choice(topology.own(name))
                listeners.append(
                    Listener(namespace=name, protocol=protocol, address=address, port=port)
                )
    return World(topology, firewall, listeners)


def make_flows(seed: int, world: World, count: int) -> list[tuple[str, Flow]]:
    rng = random.Random(seed + 1)
    found = []
    for number in range(count):
        source = rng.choice(world.topology.namespaces)
        targets = world.topology.everything()
        if rng.random() < 0.1:
            targets = [net.partition("/")[0][:-1] + "77" for net in world.topology.subnets]
            if world.topology.version == 6:
                targets = [net.partition("/")[0] + "77" for net in world.topology.subnets]
        found.append(
            (
                source,
                Flow(
                    destination=rng.choice(targets), destination_port=rng.choice(PORTS),
                    protocol=rng.choice(("tcp", "tcp", "udp")), source_port=20000 + number,
                ),
            )
        )  # fmt: skip
    return found


class Made:
    """A world that is in the kernel now."""

    def __init__(self, world: World, kernel: Kernel, servers: Servers, paths: dict[str, str | None],
                 own_path: str) -> None:  # fmt: skip
        self.world = world
        self.paths = paths
        self.own_path = own_path
        self.servers = servers

    def path(self, namespace: str) -> str:
        return self.paths[namespace] or self.own_path

    def observed(self) -> View:
        seen = observe(self.paths, PARTS)
        return View(DataPlane([*seen, *self.world.listeners]), sockets_known=True)


@contextmanager
def in_kernel(world: World, own_path: str) -> Iterator[Made]:
    """Make a world; the calling thread must be in an empty namespace, whose file is given."""
    run_dir = tempfile.mkdtemp(prefix="lst-walk-")
    kernel = Kernel(run_dir)
    servers = Servers()
    paths: dict[str, str | None] = {HOST: None}
    try:
        names = [name for name in world.topology.namespaces if name != HOST]
        made = DataPlane(o for o in world.topology.objects if o.order == 0)
        kernel.apply(diff(DataPlane(), made))
        for name in names:
            paths[name] = os.path.join(run_dir, "netns", name)
        for name in world.topology.namespaces:
            with namespaces.opened(paths[name] or own_path) as descriptor:
                write_sysctl("ipv6/conf/default/accept_dad", "0", descriptor)
        # Settings of all links, such as forwarding, come before and after there are links.
        settings = [o for o in world.topology.objects if isinstance(o, Sysctl)]
        kernel.apply(tuple(Add(o) for o in settings if "/all/" in o.path or "call" in o.path))
        rest = [o for o in world.objects() if o.order != 0]
        kernel.apply(diff(made, DataPlane([*made, *rest])))
        for one in world.listeners:
            servers.listen(paths[one.namespace] or own_path, one.protocol, one.address, one.port)
        yield Made(world, kernel, servers, paths, own_path)
    finally:
        servers.close()
        kernel.close()
        for name in namespaces.held_in(os.path.join(run_dir, "netns")):
            namespaces.delete(os.path.join(run_dir, "netns", name))
        os.rmdir(os.path.join(run_dir, "netns"))
        os.rmdir(run_dir)


def compare(made: Made, flows: list[tuple[str, Flow]]) -> tuple[int, list[Difference]]:
    """Ask for every flow and compare; the number of flows whose answer was certain."""
    view = made.observed()
    probes = [
        Probe(name, made.path(name), flow.destination, flow.destination_port, flow.protocol,
              flow.source_port)
        for name, flow in flows
    ]  # fmt: skip
    answers = [trace_flow(view, name, flow) for name, flow in flows]
    seen = ask_all(probes, SHORT)
    said = sum(answer.verdict is not Verdict.CANNOT_SAY for answer in answers)
    odd = [
        flow
        for flow, answer, result in zip(flows, answers, seen, strict=True)
        if not agrees(answer, result)
    ]
    return said, [found for one in odd if (found := look_again(made, *one)) is not None]


def look_again(made: Made, name: str, flow: Flow) -> Difference | None:
    """A flow that differed, with more time and what is observed now: flows teach hosts MACs.

    What waits for an answer that another flow asked for is let go of first: the question had
    that flow's source, which may be one that nobody answers (arp_ignore).
    """
    for one in made.paths:
        words = "ip neighbour flush nud incomplete nud failed"
        subprocess.run(["nsenter", f"--net={made.path(one)}", *words.split()], check=False)
    answer = trace_flow(made.observed(), name, flow)
    probe = Probe(name, made.path(name), flow.destination, flow.destination_port, flow.protocol,
                  flow.source_port)  # fmt: skip
    seen = ask(probe, LONG)
    return None if agrees(answer, seen) else Difference(probe, seen, answer)


def agrees(answer: Answer, seen: str) -> bool:
    """Whether what was seen is among what the walk holds possible."""
    return (seen == "ok") in {trace.good for trace in answer.traces}
