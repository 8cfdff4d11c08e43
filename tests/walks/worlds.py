"""A world: made in the kernel, observed, asked, compared."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from linkspan.analysis import Answer, Flow, Verdict, View, trace_flow
from linkspan.dataplane import (
    Add,
    DataPlane,
    Element,
    Listener,
    Object,
    Process,
    Sysctl,
    Table,
    diff,
)
from linkspan.dataplane.ruletext import ruleset_text
from linkspan.kernel import namespaces
from linkspan.kernel.apply import Kernel
from linkspan.kernel.observe import observe
from linkspan.kernel.sysctl import write as write_sysctl
from walks.iptablesrules import Saved, make_iptables
from walks.probes import Probe, Servers, ask, ask_all
from walks.rulesets import PORTS, make_rulesets
from walks.topology import HOST, Topology, make_topology
from walks.widelinks import widen
from walks.widerules import make_wide_rulesets

SHORT, LONG = 0.35, 2.5
WIDE = 1_000_000
"""Worlds of this seed and above have more in them; those below stay what they were."""
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
            words = ("there", "back", "then", "and back")
            for word, leg in zip(words, trace.legs, strict=False):
                lines.append(f"  {word}: {leg.disposition} {leg.reason} {leg.assumed}")
                lines += [f"      {hop.namespace}: {hop.line}" for hop in leg.hops]
            if trace.onward is not None:
                onward = str(Difference(self.probe, "?", trace.onward)).splitlines()
                lines += ["  onward", *(f"    {line}" for line in onward[2:])]
        return "\n".join(lines)


@dataclass
class World:
    """What was wished for: topology, firewalls and sockets."""

    topology: Topology
    firewall: list[Object]
    listeners: list[Listener]
    saved: list[Saved] = field(default_factory=list)
    wide: bool = False

    def objects(self) -> list[Object]:
        return [*self.topology.objects, *self.firewall]


def make_world(seed: int) -> World:
    rng = random.Random(seed)
    wide = seed >= WIDE
    topology = make_topology(rng, 6 if rng.random() < 0.3 else 4)
    if wide:
        widen(random.Random(f"links of {seed}"), topology)
    saved = make_iptables(random.Random(f"iptables of {seed}"), topology) if wide else []
    firewall = (make_wide_rulesets if wide else make_rulesets)(rng, topology)
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
    if wide:
        listeners = _vary(random.Random(f"sockets of {seed}"), topology, listeners)
    return World(topology, firewall, listeners, saved, wide)


def _vary(rng: random.Random, world: Topology, listeners: list[Listener]) -> list[Listener]:
    """Some sockets bound to a link, some for both IP versions, some that are relays."""
    found: list[Listener] = []
    for one in listeners:
        roll = rng.random()
        if roll < 0.1 and one.address in ("0.0.0.0", "::"):
            one = replace(one, link=rng.choice(world.links[one.namespace]))
        elif roll < 0.2 and world.version == 4 and one.address == "0.0.0.0":
            one = replace(one, address="::", dual_stack=True)
        elif roll < 0.27 and one.protocol == "tcp":
            target = rng.choice([a for a in world.everything() if a not in ("127.0.0.1", "::1")])
            words = ("docker-proxy", "-proto", one.protocol, "-container-ip", target,
                     "-container-port", str(rng.choice(PORTS)))  # fmt: skip
            one = replace(one, processes=(Process(1, "docker-proxy", words),))
        found.append(one)
    return found


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
        flow = Flow(
            destination=rng.choice(targets), destination_port=rng.choice(PORTS),
            protocol=rng.choice(("tcp", "tcp", "udp")), source_port=20000 + number,
        )  # fmt: skip
        if world.wide and number % 7 == 0:
            flow = replace(flow, protocol="icmp", destination_port=0)
        found.append((source, flow))
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
                # A redirect changes the way of the packets after it: none are walked.
                for which in ("all", "default") if world.wide else ():
                    for family in ("ipv4", "ipv6"):
                        path = f"{family}/conf/{which}/accept_redirects"
                        write_sysctl(path, "0", descriptor)
        # Settings of all links, such as forwarding, come before and after there are links.
        settings = [o for o in world.topology.objects if isinstance(o, Sysctl)]
        kernel.apply(tuple(Add(o) for o in settings if "/all/" in o.path or "call" in o.path))
        rest = [o for o in world.objects() if o.order != 0]
        if world.wide:
            _load(world, {name: path or own_path for name, path in paths.items()}, tables=True)
            rest = [o for o in rest if not isinstance(o, (Table, Element))]
        # The bridge may have learned meanwhile what is written down here.
        kernel.apply(diff(made, DataPlane([*made, *rest])), repair=world.wide)
        if world.wide:
            _load(world, {name: path or own_path for name, path in paths.items()}, tables=False)
        for one in world.listeners:
            servers.listen(paths[one.namespace] or own_path, one)
        yield Made(world, kernel, servers, paths, own_path)
    finally:
        servers.close()
        kernel.close()
        for name in namespaces.held_in(os.path.join(run_dir, "netns")):
            namespaces.delete(os.path.join(run_dir, "netns", name))
        os.rmdir(os.path.join(run_dir, "netns"))
        os.rmdir(run_dir)


def _load(world: World, paths: dict[str, str], tables: bool) -> None:
    """Load rulesets by the programs that people use: those of devices after their links."""
    for name, path in paths.items():
        enter = ["nsenter", f"--net={path}"]
        elements = [o for o in world.firewall if isinstance(o, Element) and o.namespace == name]
        text = "".join(
            ruleset_text(table, elements)
            for table in world.firewall
            if isinstance(table, Table) and table.namespace == name
            and (table.family == "netdev") != tables
        )  # fmt: skip
        if text:
            _run([*enter, "nft", "-f", "-"], text)
        if tables:
            _run([*enter, "sysctl", "-qw", "net.ipv4.ping_group_range=0 0"])
        for saved in world.saved if not tables else ():
            if saved.namespace == name:
                _run([*enter, saved.program, *(["-w"] if saved.variant == "legacy" else [])],
                     saved.text)  # fmt: skip


def _run(words: list[str], text: str = "") -> None:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}\n{text}")


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
    # Another source port: the first try has left connections behind.
    flow = replace(flow, source_port=flow.source_port + 10000)
    answer = trace_flow(made.observed(), name, flow)
    probe = Probe(name, made.path(name), flow.destination, flow.destination_port, flow.protocol,
                  flow.source_port)  # fmt: skip
    seen = ask(probe, LONG)
    return None if agrees(answer, seen) else Difference(probe, seen, answer)


def agrees(answer: Answer, seen: str) -> bool:
    """Whether what was seen is among what the walk holds possible."""
    if not answer.complete or any(trace.unknown for trace in answer.traces):
        return True
    return (seen == "ok") in {trace.good for trace in answer.traces}
