"""Making a world smaller for as long as one flow still differs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from linkspan.analysis import Flow
from linkspan.dataplane import Element, FdbEntry, Neighbour, Object, Route, Rule, Sysctl, Table
from linkspan.dataplane.ruletext import ruleset_text
from walks.probes import Probe
from walks.worlds import World, in_kernel, look_again

PATIENCE = 60.0
"""Seconds that shrinking may take."""


def shrink(world: World, probe: Probe, own_path: str) -> str:
    """What is left of a world's rules and settings, as text. The calling thread must be in the
    namespace of `own_path`, which is empty again.
    """
    flow = Flow(
        destination=probe.address, destination_port=probe.port, protocol=probe.protocol,
        source_port=probe.source_port,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    found = True
    while found and time.monotonic() < deadline:
        found = False
        for smaller in _smaller(world):
            if time.monotonic() > deadline:
                break
            if _differs(smaller, probe.namespace, flow, own_path):
                world, found = smaller, True
                break
    return describe(world)


def describe(world: World) -> str:
    """The firewall as text, and every setting and policy rule."""
    kept = (Sysctl, Rule, FdbEntry, Neighbour)
    lines = [repr(o) for o in world.topology.objects if isinstance(o, kept)]
    elements = [item for item in world.firewall if isinstance(item, Element)]
    for item in world.firewall:
        if isinstance(item, Table):
            own = [one for one in elements if one.namespace == item.namespace]
            lines.append(f"# {item.namespace}\n{ruleset_text(item, own)}")
    lines += [f"# {saved.namespace}: {saved.program}\n{saved.text}" for saved in world.saved]
    return "\n".join(lines)


def _differs(world: World, namespace: str, flow: Flow, own_path: str) -> bool:
    try:
        with in_kernel(world, own_path) as made:
            return look_again(made, namespace, flow) is not None
    except Exception:  # what cannot be made is no smaller example
        return False


def _smaller(world: World) -> Iterator[World]:
    """Worlds with one table, chain, rule or setting less; jumps keep their targets."""
    tables = [item for item in world.firewall if isinstance(item, Table)]
    for table in tables:
        gone = [
            item
            for item in world.firewall
            if (item.namespace, getattr(item, "family", None), getattr(item, "table", None))
            == (table.namespace, table.family, table.name)
            or item is table
        ]
        yield _with(world, [item for item in world.firewall if item not in gone])
    for table in tables:
        for chain in table.chains:
            for place in range(len(chain.rules)):
                rules = chain.rules[:place] + chain.rules[place + 1 :]
                changed = msgspec.structs.replace(chain, rules=rules)
                chains = tuple(changed if one is chain else one for one in table.chains)
                yield _replaced(world, table, msgspec.structs.replace(table, chains=chains))
    for place, saved in enumerate(world.saved):
        others = [*world.saved[:place], *world.saved[place + 1 :]]
        yield replace(world, saved=others)
        for number in range(len(saved.rules)):
            yield replace(world, saved=[*others, saved.without(number)])
    for item in world.topology.objects:
        if isinstance(item, (Sysctl, Rule, FdbEntry, Neighbour, Route)):
            objects: list[Object] = [one for one in world.topology.objects if one is not item]
            yield replace(world, topology=replace(world.topology, objects=objects))


def _with(world: World, firewall: list[Object]) -> World:
    return replace(world, firewall=firewall)


def _replaced(world: World, old: Table, new: Table) -> World:
    return _with(world, [new if item is old else item for item in world.firewall])
