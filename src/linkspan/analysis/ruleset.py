"""The firewall of one namespace in the order in which the kernel runs it.

Base chains of a hook run by priority, whichever table they are in; of two with one priority
the younger one is first (nf_hook_entries_grow). Chains that translate do not run at their own
place: all those of a hook share the place of translation, -100 for destinations and 100 for
sources, and the first one that translates ends it (nf_nat_core.c).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from linkspan.analysis.lookups import Sets
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.ruling import CompiledRule
from linkspan.analysis.sets import Collection, from_elements
from linkspan.analysis.shortcuts import LEAST, Block, divide, run_through
from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import Chain, Table

TRACK_PRIORITY = -200
_TRANSLATION = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
_STACKS = {
    "ip": ("ip",), "ip6": ("ip6",), "inet": ("ip", "ip6"), "bridge": ("bridge",),
    "arp": ("arp",), "netdev": ("netdev",),
}  # fmt: skip


class LoadedChain:
    """A chain with its rules compiled, and the chains that they can jump to."""

    __slots__ = ("_blocks", "_place", "chain", "family", "rules", "siblings", "table")

    def __init__(self, table: Table, chain: Chain, place: Place, sets: Sets) -> None:
        self.chain = chain
        self.family = table.family
        self.table = table.name
        owner = (table.family, table.name, chain.name)
        self.rules = [
            CompiledRule(rule, number, owner, place, sets)
            for number, rule in enumerate(chain.rules, 1)
        ]
        self.siblings: dict[str, LoadedChain] = {}
        self._place = place
        self._blocks: list[Block] | None = None

    def rules_for(self, packet: Packet) -> Iterable[CompiledRule]:
        """The rules that can decide something on a packet, in their order."""
        if len(self.rules) < LEAST:
            return self.rules
        if self._blocks is None:
            self._blocks = divide(self.rules, self._place)
        if len(self._blocks) == 1:
            return self._blocks[0].for_packet(packet)
        return run_through(self._blocks, packet)

    @property
    def object(self) -> str:
        """Where a person finds the chain."""
        return f"{self.family} {self.table} {self.chain.name}"


class HookEntry(NamedTuple):
    """One thing that a hook does: a chain, or what the kernel itself does there."""

    priority: int
    age: int
    kind: str
    """chain, track, translate"""
    chain: LoadedChain | None = None


class Ruleset:
    """All tables of a namespace, by the hooks at which they run."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._hooks: defaultdict[tuple[str, str], list[HookEntry]] = defaultdict(list)
        self._translations: defaultdict[tuple[str, str], list[HookEntry]] = defaultdict(list)
        self._chains: list[LoadedChain] = []
        age = 0
        for table in place.of(Table):
            if "dormant" in table.flags:
                continue
            sets = Sets(
                {definition.name: definition.key for definition in table.sets},
                lambda name, table=table: self._load_set(table, name),  # type: ignore[misc]
            )
            loaded = {chain.name: LoadedChain(table, chain, place, sets) for chain in table.chains}
            self._chains += loaded.values()
            for chain in loaded.values():
                chain.siblings = loaded
                age += 1
                self._hang(table, chain, age)
        for hooked in (*self._hooks.values(), *self._translations.values()):
            hooked.sort(key=_in_order)

    def _hang(self, table: Table, loaded: LoadedChain, age: int) -> None:
        chain = loaded.chain
        if chain.hook is None:
            return
        for stack in _STACKS.get(table.family, ()):
            if chain.hook in ("ingress", "egress"):
                stack = "netdev"
            held = self._translations if chain.type == "nat" else self._hooks
            held[stack, chain.hook].append(HookEntry(chain.priority, age, "chain", loaded))
            if stack == "netdev":
                return

    def _load_set(self, table: Table, name: str) -> Collection:
        definition = next(one for one in table.sets if one.name == name)
        return from_elements(
            definition.key, self._elements.get((table.family, table.name, name), ())
        )

    @cached_property
    def _elements(self) -> dict[tuple[str, str, str], list[Element]]:
        found: dict[tuple[str, str, str], list[Element]] = {}
        for element in self._place.of(Element):
            found.setdefault((element.family, element.table, element.set), []).append(element)
        return found

    def rules(self) -> Iterator[CompiledRule]:
        """All rules of all chains, also of those that no packet comes to."""
        for chain in self._chains:
            yield from chain.rules

    def hook(self, stack: str, name: str) -> tuple[HookEntry, ...]:
        """What runs at a hook of "ip", "ip6", "bridge", "arp" or "netdev", in order."""
        held = self._orders.get((stack, name))
        return self._order(stack, name) if held is None else held

    @cached_property
    def _orders(self) -> dict[tuple[str, str], tuple[HookEntry, ...]]:
        return {}

    def _order(self, stack: str, name: str) -> tuple[HookEntry, ...]:
        row = list(self._hooks.get((stack, name), ()))
        if stack in ("ip", "ip6"):
            if name in ("prerouting", "output"):
                row.append(HookEntry(TRACK_PRIORITY, 0, "track"))
            if name in _TRANSLATION and self.translates(stack):
                row.append(HookEntry(_TRANSLATION[name], 0, "translate"))
        row.sort(key=_in_order)
        self._orders[stack, name] = tuple(row)
        return self._orders[stack, name]

    def translates(self, stack: str) -> bool:
        """Whether any chain translates addresses; the kernel then looks at every packet."""
        return any(kind == stack for kind, _ in self._translations)

    def translations(self, stack: str, name: str) -> list[HookEntry]:
        """The chains that translate at a hook, in order."""
        return self._translations.get((stack, name), [])


def _in_order(one: HookEntry) -> tuple[int, int]:
    return one.priority, -one.age
